"""Writes a result region by region as a Zarr v3 store."""

import errno
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, exists_by_now, private_folder, remove_leftovers
from sweep.files.encoding import Progress, Storage, chunk_shape, encoded, encoded_regions
from sweep.files.optional import needed
from sweep.files.rounding import ALGORITHM, bits_of
from sweep.grid.thresholds import ZARR_CHUNK_CELLS

STORE = "zarr.json"
"""File that every Zarr v3 store has."""


def write_zarr(
    dataset: xr.Dataset, path: Path, storage: Storage, force: bool, progress: Progress | None
) -> None:
    """Write a Zarr v3 store atomically.

    Raises:
        ResultError: The store exists or cannot be written, or zarr is not installed.
    """
    zarr = needed("zarr", "zarr")
    _check_store(path, force=force)
    with _replacing_folder(path, force=force) as temporary, warnings.catch_warnings():
        # Labels are strings of any length, which Zarr v3 lists among its extensions.
        warnings.filterwarnings("ignore", message=".*Zarr (V3|format 3).*")
        frame = dataset.drop_vars(list(dataset.data_vars))
        frame.to_zarr(temporary, zarr_format=3, consolidated=False)
        group = zarr.open_group(temporary, mode="a")
        group.attrs.pop("coordinates", None)
        targets = {
            str(name): _create(group, array, storage) for name, array in dataset.data_vars.items()
        }
        for name, region, values in encoded_regions(dataset, ZARR_CHUNK_CELLS, progress):
            bits = bits_of(dataset[name], storage.significant_digits)
            targets[name][region] = values if bits is None else _rounded(values, bits)


def _create(group: Any, array: xr.DataArray, storage: Storage) -> Any:
    stored = encoded(array.isel({dim: slice(0, 0) for dim in array.dims}))
    bits = bits_of(array, storage.significant_digits)
    attributes = dict(stored.attrs)
    if bits is not None:
        attributes |= {"quantization_algorithm": ALGORITHM, "quantization_nsb": bits}
    attributes.pop("quantization", None)
    labels = [str(n) for n, c in array.coords.items() if n not in c.dims]
    if labels:
        attributes["coordinates"] = " ".join(labels)
    # Missing floats are NaN, which readers know without an attribute.
    floats = stored.dtype.kind == "f"
    fill = attributes.pop("_FillValue", np.nan) if floats else attributes.get("_FillValue", 0)
    chunks = chunk_shape(array, ZARR_CHUNK_CELLS) if array.size and array.ndim else array.sizes
    return group.create_array(
        str(array.name),
        shape=array.shape,
        chunks=tuple(max(1, extent) for extent in chunks.values()),
        dtype=stored.dtype,
        fill_value=fill,
        compressors=_compressor(storage),
        dimension_names=array.dims,
        attributes={str(key): _plain(value) for key, value in attributes.items()},
    )


def _compressor(storage: Storage) -> Any:
    from zarr.codecs import GzipCodec, ZstdCodec

    if storage.compression == "none":
        return None
    kind = GzipCodec if storage.compression == "zlib" else ZstdCodec
    return kind(level=storage.level)


def _rounded(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    codec = needed("numcodecs.bitround", "zarr").BitRound(keepbits=bits)
    rounded = codec.decode(codec.encode(np.ascontiguousarray(values)))
    return np.frombuffer(rounded, values.dtype).reshape(values.shape)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda number: number.tolist()))


def _check_store(path: Path, *, force: bool) -> None:
    if path.is_dir() and force:
        remove_leftovers(path)
        if not (path / STORE).is_file():
            raise ResultError(f"{path}: is a folder but not a Zarr store; choose another name")
        return
    if path.is_dir():
        raise ResultError(f"{path}: exists; choose another name or give --force")
    check_writable(path, force=force)


@contextmanager
def _replacing_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """A new folder beside `path`, which becomes it if no error occurs.

    Raises:
        ResultError: It cannot be written, or `path` exists by now and is no store to replace.
    """
    try:
        with private_folder(path) as folder:
            new, old = folder / "new", folder / "old"
            new.mkdir()
            yield new
            if force and path.is_dir():
                path.rename(old)
                if not (old / STORE).is_file():
                    old.rename(path)
            try:
                # Linux replaces an empty folder of this name, and no other.
                new.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
    except OSError as error:
        if path.exists() and error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise exists_by_now(path) from None
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from None
