"""Brings a plan to disk, as one file or as a directory of shards, with a bar to watch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweep.errors import ResultError
from sweep.evaluation.plan import Plan, in_units
from sweep.files.atomic import check_writable
from sweep.files.netcdf import open_file, write_netcdf
from sweep.runs.limits import check_fits_disk, check_piece_fits_memory
from sweep.runs.open_results import open_directory
from sweep.runs.plan_file import MARK
from sweep.runs.progress import progress_bar
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, Part, begun, bytes_held, holds, remove
from sweep.runs.shards import run_shards

SHARDS_OF = ".shards"
"""What the folder of a reduced run has behind the name of the file that is to be made."""


class Sharding(NamedTuple):
    """How shards are to be computed.

    Attributes:
        only: The part of the shards to compute beside other runs; all if not given.
        workers: Processes to compute them in; this one if not given. [count]
        scheduler: Address of a Dask scheduler whose workers compute them.
        any_cut: Whether a cut that stands there is kept.
        force: Whether what another plan left there is removed.
    """

    only: Part | None = None
    workers: int | None = None
    scheduler: str | None = None
    any_cut: bool = False
    force: bool = False


def run_into_file(plan: Plan, output: Path, *, force: bool) -> int:
    """Compute a plan at once and write one file; its values' size. [byte]

    Raises:
        SweepError: It does not fit memory or disk, or the file cannot be written.
    """
    check_writable(output, force=force)
    check_fits_disk(plan, plan.bytes, output.parent)
    with progress_bar("computing") as progress:
        dataset = run_plan(plan, progress)
    write_netcdf(dataset, output, force=force)
    return int(dataset.nbytes)


def run_into_shards(plan: Plan, output: Path, how: Sharding, tell: Callable[[str], None]) -> None:
    """Compute the shards of a plan that do not stand in `output` yet.

    Args:
        plan: What to compute.
        output: The folder.
        how: By whom, and what may stand there.
        tell: Called with each line worth a reader's while.

    Raises:
        SweepError: The folder is another plan's or in use, the disk is too small, or a shard
            cannot be computed or written; those that stand are kept.
    """
    check_fits_disk(plan, plan.stored_bytes - bytes_held(output), output)
    with begun(output, plan, part=how.only, any_cut=how.any_cut, force=how.force) as directory:
        mine = directory.shards(how.only)
        with progress_bar("verifying") as progress:
            left = directory.unfinished(mine, tell, progress)
        count, size = directory.recorded.cut.shards, in_units(directory.plan.stored_bytes)
        what = size if plan.question is None else f"answers to {plan.question}"
        tell(f"{output}: {what} in a folder of {count} shards, {len(left)} to compute")
        directory.remove_leftovers(mine)
        with _interruptible(output, tell), progress_bar("computing") as progress:
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


def run_reduced(plan: Plan, output: Path, how: Sharding, tell: Callable[[str], None]) -> None:
    """Reduce a plan shard by shard, and write the answer of them all as one file.

    What was found in each shard is kept in a folder beside the file until the file stands.

    Args:
        plan: What to compute, and the question.
        output: The file.
        how: By whom, and what may stand there. A part of the shards alone writes no file.
        tell: Called with each line worth a reader's while.

    Raises:
        SweepError: The file exists, or as `run_into_shards`.
    """
    folder = output.with_name(output.name + SHARDS_OF)
    going_on = holds(folder, plan, any_cut=how.any_cut)
    if going_on and output.is_file() and _is_answer(output, folder):
        remove(folder)
        return
    check_writable(output, force=how.force)
    check_piece_fits_memory(plan)
    run_into_shards(plan, folder, how._replace(force=how.force and not going_on), tell)
    if how.only:
        tell(f"{folder}: when all parts are done, llm-sweep merge {folder} {output}")
        return
    write_netcdf(open_directory(folder), output, force=how.force)
    remove(folder)


def _is_answer(output: Path, folder: Path) -> bool:
    """Whether the file was made from the shards of the folder, which a run died removing."""
    try:
        with open_file(output) as dataset:
            return bool(dataset.attrs.get(MARK) == Directory.load(folder).digest)
    except ResultError:
        return False


@contextmanager
def _interruptible(output: Path, tell: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell(f"{output}: what is done is kept; the same command again computes the rest")
        raise
