"""Specifications that config files contain, and the catalog that finds them by name."""
