"""Thin a result to the size of one page, and describe what is left out."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from sweep.decisions.compare import BETTER
from sweep.errors import ResultError
from sweep.grid.dataset import recorded_grid
from sweep.schema.axes import LABELLED
from sweep.schema.intervals import ENDS
from sweep.schema.variables import VARIABLES

MOST_BYTES = 3_000_000
"""Size of a page's arrays before compression. [byte]"""
MOST_VALUES = 128
"""Values of a numeric axis: as many as a map on a screen can show. [count]"""
COMFORTABLE = 17
"""Values to which a numeric axis is thinned before any variable is dropped. [count]"""
FEWEST = 5
"""Values that a numeric axis keeps while labels can be dropped. [count]"""
NEEDED = ("feasible", "infeasible_reason", "inflight_feasible", "bound")
FLOAT_BYTES = 4


def fitting(dataset: xr.Dataset, most_bytes: int = MOST_BYTES) -> tuple[xr.Dataset, list[str]]:
    """Select the part of a result that fits on a page, in memory, and describe the rest.

    Numeric axes are first limited to `MOST_VALUES`, then thinned by half, the longest first, both
    ends kept; then variables that the page does not need are dropped, then the last labels of the
    longest axes.

    Args:
        dataset: A result.
        most_bytes: Size of the arrays as the page stores them. [byte]

    Raises:
        ResultError: No variable varies over models and accelerators.
    """
    shown, notes = _shown(dataset)
    sizes = {
        str(dim): size if dim in LABELLED else min(size, MOST_VALUES)
        for dim, size in dataset[shown].sizes.items()
    }

    def too_large() -> bool:
        return _bytes(dataset, shown, sizes) > most_bytes

    for least in (COMFORTABLE, FEWEST):
        while too_large() and (axis := _longest(sizes, least, labelled=False)):
            sizes[axis] = (sizes[axis] + 1) // 2
        while too_large() and len(shown) > 1 and (spare := _spare(shown)):
            shown.remove(spare)
    while too_large() and (axis := _longest(sizes, 2, labelled=True)):
        sizes[axis] = (sizes[axis] + 1) // 2
    while too_large() and (axis := _longest(sizes, 1, labelled=False)):
        sizes[axis] = (sizes[axis] + 1) // 2
    kept = dataset[shown].isel({dim: _kept(dim, dataset, sizes) for dim in sizes}).compute()
    return kept, [*notes, *_left_out(dataset, kept)]


def _shown(dataset: xr.Dataset) -> tuple[list[str], list[str]]:
    """Variables that a page can show, and a note on those that it cannot."""
    numbers = [str(name) for name, array in dataset.data_vars.items() if array.dtype.kind in "fiu"]
    shown = [name for name in numbers if "operator" not in dataset[name].dims]
    if not any({"model", "hardware"} <= set(dataset[name].dims) for name in shown):
        raise ResultError(
            "a report requires a variable that varies over model and hardware; give the result of "
            "a sweep, or one that is not reduced over these"
        )
    by_operator = [name for name in numbers if name not in shown]
    return shown, [f"Variables left out: {', '.join(by_operator)}."] if by_operator else []


def _bytes(dataset: xr.Dataset, shown: Sequence[str], sizes: dict[str, int]) -> int:
    """Size of the variables, and of two derived arrays as large as the largest. [byte]"""
    each = [
        prod(sizes[str(dim)] for dim in dataset[name].dims)
        * min(dataset[name].dtype.itemsize, FLOAT_BYTES)
        for name in shown
    ]
    return sum(each) + 2 * max(each)


def _longest(sizes: dict[str, int], least: int, *, labelled: bool) -> str | None:
    """The longest of the axes with more than `least` values, if there is one."""
    long = [dim for dim in sizes if sizes[dim] > least and (dim in LABELLED) == labelled]
    return max(long, key=lambda dim: sizes[dim], default=None)


def _spare(shown: Sequence[str]) -> str | None:
    """The last variable that no other one on the page depends on."""
    ranked = [name for name in shown if name in VARIABLES and VARIABLES[name].units in BETTER]
    main = ranked[0] if ranked else shown[0]
    needed = {main, *NEEDED, *(f"{main}_{end}" for end in ENDS)}
    return next((name for name in reversed(shown) if name not in needed), None)


def _kept(dim: str, dataset: xr.Dataset, sizes: dict[str, int]) -> Any:
    size = dataset.sizes[dim]
    if dim in LABELLED:
        return slice(sizes[dim])
    return np.unique(np.linspace(0, size - 1, sizes[dim]).round().astype(int))


def _left_out(dataset: xr.Dataset, kept: xr.Dataset) -> list[str]:
    notes = []
    for dim, size in kept.sizes.items():
        whole = dataset.sizes[dim]
        if size < whole and dim in LABELLED:
            gone = [str(label) for label in dataset[dim].values[size:]]
            notes.append(f"{dim}: {whole - size} of {whole} left out: {_listed(gone)}.")
        elif size < whole:
            notes.append(f"{dim}: {size:,} of {whole:,} values, evenly spaced, both ends included.")
    possible = {str(name) for name in dataset.data_vars if "operator" not in dataset[name].dims}
    gone = [name for name in map(str, dataset.data_vars) if name in possible - set(kept.data_vars)]
    if gone:
        notes.append(f"Variables left out: {', '.join(gone)}.")
    if notes:
        notes.append("The file has all of them.")
    return notes


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def grid_of(dataset: xr.Dataset) -> dict[str, list[Any]]:
    """Labels and numbers along every axis of the grid, also those that were reduced.

    Raises:
        ResultError: The record of the grid in the result is damaged.
    """
    return recorded_grid(dataset) | {str(dim): dataset[dim].values.tolist() for dim in dataset.dims}
