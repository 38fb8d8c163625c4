"""Runs a grid and returns its labelled Dataset."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import psutil
import xarray as xr

from sweep.catalog import Catalog, current_catalog, read_mapping
from sweep.dataset import build_dataset
from sweep.errors import GridError
from sweep.fitted import FittedEfficiency, load_efficiency
from sweep.grid import Grid, Resolved, resolve
from sweep.intervals import with_intervals
from sweep.mapping import Evaluation
from sweep.plan import make_plan
from sweep.specs import parse

FloatType = Literal["float32", "float64"]
Progress = Callable[[int, int], None]


def load_grid(path: Path) -> Grid:
    """The grid a sweep file describes.

    Raises:
        SpecError: The file cannot be read or says something wrong.
    """
    return parse(Grid, read_mapping(path), str(path))


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
    check_fits_memory(grid, dtype)
    with jax.enable_x64(True) if dtype == "float64" else nullcontext():
        work = Evaluation(
            grid, dtype=np.dtype(dtype), keep_infeasible=keep_infeasible, efficiency=efficiency
        )
        for done, _ in enumerate(work.run(), start=1):
            if progress is not None:
                progress(done, work.steps)
    dataset = build_dataset(grid, work.operators, work.arrays)
    return dataset if efficiency is None else with_intervals(dataset, grid, efficiency)


def check_fits_memory(grid: Resolved, dtype: FloatType) -> None:
    """See that the results fit in this machine's free memory.

    Raises:
        GridError: They do not.
    """
    needed, free = make_plan(grid, dtype).bytes, psutil.virtual_memory().available
    if needed > free:
        raise GridError(
            f"the results need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; "
            "drop variables or shorten an axis"
        )
