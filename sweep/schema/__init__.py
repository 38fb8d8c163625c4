"""The vocabulary of results: axes, terms, output variables, and which have intervals."""
