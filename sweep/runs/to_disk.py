"""Computes a plan into one file or a folder of shards, with a progress bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweep.errors import ResultError
from sweep.evaluation.plan import Plan, in_units
from sweep.files.atomic import check_writable
from sweep.files.netcdf import open_file, write_netcdf
from sweep.runs.limits import check_fits_disk, check_subgrid_fits_memory
from sweep.runs.open_results import open_directory
from sweep.runs.plan_file import MARK
from sweep.runs.progress import progress_bar
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, Job, begun, bytes_held, is_run_of, remove
from sweep.runs.shards import run_shards

SHARDS_OF = ".shards"
"""Suffix of the folder with partial results, after the name of the reduced file."""


class Sharding(NamedTuple):
    """Selection of shards, and of the processes that compute them.

    Attributes:
        only: The job of an array that this run is; it computes all shards if not given.
        workers: Processes to compute shards in; this process if not given. [count]
        scheduler: Address of a Dask scheduler whose workers compute shards.
        any_shards: Whether an existing folder keeps its division into shards.
        force: Whether the shards of another plan are removed.
    """

    only: Job | None = None
    workers: int | None = None
    scheduler: str | None = None
    any_shards: bool = False
    force: bool = False


def run_into_file(plan: Plan, output: Path, *, force: bool) -> int:
    """Compute a plan at once, write one file and return the size of its values. [byte]

    Raises:
        SweepError: The result does not fit in memory or on the disk, or the file cannot be
            written.
    """
    check_writable(output, force=force)
    check_fits_disk(plan, plan.bytes, output.parent)
    with progress_bar("computing") as progress:
        dataset = run_plan(plan, progress)
    write_netcdf(dataset, output, force=force)
    return int(dataset.nbytes)


def run_into_shards(plan: Plan, output: Path, how: Sharding, notify: Callable[[str], None]) -> None:
    """Compute the shards of a plan that `output` lacks.

    Args:
        plan: The plan.
        output: The folder.
        how: Which shards to compute, and in which processes.
        notify: Called with each line for the user.

    Raises:
        SweepError: The folder has another plan or is in use, the disk is too small, or a shard
            cannot be computed or written; complete shards are kept.
    """
    check_fits_disk(plan, plan.stored_bytes - bytes_held(output), output)
    with begun(output, plan, job=how.only, any_shards=how.any_shards, force=how.force) as directory:
        mine = directory.shards(how.only)
        with progress_bar("verifying") as progress:
            left = directory.unfinished(mine, notify, progress)
        count, size = directory.recorded.shards.count, in_units(directory.plan.stored_bytes)
        what = size if plan.question is None else f"partial results of {plan.question}"
        notify(f"{output}: {what} in a folder of {count} shards, {len(left)} to compute")
        directory.remove_leftovers(mine)
        with _interruptible(output, notify), progress_bar("computing") as progress:
            if how.workers or how.scheduler:
                from sweep.runs.on_dask import run_on_dask

                run_on_dask(
                    directory,
                    left,
                    workers=how.workers,
                    scheduler=how.scheduler,
                    progress=progress,
                )
            else:
                run_shards(directory, left, progress)
        directory.remove_leftovers(mine)


def run_reduced(plan: Plan, output: Path, how: Sharding, notify: Callable[[str], None]) -> None:
    """Reduce a plan shard by shard and write the reduced result as one file.

    The partial result of each shard is kept in a folder next to the file until it is complete.

    Args:
        plan: The plan, with a question.
        output: The file.
        how: Which shards to compute, and in which processes. A job of an array writes no file.
        notify: Called with each line for the user.

    Raises:
        SweepError: The file exists, or as `run_into_shards`.
    """
    folder = output.with_name(output.name + SHARDS_OF)
    resumed = is_run_of(folder, plan, any_shards=how.any_shards)
    if resumed and output.is_file() and _is_made_from(output, folder):
        remove(folder)
        return
    check_writable(output, force=how.force)
    check_subgrid_fits_memory(plan)
    run_into_shards(plan, folder, how._replace(force=how.force and not resumed), notify)
    if how.only:
        notify(f"{folder}: when all jobs are done, run llm-sweep merge {folder} {output}")
        return
    write_netcdf(open_directory(folder), output, force=how.force)
    remove(folder)


def _is_made_from(output: Path, folder: Path) -> bool:
    """Whether the file was made from the shards of the folder, by a run that died removing it."""
    try:
        with open_file(output) as dataset:
            return bool(dataset.attrs.get(MARK) == Directory.load(folder).digest)
    except ResultError:
        return False


@contextmanager
def _interruptible(output: Path, notify: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        notify(
            f"{output}: complete shards are kept; run the same command again to compute the rest"
        )
        raise
