"""Select part of a result by labels and variables, and keep its attributes consistent."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.grid.dataset import recorded_grid
from sweep.queries.grid_axes import GridAxes
from sweep.queries.where import label_among, number_among, number_of
from sweep.schema.axes import LABELLED
from sweep.schema.variables import VARIABLES


def subset(
    dataset: xr.Dataset, *, select: Sequence[str] = (), variables: Sequence[str] = ()
) -> xr.Dataset:
    """Select labels and variables of a result, lazily.

    Args:
        dataset: A result.
        select: `AXIS=LABEL,LABEL` or, for numbers, `AXIS=FIRST:LAST`, both ends included. An axis
            that is named several times keeps all of these values.
        variables: Names; all if none are given.

    Raises:
        ResultError: A name, label or number is unknown, or nothing is left.
    """
    grid = GridAxes.of(dataset)
    for name in variables:
        grid.check_variable(name, "--variables")
    if variables:
        dataset = dataset[list(dict.fromkeys(variables))]
    chosen = parse_select(select, grid)
    used = {axis: indices for axis, indices in chosen.items() if axis in dataset.dims}
    return present_only(dataset.isel(used))


def parse_select(select: Sequence[str], grid: GridAxes) -> dict[str, list[int]]:
    """Indices to keep along each named axis, in the order of the grid.

    Raises:
        ResultError: As `subset`.
    """
    chosen: dict[str, list[int]] = {}
    for text in select:
        axis, equals, wanted = (part.strip() for part in text.partition("="))
        if not (equals and wanted):
            raise ResultError(f"--select {text!r}: write axis=label,label or axis=first:last")
        grid.check_axis(axis, f"--select {text}")
        found = _indices(axis, wanted, grid.labels[axis])
        chosen[axis] = sorted({*chosen.get(axis, ()), *found})
    return chosen


def _indices(axis: str, wanted: str, values: Sequence[Any]) -> list[int]:
    where = f"--select {axis}"
    if axis in LABELLED:
        labels = [label_among(where, word.strip(), values, axis) for word in wanted.split(",")]
        return sorted({values.index(label) for label in labels})
    first, colon, last = wanted.partition(":")
    if not colon:
        numbers = [number_among(where, word, values) for word in wanted.split(",")]
        return sorted({values.index(number) for number in numbers})
    low = number_of(where, first) if first.strip() else -np.inf
    high = number_of(where, last) if last.strip() else np.inf
    inside = [index for index, value in enumerate(values) if low <= value <= high]
    if not inside:
        raise ResultError(
            f"--select {axis}={wanted}: no value in this range; {axis} goes from {values[0]:g} "
            f"to {values[-1]:g}"
        )
    return inside


def present_only(dataset: xr.Dataset) -> xr.Dataset:
    """The same dataset with attributes that name only its variables and labels."""
    dataset = dataset.copy()
    for array in dataset.data_vars.values():
        ancillary = str(array.attrs.pop("ancillary_variables", "")).split()
        present = [name for name in ancillary if name in dataset.data_vars]
        if present:
            array.attrs["ancillary_variables"] = " ".join(present)
    recorded = str(dataset.attrs.get("llm_sweep_variables", "")).split()
    known = [name for name in recorded if name in dataset.data_vars and name in VARIABLES]
    held = {
        axis: dataset[axis].values.tolist() if axis in dataset.dims else values
        for axis, values in recorded_grid(dataset).items()
    }
    return dataset.assign_attrs(
        llm_sweep_variables=" ".join(known),
        llm_sweep_grid=json.dumps(held, separators=(",", ":")),
    )
