"""Writes results as one file, region by region, so that memory does not grow with them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import xarray as xr

from sweep.errors import ResultError
from sweep.files.encoding import Progress, Storage
from sweep.grid.dataset import package_version

FORMATS = (".nc", ".zarr", ".parquet", ".csv")


class Writer(Protocol):
    """Writes a result in one format, atomically."""

    def __call__(
        self,
        dataset: xr.Dataset,
        path: Path,
        storage: Storage,
        force: bool,
        progress: Progress | None,
    ) -> None:
        """Write the result to `path`."""


def export(
    dataset: xr.Dataset,
    path: Path,
    storage: Storage | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a result as NetCDF, Zarr, Parquet or CSV, chosen by the suffix of `path`.

    Args:
        dataset: A result, in memory or lazy.
        path: File to write, or folder for Zarr.
        storage: Compression and rounding.
        force: Whether an existing file or store may be replaced.
        progress: Called with cells done and cells in all.

    Raises:
        ResultError: The file exists, cannot be written, or has too many rows for a table.
    """
    storage = storage or Storage()
    write = _writer(path)
    dataset = dataset.assign_attrs(history=_history(dataset, storage))
    write(dataset, path, storage, force, progress)


def _writer(path: Path) -> Writer:
    if path.suffix == ".nc":
        from sweep.files.netcdf_stream import write_netcdf_streamed

        return write_netcdf_streamed
    if path.suffix == ".zarr":
        from sweep.files.zarr import write_zarr

        return write_zarr
    if path.suffix in (".parquet", ".csv"):
        from sweep.files.tables import write_table

        return write_table
    raise ResultError(f"{path}: name a file that ends in {', '.join(FORMATS)}")


def _history(dataset: xr.Dataset, storage: Storage) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = str(dataset.attrs.get("history", ""))
    return f"{before}\n{now} exported by llm-sweep {package_version()}, {storage}".strip()
