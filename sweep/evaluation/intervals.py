"""Prediction intervals of a calibrated sweep, and what they say of extrapolation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sweep.engines.calibration_file import FittedEfficiency
from sweep.engines.traits import experts_of, traits_of
from sweep.grid.dataset import variable_attributes
from sweep.grid.resolved import Resolved
from sweep.schema.intervals import CALIBRATED, ENDS, EXTRAPOLATION
from sweep.schema.variables import VARIABLES

SCENARIO_OF_MASK = {
    "extrapolation": "static_batch",
    "ttft_extrapolation": "first_token",
    "inflight_extrapolation": "inflight",
}
"""Whose ranges each mask of `EXTRAPOLATIONS` compares with."""


def with_intervals(dataset: xr.Dataset, grid: Resolved, efficiency: FittedEfficiency) -> xr.Dataset:
    """The dataset with 90 % intervals of its times and throughputs, and the calibration's name."""
    spread = spreads(grid, efficiency)
    judged = {name: how for name, how in CALIBRATED.items() if name in dataset}
    added: dict[str, xr.DataArray] = {
        mask: extrapolation(grid, efficiency, mask)
        for mask in dict.fromkeys(how.mask for how in judged.values())
    }
    for name, how in judged.items():
        flags, dtype = added[how.mask], dataset[name].dtype
        usual = halfwidths(efficiency, how.scenarios).astype(dtype)
        widths = flags.copy(data=usual[flags.values]) * spread.astype(dtype)
        for end, sign in zip(ENDS, (-1, 1), strict=True):
            array = dataset[name] * np.exp(sign * widths)
            added[f"{name}_{end}"] = array.transpose(*dataset[name].dims)
    result = dataset.copy()
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
        f"{efficiency.engine_version}; 90 % intervals where a variable has lower and upper.",
        "llm_sweep_variables": " ".join(present),
    }


def interval_variables(variables: Sequence[str]) -> list[str]:
    """Names that `with_intervals` adds to `variables`, in their order."""
    judged = {name: how for name, how in CALIBRATED.items() if name in variables}
    masks = dict.fromkeys(how.mask for how in judged.values())
    return [*masks, *(f"{name}_{end}" for name in judged for end in ENDS)]


def halfwidths(efficiency: FittedEfficiency, scenarios: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Half of the 90 % interval of a logarithm, by the sum of the bits of `EXTRAPOLATION`. [1]"""
    sums = range(sum(EXTRAPOLATION.values()) + 1)
    return np.asarray([efficiency.halfwidth(scenarios, bits) for bits in sums])


def spreads(grid: Resolved, efficiency: FittedEfficiency) -> xr.DataArray:
    """How much wider intervals are than usual, by model and accelerator. [1]"""
    version = f"{efficiency.engine} {efficiency.engine_version}"
    found = [
        [
            efficiency.spread(
                hardware=machine.name, model=spec.name, experts=experts_of(blocks), version=version
            )
            for machine in grid.hardware
        ]
        for spec, blocks in grid.models
    ]
    return xr.DataArray(found, dims=("model", "hardware"))


def extrapolation(grid: Resolved, efficiency: FittedEfficiency, mask: str) -> xr.DataArray:
    """What each cell has that the measurements lack, over the axes that decide it.

    An axis that the grid lacks is no reason: a server without a limit holds as many requests as
    fit, as those measured did.
    """
    dims = grid.dims(mask)
    axis = {
        dim: xr.DataArray(np.asarray(grid.numbers[dim], float), dims=[dim])
        for dim in dims
        if dim in grid.numbers
    }
    gpus: Any = 1.0
    for dim in ("tp", "pp", "dp_attention"):
        gpus = gpus * axis.pop(dim, 1.0)
    beyond = efficiency.beyond(SCENARIO_OF_MASK[mask], gpus=gpus, **axis)
    whole = xr.DataArray(np.zeros([grid.sizes[dim] for dim in dims], np.int8), dims=dims)
    bits: xr.DataArray = whole | _unseen(grid, efficiency) | beyond
    return bits.transpose(*dims)


def _unseen(grid: Resolved, efficiency: FittedEfficiency) -> xr.DataArray:
    """What each model, accelerator and recipe has that the measurements lack."""
    bits = np.zeros([len(grid.models), len(grid.hardware), len(grid.precision)], np.int8)
    for place in np.ndindex(*bits.shape):
        spec, blocks = grid.models[place[0]]
        machine, recipe = grid.hardware[place[1]], grid.precision[place[2]]
        bits[place] = efficiency.unseen(
            model=spec.name,
            hardware=machine.name,
            dtype=traits_of(machine, recipe.weight_dtype, "", "", blocks).dtype,
            family=spec.family,
        )
    return xr.DataArray(bits, dims=("model", "hardware", "precision"))
