"""Rounding of stored quantities to significant digits, and how CF tells of it."""

from math import ceil, log2
from typing import Any

import numpy as np
import xarray as xr

from sweep.schema.variables import VARIABLES

CONTAINER = "quantization_info"
"""Variable of a file that names the algorithm, as CF-1.12 section 8.4 has it."""
ALGORITHM = "bitround"


def kept_bits(digits: int, dtype: np.dtype[Any]) -> int | None:
    """Bits of the mantissa that hold `digits` significant decimal digits; `None` if it has no more.

    Rounding to n bits is off by at most 2^-(n+1) of a value, half a unit in the last of d digits
    is at least 10^-d / 2 of it: n = d log2(10) is enough.
    """
    if dtype.kind != "f":
        return None
    bits = ceil(digits * log2(10))
    return bits if bits < np.finfo(dtype).nmant else None


def bits_of(array: xr.DataArray, digits: int | None) -> int | None:
    """Bits that are kept of a variable; `None` where it is a category or stays exact."""
    is_flag = array.name in VARIABLES and VARIABLES[str(array.name)].is_flag
    stored = np.dtype(array.encoding.get("dtype", array.dtype))
    return None if digits is None or is_flag else kept_bits(digits, stored)


def rounding_attributes(bits: int | None) -> dict[str, Any]:
    """What a rounded variable says of itself."""
    if bits is None:
        return {}
    return {"quantization": CONTAINER, "quantization_nsb": np.int32(bits)}
