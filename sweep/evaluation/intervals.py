"""Prediction intervals and extrapolation flags of a calibrated sweep."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import Intervals, Subjects
from sweep.engines.traits import experts_of, pooled_dtype
from sweep.errors import SpecWarning
from sweep.grid.dataset import variable_attributes
from sweep.grid.resolved import Resolved
from sweep.schema.axes import AXES, PREFIX, REPLICA_GPUS, gpus_of
from sweep.schema.intervals import CALIBRATED, ENDS
from sweep.schema.variables import VARIABLES

Array = np.ndarray[Any, Any]


def with_intervals(dataset: xr.Dataset, grid: Resolved, calibration: Calibration) -> xr.Dataset:
    """The dataset with 90 % intervals of its times and throughputs, and the calibration's name."""
    judged = [name for name in CALIBRATED if name in dataset]
    dims = _dims(grid, judged)
    intervals = intervals_of(grid, calibration, judged)

    def labelled(array: Array, mask: str) -> xr.DataArray:
        own = grid.dims(mask)
        kept = [length for dim, length in zip(dims, array.shape, strict=True) if dim in own]
        whole = np.broadcast_to(array.reshape(kept), [grid.sizes[dim] for dim in own])
        return xr.DataArray(whole, dims=own)

    added = {mask: labelled(flags, mask) for mask, flags in intervals.extrapolation.items()}
    for name in judged:
        widths = intervals.halfwidth(name, dataset[name].dtype)
        for end, sign in zip(ENDS, (-1, 1), strict=True):
            array = dataset[name] * np.exp(sign * labelled(widths, CALIBRATED[name].mask))
            added[f"{name}_{end}"] = array.transpose(*dataset[name].dims)
    result = dataset.copy()
    present = [*map(str, dataset.data_vars), *added]
    for name, array in added.items():
        attributes = variable_attributes(VARIABLES[name], dict.fromkeys(present))
        result[name] = (array.dims, array.values, attributes)
    for name in map(str, dataset.data_vars):
        result[name].attrs = variable_attributes(VARIABLES[name], dict.fromkeys(present))
    result.attrs |= calibrated_attributes(calibration, present)
    return result


def warn_of_unmeasured(grid: Resolved) -> None:
    """Warn of hits and drafts in a calibrated sweep: no run that was fitted had any."""
    axes = [axis for axis in (*PREFIX, "draft_tokens") if any(grid.numbers.get(axis, ()))]
    if axes:
        warnings.warn(
            f"{' and '.join(axes)}: the calibration was fitted to runs without, and the intervals "
            "are those of such runs",
            SpecWarning,
            stacklevel=4,
        )


def calibrated_attributes(calibration: Calibration, present: Sequence[str]) -> dict[str, str]:
    """Global attributes of a calibrated result with the variables `present`."""
    name = f"{calibration.name} {calibration.digest}"
    return {
        "calibration": name,
        "efficiency": name,
        "title": "Calibrated estimates of LLM inference",
        "comment": f"Efficiency factors fitted to measurements of {calibration.engine}, for "
        f"version {calibration.engine_version}; 90 % intervals where a variable has lower and "
        "upper.",
        "llm_sweep_variables": " ".join(present),
    }


def interval_variables(variables: Sequence[str]) -> list[str]:
    """Names that `with_intervals` adds to `variables`, in their order."""
    judged = [name for name in CALIBRATED if name in variables]
    return [*_masks(judged), *(f"{name}_{end}" for name in judged for end in ENDS)]


def intervals_of(grid: Resolved, calibration: Calibration, variables: Sequence[str]) -> Intervals:
    """Intervals of `variables` over the cells of a grid.

    Arrays have the axes of all masks together, in their order, with a length of 1 along those that
    make no difference. An axis that the grid lacks raises no flag.
    """
    dims = _dims(grid, variables)

    def along(values: Any, axis: str) -> Array:
        return np.reshape(values, [-1 if dim == axis else 1 for dim in dims])

    subjects = Subjects(
        model=along([spec.name for spec, _ in grid.models], "model"),
        family=along([spec.family for spec, _ in grid.models], "model"),
        experts=along([experts_of(blocks) for _, blocks in grid.models], "model"),
        hardware=along([machine.name for machine in grid.hardware], "hardware"),
        dtype=_dtypes(grid, dims),
        version=np.asarray(f"{calibration.engine} {calibration.engine_version}"),
    )
    axes = {
        dim: along(np.asarray(grid.numbers[dim], float), dim) for dim in dims if dim in grid.numbers
    }
    gpus = np.asarray(gpus_of(axes, REPLICA_GPUS), float)

    def of(mask: str) -> dict[str, Array]:
        given = {dim: axes[dim] for dim in grid.dims(mask) if dim in axes}
        load = {"load": given["concurrency"] / gpus} if "concurrency" in given else {}
        return {**given, **load, "gpus": gpus}

    numbers = {mask: of(mask) for mask in _masks(variables)}
    return calibration.intervals(subjects, numbers, variables)


def _dtypes(grid: Resolved, dims: Sequence[str]) -> Array:
    """Types of the weights by which they are pooled, along models only where these differ."""
    found = [[pooled_dtype(each.weight_dtype) for each in recipes] for recipes in grid.recipes]
    if all(types == found[0] for types in found):
        found = found[:1]
    lengths = {"model": len(found), "precision": len(found[0])}
    return np.reshape(np.asarray(found), [lengths.get(dim, 1) for dim in dims])


def _dims(grid: Resolved, variables: Sequence[str]) -> list[str]:
    """Axes of the labels and of all masks of `variables` together."""
    labels = ("model", "hardware", "precision")
    found = {*labels, *(dim for mask in _masks(variables) for dim in grid.dims(mask))}
    return [axis for axis in AXES if axis in found]


def _masks(variables: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(CALIBRATED[name].mask for name in variables))
