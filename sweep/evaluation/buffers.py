"""Memory that JAX owns and NumPy sees, in pages as large as the system has.

On a processor a kernel writes only into memory of JAX's own, which comes in pages of 4 kB: to be
handed them takes the system ten times as long as a decode step takes to fill them. NumPy asks for
huge pages wherever it allocates much; here the same is asked for what JAX allocates.
"""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LEAST_BYTES = 2**22
"""Size from which huge pages pay, as in NumPy. [byte]"""
UNFILLED = "llm_sweep_unfilled"
"""Name of a function that leaves its result as the memory was found."""


def unfilled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> jax.Array:
    """An array of any values on the device that JAX computes on, for a kernel to write into.

    Zeros on an accelerator, and where the system has no huge pages or JAX no functions but its own.
    """
    if int(np.prod(shape)) * dtype.itemsize < LEAST_BYTES or not _can_be_unfilled():
        return jnp.zeros(shape, dtype)
    # Only waiting lets go of the interpreter, which the function needs: to ask for the address of
    # what is not there yet would keep it.
    array: jax.Array = jax.block_until_ready(_unfilled(shape, dtype)())
    _ask_for_huge_pages(array.unsafe_buffer_pointer(), array.nbytes)
    return array


class Shared:
    """An array of JAX's, for NumPy to read and write where it lies.

    Attributes:
        array: The array, whose memory stays as long as this does.
    """

    def __init__(self, array: jax.Array) -> None:
        """Wait until the array is there."""
        self.array = jax.block_until_ready(array)
        self.__array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.unsafe_buffer_pointer(), False),
            "version": 3,
        }


def shared(array: jax.Array) -> np.ndarray[Any, Any]:
    """The array as NumPy sees it, not copied; nobody else may hold it."""
    return np.asarray(Shared(array))


def owner(array: np.ndarray[Any, Any]) -> jax.Array | None:
    """The array of JAX's in whose memory another lies, if it does."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base.array if isinstance(base, Shared) else None


def give_back() -> None:
    """Let the system have what was freed, where the C library would keep it for later."""
    trim = getattr(_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _ask_for_huge_pages(address: int, size: int) -> None:
    """Advice only: whether it is taken changes nothing but the time."""
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (address + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
    library = _library()
    if library is None:
        return
    madvise = library.madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise(start, length, mmap.MADV_HUGEPAGE)


@cache
def _library() -> ctypes.CDLL | None:
    """The C library, where it is linked into the process as a whole."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None


@cache
def _unfilled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return jax.jit(jax.ffi.ffi_call(UNFILLED, jax.ShapeDtypeStruct(shape, dtype)))


@cache
def _can_be_unfilled() -> bool:
    """Register the function that leaves its result alone; false where that cannot be done.

    A processor's functions are registered once JAX has started it, since one that it refuses
    keeps it from starting.
    """
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return False
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.ffi.register_ffi_target(
            UNFILLED, jax.ffi.pycapsule(_leave_alone), platform="cpu", api_version=1
        )
    except (AttributeError, RuntimeError, ValueError):
        return False
    return True


# What of XLA's interface for foreign functions it takes to do nothing: JAX states the whole in
# `c_api.h` under `jax.ffi.include_dir()`, and refuses functions of versions it no longer serves.


class _Extension(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("kind", ctypes.c_int), ("next", ctypes.c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
    )


class _Metadata(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("version", _Version))


class _Question(ctypes.Structure):
    _fields_ = (("extension", _Extension), ("answer", ctypes.POINTER(_Metadata)))


class _Call(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("question", ctypes.POINTER(_Question)))


IS_A_QUESTION = 1
"""Kind of the extension by which XLA asks for a function's version, rather than to run it."""


def _answer(call: Any) -> None:
    """State version 0.1 of the interface if asked for it; do nothing otherwise."""
    question = call.contents.question
    if question and question.contents.extension.kind == IS_A_QUESTION:
        version = question.contents.answer.contents.version
        version.major, version.minor = 0, 1


_leave_alone = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Call))(_answer)
"""Kept as long as the module is: XLA calls it by its address."""
