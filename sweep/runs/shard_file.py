"""Files of shards, each with a checksum of all its bytes: writing, verifying, reading."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import replacing
from sweep.files.netcdf import save
from sweep.specs.netcdf_library import opened
from sweep.specs.seal import fault_of_seal, seal

UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, AttributeError)
"""Errors that the NetCDF library raises on a file of another kind."""


def write_shard(dataset: xr.Dataset, path: Path, identity: Mapping[str, Any]) -> None:
    """Write one shard atomically, with its checksum.

    Args:
        dataset: Values of the shard.
        path: Its file; an existing file is replaced.
        identity: Global attributes that identify the shard and its plan.

    Raises:
        ResultError: The file cannot be written.
    """
    with replacing(path, follow=False) as temporary:
        save(dataset.assign_attrs(identity), temporary)
        seal(temporary)


def fault(path: Path, identity: Mapping[str, str]) -> str:
    """Describe the fault of a shard in words; empty if it is sound.

    Args:
        path: Its file.
        identity: Global attributes that it must have.
    """
    try:
        damage = fault_of_seal(path, needed=True)
        if damage:
            return damage
        found = _attributes(path)
    except FileNotFoundError:
        return "is missing"
    except UNREADABLE as error:
        return f"cannot be read: {' '.join(str(error).split()):.160}"
    differing = [name for name, value in identity.items() if str(found.get(name)) != value]
    return f"belongs to another run: its {differing[0]} differs" if differing else ""


def check_sound(path: Path, identity: Mapping[str, str]) -> None:
    """Check a shard before its values are used; again only once its file has changed.

    Raises:
        ResultError: It is missing, damaged or of another run.
    """
    try:
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns, tuple(identity.items()))
    except OSError:
        state = None
    if state is not None and _sound.get(path) == state:
        return
    wrong = fault(path, identity)
    if wrong:
        raise ResultError(f"{path} {wrong}; run the sweep again to compute it again")
    _sound[path] = state


_sound: dict[Path, Any] = {}
"""State of the file of each shard that was found sound."""


def read_variable(path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Read all values of one variable of a shard.

    Args:
        path: Its file.
        name: The variable.
        shape: Shape that it must have. [count]

    Raises:
        ResultError: The file cannot be read, or the variable has another shape.
    """
    try:
        with opened(path) as file:
            file.set_auto_maskandscale(False)
            if file[name].shape != shape:
                raise ValueError(f"its shape is {file[name].shape}, not {shape}")
            return np.asarray(file[name][...])
    except UNREADABLE as error:
        raise ResultError(f"{path}: {name} cannot be read: {error}; run the sweep again") from None


def _attributes(path: Path) -> dict[str, Any]:
    with opened(path) as file:
        return dict(file.__dict__)
