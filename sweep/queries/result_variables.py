"""Variables of reduced results: coordinates of a cell, integers with missing values, comments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of, stored_integers
from sweep.queries.grid_axes import GridAxes, Indices
from sweep.schema.axes import AXIS_LONG_NAMES, LABELLED


def with_comment(array: xr.DataArray, comment: str) -> xr.DataArray:
    """The same array with `comment` appended to its comment."""
    before = str(array.attrs.get("comment", ""))
    return array.assign_attrs(comment=f"{before} {comment}".strip())


def coordinate_variable(
    grid: GridAxes, axis: str, indices: Indices, dims: Sequence[str], which: str
) -> xr.DataArray:
    """Labels or numbers along an axis as a variable, missing where an index is -1.

    A label is stored as a CF category, the index into `flag_meanings`.
    """
    attributes: dict[str, Any] = {"long_name": f"{AXIS_LONG_NAMES[axis]} {which}", "units": "1"}
    if axis not in LABELLED:
        return _numbers(np.asarray(grid.labels[axis]), indices, dims, attributes)
    labels = [str(label).replace(" ", "_") for label in grid.labels[axis]]
    codes = np.arange(len(labels), dtype=np.int16)
    attributes["flag_values"] = codes if codes.size > 1 else codes[0]
    attributes["flag_meanings"] = " ".join(labels)
    return _integers(indices, indices < 0, np.int16, dims, attributes)


def _numbers(
    values: NDArray[Any], indices: Indices, dims: Sequence[str], attributes: dict[str, Any]
) -> xr.DataArray:
    chosen = values[indices]
    if values.dtype.kind == "i":
        return _integers(chosen, indices < 0, np.int32, dims, attributes)
    return xr.DataArray(np.where(indices < 0, np.nan, chosen), dims=dims, attrs=attributes)


def _integers(
    values: NDArray[Any],
    missing: NDArray[np.bool_],
    dtype: type[np.signedinteger[Any]],
    dims: Sequence[str],
    attributes: dict[str, Any],
) -> xr.DataArray:
    stored = np.where(missing, fill_of(np.dtype(dtype)), values).astype(dtype)
    return stored_integers(xr.DataArray(stored, dims=dims, attrs=attributes))
