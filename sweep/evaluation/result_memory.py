"""Memory of results: computed into again and again, or handed over to the user.

On a processor the kernel writes into memory of JAX, which NumPy reads without a copy. Fresh memory
costs as much time as computing the values, so runs of many shards use theirs again.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

Array = np.ndarray[Any, Any]
T = TypeVar("T", jax.Array, np.ndarray[Any, Any])


class ResultMemory:
    """Arrays of the last result, which the next one may overwrite.

    Pass it to a computation only when nobody needs the last result any more. An array of JAX that
    somebody still reads is not overwritten: JAX then takes fresh memory.
    """

    def __init__(self) -> None:
        """Start without arrays."""
        self._arrays: dict[str, jax.Array | Array] = {}

    def take(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], kind: type[T]
    ) -> T | None:
        """Hand over an array if it is of this kind, shape and type."""
        found = self._arrays.pop(name, None)
        if isinstance(found, kind) and (found.shape, found.dtype) == (shape, dtype):
            return found
        return None

    def keep(self, arrays: Mapping[str, jax.Array | Array]) -> None:
        """Keep the arrays of a result for the next one."""
        self._arrays = dict(arrays)


class _Handover:
    """An array of JAX that nobody else refers to, as memory for NumPy to read and write."""

    def __init__(self, array: jax.Array) -> None:
        """Keep NumPy's view, which is read-only and keeps the memory alive."""
        self.view = np.asarray(array)
        interface = self.view.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def handed_over(results: dict[str, jax.Array]) -> dict[str, Array]:
    """Results as NumPy arrays that may be edited, without a copy.

    JAX takes its arrays for immutable, so `results` is emptied: nobody can read an edited array
    through JAX.
    """
    return {name: np.asarray(_Handover(results.pop(name))) for name in list(results)}
