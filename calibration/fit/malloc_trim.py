"""Memory that was freed, returned to the system."""

import ctypes
import sys


def return_free_memory() -> None:
    """Return freed memory to the system, which the C library would keep for later.

    Compiling kernels takes as much memory as all the rest of a fit.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    trim = getattr(library, "malloc_trim", None)
    if trim is not None:
        trim(0)
