"""One module per family of models that a published config can name."""
