"""Files of shards: sealed with a checksum over all a reader can see, verified, read in part."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.netcdf import replacing, save

if TYPE_CHECKING:
    from netCDF4 import Dataset as File

CHECKSUM = "llm_sweep_checksum"
"""Global attribute with the CRC-32 of everything else that a reader can see."""
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, MemoryError)
"""What the NetCDF library raises over a damaged file."""

_library = threading.RLock()
"""Held while a thread is inside the NetCDF library, which serves one at a time."""


def write_shard(dataset: xr.Dataset, path: Path, identity: Mapping[str, Any]) -> None:
    """Write one shard whole or not at all, with its checksum.

    Args:
        dataset: What it holds.
        path: Its file; one that stands there is replaced.
        identity: Global attributes that tell which shard of which plan it is.

    Raises:
        ResultError: It cannot be written.
    """
    with _library, replacing(path) as beside:
        save(dataset.assign_attrs(identity), beside)
        with _opened(beside, "a") as file:
            file.setncattr(CHECKSUM, checksum(file))


def fault(path: Path, identity: Mapping[str, Any]) -> str:
    """What is wrong with a shard, in words; nothing where it is sound.

    Args:
        path: Its file.
        identity: Global attributes that it must have.
    """
    if not path.is_file():
        return "is missing"
    try:
        with _library, _opened(path) as file:
            found = {name: _plain(value) for name, value in file.__dict__.items()}
            if CHECKSUM not in found:
                return "is no shard: it has no checksum"
            if found[CHECKSUM] != checksum(file):
                return "is damaged: its checksum differs"
    except UNREADABLE as error:
        return f"is damaged: {' '.join(str(error).split()):.160}"
    differing = [name for name, value in identity.items() if found.get(name) != _plain(value)]
    return f"belongs to another run: its {differing[0]} differs" if differing else ""


def read_variable(path: Path, name: str) -> np.ndarray[Any, Any]:
    """All values of one variable of a shard.

    Raises:
        ResultError: It cannot be read.
    """
    try:
        with _library, _opened(path) as file:
            return np.asarray(file[name][...])
    except UNREADABLE as error:
        raise ResultError(f"{path}: {name} cannot be read: {error}; run again") from None


def checksum(file: "File") -> str:
    """CRC-32 over names, dimensions, attributes, types and values, but the checksum itself."""
    sizes = [[d.name, d.size, d.isunlimited()] for d in file.dimensions.values()]
    attributes = {n: _plain(v) for n, v in file.__dict__.items() if n != CHECKSUM}
    others = [[*file.groups], [*file.cmptypes], [*file.vltypes], [*file.enumtypes]]
    total = crc32(_bytes([sizes, attributes, others]))
    for name, variable in file.variables.items():
        own = {key: _plain(value) for key, value in variable.__dict__.items()}
        kind = [str(variable.dtype), variable.endian()]
        total = crc32(_bytes([name, variable.dimensions, kind, own]), total)
        values = variable[...]
        text = not isinstance(values, np.ndarray) or values.dtype == object
        content = _bytes(_plain(values)) if text else np.ascontiguousarray(values).data
        total = crc32(content, total)
    return f"{total:08x}"


def _opened(path: Path, mode: Any = "r") -> "File":
    """A file whose values come as they are stored, unmasked."""
    from netCDF4 import Dataset

    file = Dataset(path, mode)
    file.set_auto_maskandscale(False)
    return file


def _plain(value: Any) -> Any:
    """An attribute or label as JSON has it, its type kept beside a number."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist() if value.dtype == object else [value.dtype.str, value.tolist()]
    return [type(value).__name__, value] if isinstance(value, int | float) else value


def _bytes(told: Any) -> bytes:
    return json.dumps(told, default=repr).encode()
