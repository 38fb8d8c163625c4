"""The resource that binds decode steps, for results that lack the variable `bound`."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import xarray as xr

from sweep.decisions.deployment_sweep import computes
from sweep.decisions.operator_breakdown import mean_context
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration
from sweep.grid.grid import Grid
from sweep.html_report.operator_tables import LOADS
from sweep.runs.run import run
from sweep.schema.axes import LAYOUT

COMMENT = "For a static decode step at the mean context of the request; computed for this page."


def with_bounds(
    dataset: xr.Dataset,
    grid: Mapping[str, Sequence[Any]],
    specs: SpecsByName,
    calibration: Calibration | None,
) -> xr.Dataset:
    """Add `bound` over the lengths of a result that lacks it, if all its names are known."""
    load = next((axis for axis in LOADS if axis in grid), None)
    if "bound" in dataset or load is None or not {"isl", "osl", *specs.by_axis} <= set(grid):
        return dataset
    if any(name not in known for axis, known in specs.by_axis.items() for name in grid[axis]):
        return dataset
    recipes = [specs.recipe(model, name) for model in grid["model"] for name in grid["precision"]]
    pairs = product(specs.hardware.values(), recipes)
    if not all(recipe is not None and computes(machine, recipe) for machine, recipe in pairs):
        return dataset
    contexts = {(i, o): round(mean_context(i, o)) for i in grid["isl"] for o in grid["osl"]}
    layout: dict[str, Any] = {axis: grid[axis] for axis in LAYOUT if axis in grid}
    steps = Grid(
        models=[specs.models[name] for name in grid["model"]],
        hardware=[specs.hardware[name] for name in grid["hardware"]],
        precision=[specs.precision[name] for name in grid["precision"]],
        **layout,
        batch_size=grid[load],
        context_len=sorted(set(contexts.values())),
        variables=["bound"],
    )
    bound = run(steps, calibration=calibration)["bound"].rename(batch_size=load)
    where = xr.DataArray(
        [[contexts[i, o] for o in grid["osl"]] for i in grid["isl"]],
        {"isl": grid["isl"], "osl": grid["osl"]},
        ["isl", "osl"],
    )
    by_length = bound.sel(context_len=where).drop_vars("context_len")
    return dataset.assign(bound=by_length.assign_attrs(bound.attrs | {"comment": COMMENT}))
