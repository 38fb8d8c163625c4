"""Compare, explain, recommend."""
