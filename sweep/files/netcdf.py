"""Writes a result to CF NetCDF and opens it again with its labels."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.foreign import UNREADABLE, check_attributes, check_axes
from sweep.files.rounding import CONTAINER
from sweep.grid.dataset import SCHEMA_VERSION
from sweep.grid.thresholds import VERIFIED_BYTES
from sweep.schema.axes import LABELLED
from sweep.specs.netcdf_library import LIBRARY, OpenFile, inside_library
from sweep.specs.seal import fault_of_seal, seal

LABEL_SUFFIX = "_name"
"""Suffix of the label variable of an axis: CF requires coordinate variables to be numeric."""


def write_netcdf(dataset: xr.Dataset, path: str | Path, *, force: bool = False) -> None:
    """Write `dataset` atomically as one CF NetCDF file.

    It is written under a temporary name and renamed, so that no reader sees an incomplete file.

    Args:
        dataset: A result of `run`.
        path: File to write.
        force: Whether an existing file may be replaced.

    Raises:
        ResultError: The file exists, its folder does not, or it cannot be written.
    """
    path = Path(path)
    check_writable(path, force=force)
    with replacing(path, force=force) as temporary:
        save(dataset, temporary)
        seal(temporary)


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write `dataset` to `path` directly, replacing an existing file.

    `to_netcdf` holds no lock while it opens a file and writes attributes, and asks a Dask scheduler
    for a lock of each file, which takes longer than a small file.
    """
    variables, attributes = xr.conventions.encode_dataset_coordinates(with_label_variables(dataset))
    how = encoding(dataset)
    for name in how:
        variables[name].encoding = how[name]
    writer = _Writer()
    with inside_library():
        store = NetCDF4DataStore.open(path, mode="w", lock=LIBRARY)
    try:
        with LIBRARY:
            store.store(variables, attributes, frozenset(how), writer)
        writer.write_lazy()
    finally:
        store.close()


class _Writer:
    """Writes arrays in memory when a store adds them, and those of Dask when asked to."""

    def __init__(self) -> None:
        """Begin without arrays of Dask."""
        self._lazy: list[tuple[Any, Any]] = []

    def add(self, source: Any, target: Any) -> None:
        """Write `source` to the variable `target` of a file, now or, if it is lazy, later."""
        if isinstance(source, np.ndarray):
            target[...] = source
        else:
            self._lazy.append((source, target))

    def write_lazy(self) -> None:
        """Compute and write the lazy arrays; the threads of Dask lock the library themselves."""
        for source, target in self._lazy:
            source.store(target, lock=False)


class Reading:
    """The lock of the library for values of one file, whose damage becomes an error of one line."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path

    def acquire(self, blocking: bool = True) -> bool:
        """As `Library.acquire`."""
        return LIBRARY.acquire(blocking)

    def release(self) -> None:
        """As `Library.release`."""
        LIBRARY.release()

    def __enter__(self) -> None:
        """Take the lock."""
        LIBRARY.acquire()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Give the lock back.

        Raises:
            ResultError: The library cannot read the values.
        """
        LIBRARY.release()
        if isinstance(error, RuntimeError | OSError):
            reason = " ".join(str(error).split())
            raise ResultError(f"{self._path}: its values cannot be read: {reason:.160}") from None


def open_lazily(path: Path, **options: Any) -> xr.Dataset:
    """Open a NetCDF file with xarray, which holds the lock of the library while it reads values.

    Values are read when they are used, and raise `ResultError` if they are damaged.

    Args:
        path: The file.
        options: How to decode it, as `xarray.open_dataset` takes them.

    Raises:
        OSError: The library cannot read the file; other errors of `UNREADABLE` if its content
            contradicts itself.
    """
    with inside_library():
        store = NetCDF4DataStore(OpenFile(path), lock=Reading(path))
        try:
            return xr.open_dataset(store, **options)
        except BaseException:
            store.close()
            raise


def open_file(path: str | Path) -> xr.Dataset:
    """Open one result file for selection by label; values are read when used.

    The checksum of a file is verified first, unless the file is larger than `VERIFIED_BYTES`.

    Raises:
        ResultError: The file does not exist, cannot be read, is damaged, or is no result of this
            package.
    """
    path = Path(path)
    if not path.exists():
        raise ResultError(f"{path}: no such file")
    try:
        damage = fault_of_seal(path, needed=False, most=VERIFIED_BYTES)
        if damage:
            raise ResultError(f"{path} {damage}; write it again")
        raw = open_lazily(path, decode_cf=False, drop_variables=CONTAINER)
        try:
            check_attributes(raw)
            dataset = xr.decode_cf(raw, decode_times=False)
            _forget_packing(dataset)
        except BaseException:
            raw.close()
            raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ResultError(f"{path}: not a readable NetCDF file: {reason:.160}") from None
    schema = dataset.attrs.get("llm_sweep_schema")
    if schema is None:
        dataset.close()
        raise ResultError(f"{path}: not a result of llm-sweep; it has no llm_sweep_schema")
    if not isinstance(schema, int | np.integer) or schema < 1:
        dataset.close()
        raise ResultError(f"{path}: llm_sweep_schema is {schema!r}, not a positive whole number")
    if schema > SCHEMA_VERSION:
        dataset.close()
        raise ResultError(
            f"{path}: written by a newer llm-sweep (schema {schema}); this one reads up to "
            f"{SCHEMA_VERSION}: upgrade it"
        )
    try:
        labelled = with_labels(dataset)
        check_axes(labelled)
    except UNREADABLE as error:
        dataset.close()
        raise ResultError(f"{path}: damaged: {' '.join(str(error).split()):.160}") from None
    # A dataset that is derived from an open one does not close its file.
    if labelled is not dataset:
        labelled.set_close(dataset.close)
    return labelled


def _forget_packing(dataset: xr.Dataset) -> None:
    """Let values that another program packed into integers be written as they are read."""
    for variable in dataset.variables.values():
        if not {"scale_factor", "add_offset"}.isdisjoint(variable.encoding):
            variable.encoding = {}


def with_labels(dataset: xr.Dataset) -> xr.Dataset:
    """Turn the label variables of a file back into indexes."""
    for dim in LABELLED:
        label = dim + LABEL_SUFFIX
        if label in dataset.variables:
            if dataset[label].dims != (dim,):
                raise ValueError(f"{label} does not label the axis {dim}")
            dataset = dataset.rename_vars({dim + LABEL_SUFFIX: dim}).set_xindex(dim)
    return dataset


def with_label_variables(dataset: xr.Dataset) -> xr.Dataset:
    """Turn labels into auxiliary variables, as CF requires in a file."""
    for dim in LABELLED:
        if dim in dataset.dims:
            dataset = dataset.reset_index(dim).rename_vars({dim: dim + LABEL_SUFFIX})
    return dataset


def encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Encoding of the variables of a file: coordinates have no fill value."""
    coordinates = {name: {"_FillValue": None} for name in dataset.coords if name not in LABELLED}
    return {str(k): v for k, v in coordinates.items()}
