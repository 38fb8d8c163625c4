"""Rounding of stored quantities to significant digits, and the CF attributes that record it."""

from math import ceil, log2
from typing import Any

import numpy as np
import xarray as xr

from sweep.schema.variables import VARIABLES

CONTAINER = "quantization_info"
"""Variable of a file that names the algorithm, as in CF-1.12, section 8.4."""
ALGORITHM = "bitround"


def kept_bits(digits: int, dtype: np.dtype[Any]) -> int | None:
    """Bits of the mantissa needed for `digits` significant decimal digits; `None` for all bits.

    Rounding to n bits changes a value by at most 2^-(n+1) of it, and half a unit in the last of d
    digits is at least 10^-d / 2 of it: n = d log2(10) is enough.
    """
    if dtype.kind != "f":
        return None
    bits = ceil(digits * log2(10))
    return bits if bits < np.finfo(dtype).nmant else None


def bits_of(array: xr.DataArray, digits: int | None) -> int | None:
    """Bits of the mantissa that a variable keeps; `None` if it is a category or is not rounded."""
    is_flag = array.name in VARIABLES and VARIABLES[str(array.name)].is_flag
    stored = np.dtype(array.encoding.get("dtype", array.dtype))
    return None if digits is None or is_flag else kept_bits(digits, stored)


def rounding_attributes(bits: int | None) -> dict[str, Any]:
    """Attributes of a variable that record its rounding."""
    if bits is None:
        return {}
    return {"quantization": CONTAINER, "quantization_nsb": np.int32(bits)}
