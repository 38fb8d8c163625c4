"""Binds the sizes of a block to the operators it runs, and tells the weights each keeps."""
