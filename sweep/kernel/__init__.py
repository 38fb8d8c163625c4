"""The price of one request on one machine: pure JAX, no files and no names."""
