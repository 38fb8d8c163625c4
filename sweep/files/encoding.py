"""Storage of values in a file, and the regions in which they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.files.chunks import dividing_extent, regions_in_memory, stored_chunks
from sweep.files.foreign import UNREADABLE
from sweep.grid import thresholds
from sweep.grid.tiling import Region, Tiling, slices

Compression = Literal["none", "zlib", "zstd"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Storage:
    """Compression and rounding of stored values.

    Attributes:
        compression: `zlib` is read everywhere, `zstd` only where HDF5 finds its plugin.
        level: Effort of the compression; higher is smaller and slower.
        significant_digits: Decimal digits that quantities keep; all if `None`.
    """

    compression: Compression = "zlib"
    level: int = 1
    significant_digits: int | None = None

    def __str__(self) -> str:
        """Describe the storage in the words of the command line."""
        level = "" if self.compression == "none" else f" level {self.level}"
        digits = self.significant_digits
        rounded = "" if digits is None else f", {digits} significant digits"
        return f"compression {self.compression}{level}{rounded}"


def encoded(array: xr.DataArray) -> xr.Variable:
    """The array as it is stored: missing integers as their fill value, given in its attributes."""
    stored: xr.Variable = xr.conventions.encode_cf_variable(array.variable, name=array.name)
    return stored


def chunk_shape(array: xr.DataArray, cells: int) -> dict[str, int]:
    """Lengths of a chunk of at most `cells` cells, which lies within one chunk of the source."""
    source = _source_shape(array)
    chunk = regions_in_memory(source, cells).shape
    return {axis: dividing_extent(source[axis], extent) for axis, extent in chunk.items()}


def encoded_regions(
    dataset: xr.Dataset, chunk_cells: int, progress: Progress | None
) -> Iterator[tuple[str, tuple[slice, ...], np.ndarray[Any, Any]]]:
    """Yield name, position and stored values of each region of every variable.

    Args:
        dataset: The result, in memory or lazy.
        chunk_cells: Most cells of a chunk to store. [count]
        progress: Called with cells done and cells in all.
    """
    total, done = sum(array.size for array in dataset.data_vars.values()), 0
    for name, array in dataset.data_vars.items():
        for region in _regions(array, chunk_cells):
            where = slices(region)
            subgrid = array.isel(where)
            yield str(name), tuple(where.values()), _read(subgrid)
            done += subgrid.size
            if progress is not None:
                progress(done, total)


def _read(subgrid: xr.DataArray) -> np.ndarray[Any, Any]:
    """Stored values of a region.

    Raises:
        ResultError: The source is damaged; the output is not to blame.
    """
    try:
        return np.asarray(encoded(subgrid).values)
    except UNREADABLE as error:
        raise ResultError(
            f"variable {str(subgrid.name)!r} of the source cannot be read: {error!s:.160}"
        ) from None


def _regions(array: xr.DataArray, chunk_cells: int) -> Iterator[Region]:
    """Yield regions that fit in memory, each within one chunk of the source."""
    source = _source_shape(array)
    chunk = chunk_shape(array, chunk_cells)
    extents = regions_in_memory(source, thresholds.CELLS_AT_ONCE, chunks=chunk).shape
    for outer in Tiling.strided(_sizes(array), source):
        lengths = {axis: len(indices) for axis, indices in outer.items()}
        for inner in Tiling.strided(lengths, extents):
            yield {axis: outer[axis][where.start : where.stop] for axis, where in inner.items()}


def _source_shape(array: xr.DataArray) -> dict[str, int]:
    """Lengths of a chunk of the source, or of the array if it is in memory. [count]"""
    return {**_sizes(array), **stored_chunks(array)}


def _sizes(array: xr.DataArray) -> dict[str, int]:
    return {str(axis): size for axis, size in array.sizes.items()}
