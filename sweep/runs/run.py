"""Runs a grid here: at once into a labelled Dataset, or shard by shard into a directory."""

from collections.abc import Callable
from pathlib import Path

import xarray as xr

from sweep.engines.calibration_file import FittedEfficiency, load_efficiency
from sweep.evaluation.evaluator import Arrays, Evaluation
from sweep.evaluation.intervals import with_intervals
from sweep.evaluation.plan import FloatType, Plan, make_plan
from sweep.evaluation.tiles import Places
from sweep.grid.dataset import Origin, build_dataset
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.runs.limits import check_fits_memory
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.files import read_mapping
from sweep.specs.parsing import parse

Progress = Callable[[int, int], None]


def load_grid(path: str | Path) -> Grid:
    """The grid a sweep file describes.

    Raises:
        SpecError: The file cannot be read or says something wrong.
    """
    return parse(Grid, read_mapping(Path(path)), str(path))


def run(
    grid: Grid,
    *,
    catalog: Catalog | None = None,
    dtype: FloatType = "float32",
    keep_infeasible: bool = False,
    efficiency: FittedEfficiency | str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Compute every variable of `grid` over the outer product of its axes.

    Args:
        grid: Axes and variables.
        catalog: Where to look names up; the user's and the shipped configs by default.
        dtype: Type of the results; float32 stays within 1e-5 of float64.
        keep_infeasible: Whether throughputs stand where a configuration cannot run.
        efficiency: A calibration, its name or its file; ideal rooflines if not given.
        progress: Called with blocks done and blocks in all.

    Returns:
        A Dataset with one label or number per place along each axis.

    Raises:
        SpecError: A name is unknown, or hardware and precision do not fit together.
        GridError: A variable needs an axis the grid lacks, or the result exceeds memory.
    """
    return run_resolved(
        resolve(grid, catalog or current_catalog()),
        dtype=dtype,
        keep_infeasible=keep_infeasible,
        efficiency=load_efficiency(efficiency) if isinstance(efficiency, str) else efficiency,
        progress=progress,
    )


def run_resolved(
    grid: Resolved,
    *,
    dtype: FloatType = "float32",
    keep_infeasible: bool = False,
    efficiency: FittedEfficiency | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """`run` for a grid whose names are looked up already."""
    return run_plan(
        make_plan(grid, dtype, keep_infeasible=keep_infeasible, efficiency=efficiency), progress
    )


def run_plan(plan: Plan, progress: Progress | None = None) -> xr.Dataset:
    """`run` for a plan, its shards all at once.

    Raises:
        GridError: The results exceed this machine's free memory.
    """
    check_fits_memory(plan)
    work = Evaluation(plan)
    return compute(plan, work, work.whole, progress=progress)


def compute(
    plan: Plan,
    work: Evaluation,
    places: Places,
    *,
    spare: Arrays | None = None,
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """What of a plan lies at `places`, labelled.

    Args:
        plan: What to compute.
        work: Its evaluation, which keeps buffers from one call to the next.
        places: What of each axis.
        spare: Arrays of an earlier call that nobody reads any more.
        origin: When and by what the result is made; now and by this package if not given.
        progress: Called with blocks done and blocks in all.
    """
    arrays = work.compute(places, spare, progress)
    part = plan.grid.part(places)
    dataset = build_dataset(part, plan.grid.operators, arrays, origin)
    return dataset if plan.efficiency is None else with_intervals(dataset, part, plan.efficiency)
