"""Categories stored as integers with flag meanings."""

from typing import Any

import numpy as np
import xarray as xr


def fill_of(dtype: np.dtype[Any]) -> float | int:
    """Value of an array of this type where a value is missing: NaN, or the least integer."""
    return float("nan") if dtype.kind == "f" else int(np.iinfo(dtype).min)


def stored_integers(array: xr.DataArray) -> xr.DataArray:
    """Convert integers with missing values to CF: NaN in memory, a fill value in the file."""
    if array.dtype.kind != "i":
        return array
    wide = np.float32 if array.dtype.itemsize <= 2 else np.float64
    fill = fill_of(array.dtype)
    values = array.values.astype(wide)
    values[array.values == fill] = np.nan
    stored = array.copy(data=values)
    stored.encoding = {"dtype": array.dtype, "_FillValue": array.dtype.type(fill)}
    return stored


def labels(array: xr.DataArray) -> xr.DataArray:
    """The words of a variable with `flag_meanings`, such as `best_hardware`; empty for none.

    Args:
        array: A category of a result.
    """
    codes = np.atleast_1d(array.attrs["flag_values"]).tolist()
    words = dict(zip(codes, str(array.attrs["flag_meanings"]).split(), strict=True))
    flat = [words.get(code, "") for code in array.values.ravel().tolist()]
    named = np.asarray(flat, object).reshape(array.shape)
    return array.copy(data=named).drop_attrs().assign_attrs(long_name=array.attrs["long_name"])
