"""Compare accelerators, explain a cell, recommend a deployment."""
