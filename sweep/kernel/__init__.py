"""The price of one request on one machine: pure JAX, no file access."""
