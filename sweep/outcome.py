"""How reduced results are told: places as variables, integers that may be missing, comments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.assembly import fill_of
from sweep.space import Places, Space
from sweep.variables import AXIS_LONG_NAMES, LABELLED


def told(array: xr.DataArray, comment: str) -> xr.DataArray:
    """The same array, its comment extended."""
    before = str(array.attrs.get("comment", ""))
    return array.assign_attrs(comment=f"{before} {comment}".strip())


def stored_integers(array: xr.DataArray) -> xr.DataArray:
    """Integers as CF keeps them where some are missing: NaN in memory, a fill value in a file."""
    if array.dtype.kind != "i":
        return array
    wide = np.float32 if array.dtype.itemsize <= 2 else np.float64
    fill = fill_of(array.dtype)
    values = array.values.astype(wide)
    values[array.values == fill] = np.nan
    stored = array.copy(data=values)
    stored.encoding = {"dtype": array.dtype, "_FillValue": array.dtype.type(fill)}
    return stored


def finished_place(
    space: Space, axis: str, places: Places, dims: Sequence[str], which: str
) -> xr.DataArray:
    """Labels or numbers along an axis as a variable, NaN where a place is -1.

    A label is stored as a CF category, the index into `flag_meanings`.
    """
    attributes: dict[str, Any] = {"long_name": f"{AXIS_LONG_NAMES[axis]} {which}", "units": "1"}
    if axis not in LABELLED:
        return _numbers(np.asarray(space.axes[axis]), places, dims, attributes)
    labels = [str(label).replace(" ", "_") for label in space.axes[axis]]
    codes = np.arange(len(labels), dtype=np.int16)
    attributes["flag_values"] = codes if codes.size > 1 else codes[0]
    attributes["flag_meanings"] = " ".join(labels)
    return _integers(places, places < 0, np.int16, dims, attributes)


def _numbers(
    values: NDArray[Any], places: Places, dims: Sequence[str], attributes: dict[str, Any]
) -> xr.DataArray:
    there = values[places]
    if values.dtype.kind == "i":
        return _integers(there, places < 0, np.int32, dims, attributes)
    return xr.DataArray(np.where(places < 0, np.nan, there), dims=dims, attrs=attributes)


def _integers(
    values: NDArray[Any],
    missing: NDArray[np.bool_],
    dtype: type[np.signedinteger[Any]],
    dims: Sequence[str],
    attributes: dict[str, Any],
) -> xr.DataArray:
    stored = np.where(missing, fill_of(np.dtype(dtype)), values).astype(dtype)
    return stored_integers(xr.DataArray(stored, dims=dims, attrs=attributes))


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
