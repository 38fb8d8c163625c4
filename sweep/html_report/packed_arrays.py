"""Pack arrays for a page: one compressed string of bytes, and a note of where each array is."""

import base64
import gzip
from collections.abc import Sequence
from typing import Any

import numpy as np

from sweep.files.rounding import kept_bits

DIGITS = 5
"""Significant decimal digits of a quantity on a page. [count]"""
ALIGNED = 4
"""Every array starts at a multiple of this, as the browser's typed arrays want it. [byte]"""
INTEGERS = ("int8", "int16", "int32")
"""Types that a page stores without rounding."""
Note = dict[str, Any]


class Bundle:
    """Arrays stored one after another, little-endian."""

    def __init__(self) -> None:
        """Start without arrays."""
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, values: Any, dims: Sequence[str]) -> Note:
        """Append an array; return a note of its offset and type for the page.

        Args:
            values: Rounded to `DIGITS`, unless they are of `INTEGERS`: categories or masks.
            dims: Name of each dimension.
        """
        array = np.asarray(values)
        stored = np.ascontiguousarray(array)
        if stored.dtype.name not in INTEGERS:
            stored = rounded(stored.astype(np.float32))
        raw = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        note = {
            "dims": list(dims),
            "shape": list(array.shape),
            "type": stored.dtype.name,
            "at": self._size,
        }
        padding = -len(raw) % ALIGNED
        self._parts += [raw, bytes(padding)]
        self._size += len(raw) + padding
        return note

    def raw(self) -> bytes:
        """All arrays."""
        return b"".join(self._parts)

    def text(self) -> str:
        """All arrays: gzip in base64."""
        return compressed(self.raw())


def compressed(data: bytes) -> str:
    """Bytes as gzip in base64; the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round float32 to `DIGITS` and set its last bits to 0, so that it compresses."""
    spare = np.finfo(np.float32).nmant - (kept_bits(DIGITS, values.dtype) or 23)
    bits = values.view(np.uint32)
    half = np.uint32((1 << spare) >> 1)
    there = np.isfinite(values)
    kept = ((bits + half) >> np.uint32(spare)) << np.uint32(spare)
    return np.where(there, kept, bits).astype(np.uint32).view(np.float32)
