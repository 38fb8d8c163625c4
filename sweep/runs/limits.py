"""Checks that a run fits in memory and on the disk."""

import shutil
from pathlib import Path

import psutil

from sweep.errors import GridError
from sweep.evaluation.plan import Plan, in_units


def check_fits_memory(plan: Plan) -> None:
    """Check that the results fit in the free memory of this machine.

    Raises:
        GridError: The results are larger.
    """
    needed, free = plan.bytes, psutil.virtual_memory().available
    if needed > free:
        raise GridError(
            f"the results need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; "
            "drop variables, shorten an axis, or give --shards"
        )


def check_subgrid_fits_memory(plan: Plan) -> None:
    """Check that the sub-grids of a reduced shard fit in the free memory of this machine.

    Raises:
        GridError: A sub-grid is larger: the reduction needs whole axes that are too long.
    """
    needed, free = plan.subgrid_bytes, psutil.virtual_memory().available
    if needed > free:
        raise GridError(
            f"--reduce {plan.question} needs all of {', '.join(plan.axes_needed_whole)} at once, "
            f"which is {in_units(needed)}, and {in_units(free)} of memory are free; drop "
            "variables, or shorten one of these axes"
        )


def check_fits_disk(plan: Plan, needed: int, folder: Path) -> None:
    """Check that `needed` bytes of a plan's results fit on the disk of `folder`.

    Raises:
        GridError: The results are larger; the message names the largest variables.
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
