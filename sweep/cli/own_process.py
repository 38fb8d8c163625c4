"""Leaves out packages that one command does not need, and that take long to import."""

import sys
from typing import Any

_own: list[str] = []
"""The command that this process runs and nothing else, if it does."""


def runs_only(program: str) -> None:
    """Say that this process ends with the command."""
    _own[:] = [program]


def leave_out_dask() -> None:
    """Let Dask count as not installed, where this process runs a command without it.

    xarray imports Dask with the first Dataset, and `distributed` with the first file, to find out
    whether an array is one of theirs; that takes half a second. It has to be called before xarray
    is imported, which looks for Dask then.
    """
    if _own and "dask" not in sys.modules and "xarray" not in sys.modules:
        # None is how Python knows that a package must not be imported.
        modules: dict[str, Any] = sys.modules
        modules["dask"] = None
