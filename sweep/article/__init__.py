"""Figures and table of the article that motivated this project."""
