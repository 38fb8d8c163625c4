"""The figures and the table of the article that this project starts from."""
