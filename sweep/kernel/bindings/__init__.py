"""Bindings: each operator at the sizes of a block, with the weights it stores."""
