"""Prediction intervals of a calibrated sweep, and what they say of extrapolation."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sweep.dataset import variable_attributes
from sweep.fitted import FittedEfficiency
from sweep.grid import Resolved
from sweep.traits import traits_of
from sweep.variables import VARIABLES

SCENARIOS = {
    "output_throughput": "static_batch",
    "inflight_output_throughput": "inflight",
}
"""Which measurements tell how far off a prediction of each variable is."""


def with_intervals(dataset: xr.Dataset, grid: Resolved, efficiency: FittedEfficiency) -> xr.Dataset:
    """The dataset with 90 % intervals of its throughputs, and which calibration it used."""
    flags = _extrapolation(grid, efficiency)
    added: dict[str, xr.DataArray] = {}
    for name, scenario in SCENARIOS.items():
        if name not in dataset:
            continue
        widths = xr.apply_ufunc(
            np.vectorize(lambda bits, s=scenario: efficiency.halfwidth(s, int(bits)), otypes="d"),
            flags,
        )
        for suffix, sign in (("lower", -1), ("upper", 1)):
            array = dataset[name] * np.exp(sign * widths).astype(dataset[name].dtype)
            added[f"{name}_{suffix}"] = array.transpose(*dataset[name].dims)
    result = dataset.copy()
    if added:
        added["extrapolation"] = flags
    present = [*map(str, dataset.data_vars), *added]
    for name, array in added.items():
        attributes = variable_attributes(VARIABLES[name], dict.fromkeys(present))
        result[name] = (array.dims, array.values, attributes)
    for name in map(str, dataset.data_vars):
        result[name].attrs = variable_attributes(VARIABLES[name], dict.fromkeys(present))
    result.attrs |= calibrated_attributes(efficiency, present)
    return result


def calibrated_attributes(efficiency: FittedEfficiency, present: Sequence[str]) -> dict[str, str]:
    """Global attributes of a calibrated result with the variables `present`."""
    return {
        "efficiency": f"{efficiency.name} {efficiency.digest}",
        "title": "Calibrated estimates of LLM inference",
        "comment": f"Efficiency factors fitted to measurements of {efficiency.engine}, for version "
        f"{efficiency.engine_version}; 90 % intervals where a throughput has lower and upper.",
        "llm_sweep_variables": " ".join(present),
    }


def interval_variables(variables: Sequence[str]) -> list[str]:
    """Names that `with_intervals` adds to `variables`, in their order."""
    bounded = [name for name in SCENARIOS if name in variables]
    limits = [f"{name}_{suffix}" for name in bounded for suffix in ("lower", "upper")]
    return [*limits, "extrapolation"] if limits else []


def _extrapolation(grid: Resolved, efficiency: FittedEfficiency) -> xr.DataArray:
    """What each model, accelerator and recipe has that the measurements lack."""
    shape = [len(grid.models), len(grid.hardware), len(grid.precision)]
    bits = np.zeros(shape, np.int8)
    for place in np.ndindex(*shape):
        spec, blocks = grid.models[place[0]]
        machine, recipe = grid.hardware[place[1]], grid.precision[place[2]]
        dtype = traits_of(machine, recipe.weight_dtype, "", "", blocks).dtype
        bits[place] = efficiency.extrapolation(spec.name, machine.name, dtype)
    dims = ("model", "hardware", "precision")
    return xr.DataArray(bits, {dim: grid.labels[dim] for dim in dims}, dims)
