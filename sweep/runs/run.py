"""Computes a grid, or a region of it, as a labelled Dataset."""

from collections.abc import Callable
from pathlib import Path

import xarray as xr

from sweep.engines.calibration_file import Calibration, calibration_of
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import FloatType, Plan, make_plan
from sweep.evaluation.result_memory import ResultMemory
from sweep.grid.dataset import Origin, build_dataset
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve, warn_of_contexts
from sweep.grid.tiling import Region
from sweep.runs.limits import check_fits_memory
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.files import read_mapping
from sweep.specs.parsing import parse

Progress = Callable[[int, int], None]


def load_grid(path: str | Path) -> Grid:
    """Read the grid of a sweep file.

    Raises:
        SpecError: The file cannot be read, or a key is unknown or has a wrong value.
    """
    return parse(Grid, read_mapping(Path(path)), str(path))


def run(
    grid: Grid,
    *,
    catalog: Catalog | None = None,
    dtype: FloatType = "float32",
    keep_infeasible: bool = False,
    calibration: Calibration | str | Path | None = None,
    progress: Progress | None = None,
    efficiency: Calibration | str | Path | None = None,
) -> xr.Dataset:
    """Compute every variable of `grid` over the outer product of its axes.

    Args:
        grid: Axes and variables.
        catalog: Catalog for looking up names; the user's and the shipped configs by default.
        dtype: Type of the results; float32 stays within 1e-5 of float64.
        keep_infeasible: Whether throughput is reported where a deployment cannot run.
        calibration: A calibration, its name or its file; ideal rooflines if not given.
        progress: Called with tiles done and tiles in all.
        efficiency: The former name of `calibration`.

    Returns:
        A Dataset with one label or number per index of each axis. Its arrays may be edited.

    Raises:
        SpecError: A name is unknown, or hardware and precision do not fit together.
        GridError: A variable needs an axis the grid lacks, or the result exceeds memory.
    """
    resolved = resolve(grid, catalog or current_catalog())
    warn_of_contexts(resolved)
    known = calibration_of(calibration, efficiency)
    plan = make_plan(resolved, dtype, keep_infeasible=keep_infeasible, calibration=known)
    return run_plan(plan, progress)


def run_plan(plan: Plan, progress: Progress | None = None) -> xr.Dataset:
    """Compute the whole grid of a plan, as `run` does.

    Raises:
        GridError: The results exceed this machine's free memory.
    """
    check_fits_memory(plan)
    work = Evaluation(plan)
    return compute(plan, work, work.whole, progress=progress)


def compute(
    plan: Plan,
    work: Evaluation,
    region: Region,
    *,
    memory: ResultMemory | None = None,
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Compute a sub-grid as a labelled Dataset.

    Args:
        plan: The plan.
        work: Its evaluation, which keeps buffers from one call to the next.
        region: Index range of each axis.
        memory: Memory to compute in, whose last result nobody needs any more; the Dataset may be
            read-only. Fresh memory if not given, in arrays that may be edited.
        origin: When and by what version the result is made; now and by this one if not given.
        progress: Called with tiles done and tiles in all.
    """
    arrays = work.compute(region, memory, progress)
    grid = plan.grid.part(region)
    dataset = build_dataset(grid, plan.grid.operators, arrays, origin)
    if plan.calibration is not None:
        present = list(map(str, dataset.data_vars))
        dataset.attrs |= calibrated_attributes(plan.calibration, plan.calibrated_name, present)
    return dataset
