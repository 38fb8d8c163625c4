"""What a config file may say, and where its name is looked up."""
