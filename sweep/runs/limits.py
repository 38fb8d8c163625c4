"""Checks that a run fits in memory and on the disk."""

import shutil
from pathlib import Path

import psutil

from sweep.errors import GridError
from sweep.evaluation.plan import Plan, in_units


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
