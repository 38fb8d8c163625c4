"""Runs a grid here: at once into a labelled Dataset, or shard by shard into a directory."""

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock

import psutil
import xarray as xr

from sweep.catalog import Catalog, current_catalog, read_mapping
from sweep.compilation import use_compilation_cache
from sweep.dataset import Origin, build_dataset
from sweep.directory import Directory
from sweep.errors import GridError
from sweep.evaluation import Arrays, Evaluation
from sweep.fitted import FittedEfficiency, load_efficiency
from sweep.grid import Grid, Resolved, resolve
from sweep.intervals import with_intervals
from sweep.pieces import Places
from sweep.plan import FloatType, Plan, in_units, make_plan
from sweep.reduction import Reduction, joined, partials
from sweep.shards import write_shard
from sweep.specs import parse

Progress = Callable[[int, int], None]

WRITERS = 2
"""Shards on their way to disk at a time: one is written while the other is sealed. [count]"""


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


def check_fits_memory(plan: Plan) -> None:
    """See that the results fit in this machine's free memory.

    Raises:
        GridError: They do not.
    """
    needed, free = plan.bytes, psutil.virtual_memory().available
    if needed > free:
        raise GridError(
            f"the results need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; "
            "drop variables, shorten an axis, or give --shards"
        )


def check_piece_fits_memory(plan: Plan) -> None:
    """See that what is computed at once for a shard that is reduced fits in free memory.

    Raises:
        GridError: It does not: the reduction needs axes whole that are too long.
    """
    needed, free = plan.piece_bytes, psutil.virtual_memory().available
    if needed > free:
        raise GridError(
            f"--reduce {plan.question} needs {', '.join(plan.axes_needed_whole)} whole, "
            f"{in_units(needed)} at a time, and {in_units(free)} of memory are free; drop "
            "variables, or shorten one of these axes"
        )


def check_fits_disk(plan: Plan, needed: int, folder: Path) -> None:
    """See that what is left of a plan fits on the disk of `folder`.

    Raises:
        GridError: It does not; the message names the largest variables.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    if needed > disk.free and disk.total > 0:
        largest = sorted(plan.variables, key=lambda v: v.bytes, reverse=True)[:3]
        names = ", ".join(f"{v.name} ({in_units(v.bytes)})" for v in largest)
        raise GridError(
            f"the results need {in_units(needed)} and {in_units(disk.free)} are free in {folder}; "
            f"drop variables, the largest are {names}, shorten an axis, or name another folder"
        )


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


def run_shards(
    directory: Directory, shards: Sequence[int], progress: Progress | None = None
) -> None:
    """Compute shards one after another, each while those before it are written and sealed.

    Args:
        directory: Where they belong.
        shards: Their numbers.
        progress: Called with shards done and shards in all.

    Raises:
        ResultError: One cannot be written; those before it stand.
    """
    work = Evaluation(directory.plan)
    writing: deque[Future[Arrays]] = deque()
    spare: Arrays | None = None
    with ThreadPoolExecutor(max_workers=WRITERS) as writers:
        for done, shard in enumerate(shards):
            dataset = _shard(directory, work, shard, spare)
            spare = writing.popleft().result() if len(writing) == WRITERS else None
            if progress is not None:
                progress(done, len(shards))
            writing.append(writers.submit(_write, directory, dataset, shard))
        for written in writing:
            written.result()
    if progress is not None:
        progress(len(shards), len(shards))


def make_shard(folder: str, digest: str, shard: int) -> int:
    """Compute and write one shard, in whatever process this is, unless it stands there already.

    Args:
        folder: Directory whose `plan.json` tells everything else.
        digest: Of the plan that is meant.
        shard: Number of the shard.

    Returns:
        The number of the shard.

    Raises:
        ResultError: The directory holds another plan, or the shard cannot be written.
    """
    use_compilation_cache()
    with _computing:
        directory, work = _loaded(folder, digest)
        if not directory.fault(shard):
            return shard
        dataset = _shard(directory, work, shard)
    _write(directory, dataset, shard)
    return shard


_computing = Lock()
"""Held while a thread computes: an evaluation has one set of buffers."""


@lru_cache(maxsize=1)
def _loaded(folder: str, digest: str) -> tuple[Directory, Evaluation]:
    directory = Directory.load(Path(folder))
    directory.check_reproducible(digest)
    return directory, Evaluation(directory.plan)


def _shard(
    directory: Directory, work: Evaluation, shard: int, spare: Arrays | None = None
) -> xr.Dataset:
    plan, places = directory.plan, directory.plan.cut.places(shard)
    if plan.reduction is not None:
        return joined(plan.reduction, _partials(plan, plan.reduction, work, places))
    return compute(plan, work, places, spare=spare, origin=directory.origin)


def _partials(
    plan: Plan, reduction: Reduction, work: Evaluation, places: Places
) -> Iterator[xr.Dataset]:
    """What a reduction finds in each piece of what lies at `places`."""
    spare: Arrays | None = None
    for piece in plan.pieces(places):
        dataset = compute(plan, work, piece, spare=spare)
        for partial in partials(reduction, dataset):
            # What the reduction carries along as it is lies in arrays that are used again.
            yield partial.copy(deep=True)
        spare = _arrays(dataset)


def _write(directory: Directory, dataset: xr.Dataset, shard: int) -> Arrays:
    """Write a shard, and give its arrays back."""
    write_shard(dataset, directory.shard_path(shard), directory.identity(shard))
    return _arrays(dataset)


def _arrays(dataset: xr.Dataset) -> Arrays:
    return {str(name): array.values for name, array in dataset.data_vars.items()}
