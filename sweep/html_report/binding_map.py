"""What binds the decode steps of a result that does not say so itself."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import xarray as xr

from sweep.decisions.candidate_sweep import computes
from sweep.decisions.explain import mean_context
from sweep.engines.calibration_file import FittedEfficiency
from sweep.grid.grid import Grid
from sweep.html_report.operator_tables import LOADS, Specs
from sweep.runs.run import run
from sweep.schema.axes import LAYOUT

COMMENT = "Of a static decode step at the mean context of the request; computed for this page."


def with_bounds(
    dataset: xr.Dataset,
    grid: Mapping[str, Sequence[Any]],
    specs: Specs,
    efficiency: FittedEfficiency | None,
) -> xr.Dataset:
    """The result with `bound` over its lengths, if it has none and its names are all known."""
    load = next((axis for axis in LOADS if axis in grid), None)
    known = {"model": specs.models, "hardware": specs.hardware, "precision": specs.precision}
    if "bound" in dataset or load is None or not {"isl", "osl", *known} <= set(grid):
        return dataset
    if any(name not in found for axis, found in known.items() for name in grid[axis]):
        return dataset
    pairs = product(specs.hardware.values(), specs.precision.values())
    if not all(computes(machine, recipe) for machine, recipe in pairs):
        return dataset
    contexts = {(i, o): round(mean_context(i, o)) for i in grid["isl"] for o in grid["osl"]}
    steps = Grid(
        models=[specs.models[name] for name in grid["model"]],
        hardware=[specs.hardware[name] for name in grid["hardware"]],
        precision=[specs.precision[name] for name in grid["precision"]],
        **{axis: grid[axis] for axis in LAYOUT if axis in grid},
        batch_size=grid[load],
        context_len=sorted(set(contexts.values())),
        variables=["bound"],
    )
    bound = run(steps, efficiency=efficiency)["bound"].rename(batch_size=load)
    where = xr.DataArray(
        [[contexts[i, o] for o in grid["osl"]] for i in grid["isl"]],
        {"isl": grid["isl"], "osl": grid["osl"]},
        ["isl", "osl"],
    )
    there = bound.sel(context_len=where).drop_vars("context_len")
    return dataset.assign(bound=there.assign_attrs(bound.attrs | {"comment": COMMENT}))
