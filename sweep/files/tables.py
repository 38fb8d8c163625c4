"""Writes a small result as a table, one row for each place along every axis."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.categories import labels
from sweep.files.chunks import block_sizes, tiles
from sweep.files.encoding import Progress, Storage
from sweep.files.optional import needed

MOST_ROWS = 5_000_000
"""Rows beyond which a table is the wrong tool."""
ROWS_AT_ONCE = 500_000


def write_table(
    dataset: xr.Dataset, path: Path, storage: Storage, force: bool, progress: Progress | None
) -> None:
    """Write Parquet or CSV, whole or not at all; categories as words.

    Raises:
        ResultError: There are too many rows, it exists or cannot be written, pyarrow is missing,
            or rounding was asked for.
    """
    rows = prod(dataset.sizes.values())
    if rows > MOST_ROWS:
        axes = " × ".join(f"{size} {axis}" for axis, size in dataset.sizes.items())
        raise ResultError(
            f"{path}: {rows:,} rows ({axes}) are too many for a table, which may have "
            f"{MOST_ROWS:,}; choose by --select and --variables, or write .nc or .zarr"
        )
    if storage.significant_digits is not None:
        raise ResultError(f"{path}: --significant-digits goes with .nc and .zarr")
    check_writable(path, force=force)
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    if write is _write_parquet:
        needed("pyarrow.parquet", "parquet")
    with replacing(path) as beside:
        write(_frames(dataset, progress), beside, storage)


def _frames(dataset: xr.Dataset, progress: Progress | None) -> Iterator[pd.DataFrame]:
    sizes = {str(axis): size for axis, size in dataset.sizes.items()}
    cuts = list(tiles(sizes, block_sizes(sizes, ROWS_AT_ONCE))) or [{}]
    for done, cut in enumerate(cuts, start=1):
        yield _frame(dataset.isel(cut))
        if progress is not None:
            progress(done, len(cuts))


def _frame(part: xr.Dataset) -> pd.DataFrame:
    part = part.compute()
    for name, array in part.data_vars.items():
        if "flag_values" in array.attrs:
            part[name] = labels(array)
    if not part.dims:
        return pd.DataFrame([{str(name): array.item() for name, array in part.data_vars.items()}])
    frame = part.to_dataframe(dim_order=list(part.dims)).reset_index()
    return frame[[*part.dims, *(n for n in frame.columns if n not in part.dims)]]


def _write_csv(frames: Iterator[pd.DataFrame], path: Path, storage: Storage) -> None:
    for number, frame in enumerate(frames):
        frame.to_csv(path, mode="a" if number else "w", header=not number, index=False)


def _write_parquet(frames: Iterator[pd.DataFrame], path: Path, storage: Storage) -> None:
    parquet: Any = needed("pyarrow.parquet", "parquet")
    arrow: Any = needed("pyarrow", "parquet")
    codec = {"none": "none", "zlib": "gzip", "zstd": "zstd"}[storage.compression]
    level = {} if codec == "none" else {"compression_level": storage.level}
    first = arrow.Table.from_pandas(next(frames), preserve_index=False)
    with parquet.ParquetWriter(path, first.schema, compression=codec, **level) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(
                arrow.Table.from_pandas(frame, schema=first.schema, preserve_index=False)
            )
