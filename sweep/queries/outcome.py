"""How reduced results are told: places as variables, integers that may be missing, comments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of, stored_integers
from sweep.queries.axes_of_grid import Places, Space
from sweep.schema.axes import AXIS_LONG_NAMES, LABELLED


def told(array: xr.DataArray, comment: str) -> xr.DataArray:
    """The same array, its comment extended."""
    before = str(array.attrs.get("comment", ""))
    return array.assign_attrs(comment=f"{before} {comment}".strip())


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
