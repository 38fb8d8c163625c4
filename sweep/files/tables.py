"""Writes a small result as a table, one row for each cell."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.categories import labels
from sweep.files.chunks import regions_in_memory
from sweep.files.encoding import Progress, Storage
from sweep.files.foreign import UNREADABLE
from sweep.files.optional import needed
from sweep.grid import thresholds
from sweep.grid.tiling import slices

MOST_ROWS = 5_000_000
"""Most rows of a table; beyond them it is the wrong format. [count]"""


def write_table(
    dataset: xr.Dataset, path: Path, storage: Storage, force: bool, progress: Progress | None
) -> None:
    """Write Parquet or CSV atomically, categories as words.

    Raises:
        ResultError: There are too many rows, the file exists or cannot be written, pyarrow is not
            installed, or `storage` asks for rounding.
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
    with replacing(path, force=force) as temporary:
        write(_frames(dataset, progress), temporary, storage)


def _frames(dataset: xr.Dataset, progress: Progress | None) -> Iterator[pd.DataFrame]:
    sizes = {str(axis): size for axis, size in dataset.sizes.items()}
    regions = regions_in_memory(sizes, thresholds.ROWS_AT_ONCE)
    for done, region in enumerate(regions, start=1):
        yield _frame(dataset.isel(slices(region)))
        if progress is not None:
            progress(done, regions.count)


def _frame(subgrid: xr.Dataset) -> pd.DataFrame:
    try:
        subgrid = subgrid.compute()
    except UNREADABLE as error:
        raise ResultError(f"the source cannot be read: {error!s:.160}") from None
    for name, array in subgrid.data_vars.items():
        if "flag_values" in array.attrs:
            subgrid[name] = labels(array)
    if not subgrid.dims:
        row = {str(name): array.item() for name, array in subgrid.data_vars.items()}
        return pd.DataFrame([row])
    frame = subgrid.to_dataframe(dim_order=list(subgrid.dims)).reset_index()
    return frame[[*subgrid.dims, *(n for n in frame.columns if n not in subgrid.dims)]]


def _write_csv(frames: Iterator[pd.DataFrame], path: Path, storage: Storage) -> None:
    for number, frame in enumerate(frames):
        plain = without_formulas(frame)
        plain.to_csv(path, mode="a" if number else "w", header=not number, index=False)


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First signs of a cell that spreadsheets compute [1].

[1] OWASP, "CSV Injection".
"""


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would compute."""

    def plain(value: Any) -> Any:
        computed = isinstance(value, str) and value.startswith(FORMULA)
        return f"'{value}" if computed else value

    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    return frame.assign(**{str(name): frame[name].map(plain) for name in texts}).rename(
        columns=plain
    )


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
