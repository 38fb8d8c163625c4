"""Files of shards, each with a checksum of all its bytes: writing, verifying, reading."""

import os
import threading
from collections.abc import Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from sweep.errors import ResultError
from sweep.files.atomic import replacing
from sweep.files.netcdf import encoding, with_label_variables

SEAL = b"\nllm-sweep crc32 "
"""Start of the last bytes of a shard, after those that HDF5 reads. The HDF5 library may hang on a
damaged file, so the checksum is verified before the library opens it."""
SEAL_LENGTH = len(SEAL) + 8
AT_ONCE = 2**17
"""Bytes to read at once: they stay in the cache of a core. [byte]"""
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, AttributeError)
"""Errors that the NetCDF library raises on a file of another kind."""

_library = threading.RLock()
"""Held while a thread is inside the NetCDF library, which is not thread-safe."""


def write_shard(dataset: xr.Dataset, path: Path, identity: Mapping[str, Any]) -> None:
    """Write one shard atomically, with its checksum.

    Args:
        dataset: Values of the shard.
        path: Its file; an existing file is replaced.
        identity: Global attributes that identify the shard and its plan.

    Raises:
        ResultError: The file cannot be written.
    """
    with replacing(path) as temporary:
        with _library:
            _save(dataset.assign_attrs(identity), temporary)
        with temporary.open("r+b", buffering=0) as file:
            total = _checksum(file, temporary.stat().st_size)
            file.write(SEAL + b"%08x" % total)


def _save(dataset: xr.Dataset, path: Path) -> None:
    """Write as `netcdf.save` does, with the lock of this module.

    `to_netcdf` asks a Dask scheduler for a lock of each file, which takes longer than the file.
    """
    variables, attributes = xr.conventions.encode_dataset_coordinates(with_label_variables(dataset))
    for name, how in encoding(dataset).items():
        variables[name].encoding = how
    store = NetCDF4DataStore.open(path, mode="w", lock=_library)
    try:
        store.store(variables, attributes)
    finally:
        store.close()


def fault(path: Path, identity: Mapping[str, str]) -> str:
    """Describe the fault of a shard in words; empty if it is sound.

    Args:
        path: Its file.
        identity: Global attributes that it must have.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size - SEAL_LENGTH
            if size <= 0 or SEAL + b"%08x" % _checksum(file, size) != file.read():
                return "is damaged: its checksum differs"
        found = _attributes(path)
    except FileNotFoundError:
        return "is missing"
    except UNREADABLE as error:
        return f"cannot be read: {' '.join(str(error).split()):.160}"
    differing = [name for name, value in identity.items() if found.get(name) != value]
    return f"belongs to another run: its {differing[0]} differs" if differing else ""


def read_variable(path: Path, name: str) -> np.ndarray[Any, Any]:
    """Read all values of one variable of a shard.

    Raises:
        ResultError: The file cannot be read.
    """
    from netCDF4 import Dataset

    try:
        with _library, Dataset(path) as file:
            file.set_auto_maskandscale(False)
            return np.asarray(file[name][...])
    except UNREADABLE as error:
        raise ResultError(f"{path}: {name} cannot be read: {error}; run the sweep again") from None


def _attributes(path: Path) -> dict[str, Any]:
    from netCDF4 import Dataset

    with _library, Dataset(path) as file:
        return dict(file.__dict__)


def _checksum(file: RawIOBase, size: int) -> int:
    """CRC-32 of the first `size` bytes of a file, which is then at the byte after them."""
    total, left = 0, size
    window = memoryview(bytearray(AT_ONCE))
    while left and (count := file.readinto(window[: min(left, AT_ONCE)])):
        total, left = crc32(window[:count], total), left - count
    return total
