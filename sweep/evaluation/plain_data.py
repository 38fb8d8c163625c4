"""Values as JSON and back: numbers, names, arrays and lists, so that reading one runs no code."""

import base64
import json
from enum import Enum
from typing import Any

import jax
import numpy as np

NAMED = {
    kind.__name__: kind
    for kind in (
        jax.lax.GatherDimensionNumbers,
        jax.lax.ScatterDimensionNumbers,
        jax.lax.GatherScatterMode,
        jax.lax.RoundingMethod,
    )
}
"""Parameters of JAX's operations that have a type of their own, by its name."""


def to_json(value: Any) -> str:
    """A value as JSON.

    Args:
        value: Numbers, texts, types and arrays of NumPy, and `NAMED`, in tuples and dictionaries.
            Integers of NumPy become those of Python.

    Raises:
        TypeError: It contains something else.
    """
    return json.dumps(_written(value))


def from_json(text: str | bytes) -> Any:
    """The value that `to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It is the text of none.
    """
    return _read(json.loads(text))


def _written(value: Any) -> Any:
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, np.integer):
        return int(value)
    if type(value).__name__ in NAMED:
        parts = value.name if isinstance(value, Enum) else _written(tuple(value))
        return {"named": type(value).__name__, "parts": parts}
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _written(each) for key, each in value.items()}}
    dtype = getattr(value, "dtype", value)
    if not isinstance(dtype, np.dtype) or np.dtype(dtype.str) != dtype:
        raise TypeError(f"{type(value)} is no plain data")
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, np.ndarray):
        data = base64.b64encode(value.tobytes()).decode()
        return {"array": data, "dtype": value.dtype.str, "shape": value.shape}
    raise TypeError(f"{type(value)} is no plain data")


def _read(found: Any) -> Any:
    if isinstance(found, list):
        return tuple(map(_read, found))
    if not isinstance(found, dict):
        return found
    if "dict" in found:
        return {key: _read(each) for key, each in found["dict"].items()}
    if "array" in found:
        data = np.frombuffer(base64.b64decode(found["array"]), found["dtype"])
        return data.reshape(found["shape"])
    if "named" in found:
        kind: Any = NAMED[found["named"]]
        parts = found["parts"]
        return kind[parts] if issubclass(kind, Enum) else kind(*_read(parts))
    return np.dtype(found["dtype"])
