"""Brings a plan to disk, as one file or as a directory of shards, with a bar to watch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweep.directory import Part, begun, bytes_held
from sweep.execution import check_fits_disk, run_plan, run_shards
from sweep.netcdf import check_writable, write_netcdf
from sweep.plan import Plan, in_units
from sweep.progress import progress_bar


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
        size, count = in_units(directory.plan.stored_bytes), directory.recorded.cut.shards
        tell(f"{output}: {size} in a folder of {count} shards, {len(left)} to compute")
        directory.remove_leftovers(mine)
        with _interruptible(output, tell), progress_bar("computing") as progress:
            if how.workers or how.scheduler:
                from sweep.cluster import run_on_dask

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


@contextmanager
def _interruptible(output: Path, tell: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell(f"{output}: what is done is kept; the same command again computes the rest")
        raise
