"""Files of shards: sealed with a checksum of all their bytes, verified, read in part."""

import os
import threading
from collections.abc import Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import replacing
from sweep.files.netcdf import encoding, with_label_variables

SEAL = b"\nllm-sweep crc32 "
"""Begins the last bytes of a shard. They stand behind what HDF5 reads, so that a damaged file is
known before the library sees it, which may hang over one."""
SEAL_LENGTH = len(SEAL) + 8
AT_ONCE = 2**17
"""Bytes to read at once: as many as stay in the cache of a core. [byte]"""
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, AttributeError)
"""What the NetCDF library raises over a file that is none of ours."""

_library = threading.RLock()
"""Held while a thread is inside the NetCDF library, which serves one at a time."""


def write_shard(dataset: xr.Dataset, path: Path, identity: Mapping[str, Any]) -> None:
    """Write one shard whole or not at all, and seal it.

    Args:
        dataset: What it holds.
        path: Its file; one that stands there is replaced.
        identity: Global attributes that tell which shard of which plan it is.

    Raises:
        ResultError: It cannot be written.
    """
    with replacing(path) as beside:
        with _library:
            _save(dataset.assign_attrs(identity), beside)
        with beside.open("r+b", buffering=0) as file:
            total = _checksum(file, beside.stat().st_size)
            file.write(SEAL + b"%08x" % total)


def _save(dataset: xr.Dataset, path: Path) -> None:
    """`netcdf.save` for NumPy arrays, without the lock that xarray asks of a Dask scheduler."""
    from xarray.backends import NetCDF4DataStore

    store = NetCDF4DataStore.open(path, mode="w", lock=_library)
    try:
        with_label_variables(dataset).dump_to_store(store, encoding=encoding(dataset))
    finally:
        store.close()


def fault(path: Path, identity: Mapping[str, str]) -> str:
    """What is wrong with a shard, in words; nothing where it is sound.

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
    """All values of one variable of a shard.

    Raises:
        ResultError: It cannot be read.
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
    """CRC-32 of the first `size` bytes of a file, which is left standing behind them."""
    total, left = 0, size
    window = memoryview(bytearray(AT_ONCE))
    while left and (count := file.readinto(window[: min(left, AT_ONCE)])):
        total, left = crc32(window[:count], total), left - count
    return total
