"""How values are stored in a file, and in which blocks they go there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from sweep.files.chunks import Block, block_sizes, even, stored_chunks, tiles

Compression = Literal["none", "zlib", "zstd"]
Progress = Callable[[int, int], None]

BLOCK_POINTS = 2**23
"""Points that are held in memory at a time."""


@dataclass(frozen=True)
class Storage:
    """How values are stored.

    Attributes:
        compression: `zlib` is read everywhere, `zstd` only where HDF5 finds its plugin.
        level: Effort of the compression; higher is smaller and slower.
        significant_digits: Decimal digits that quantities keep; all if `None`.
    """

    compression: Compression = "zlib"
    level: int = 1
    significant_digits: int | None = None

    def __str__(self) -> str:
        """In the words of the command line."""
        level = "" if self.compression == "none" else f" level {self.level}"
        digits = self.significant_digits
        rounded = "" if digits is None else f", {digits} significant digits"
        return f"compression {self.compression}{level}{rounded}"


def encoded(array: xr.DataArray) -> xr.Variable:
    """As it is stored: missing integers by their fill value, which stands in the attributes."""
    stored: xr.Variable = xr.conventions.encode_cf_variable(array.variable, name=array.name)
    return stored


def chunk_sizes(array: xr.DataArray, points: int) -> dict[str, int]:
    """Extents of chunks to store, each within one chunk of the source."""
    base = _base(array)
    chunk = block_sizes(base, points)
    return {axis: even(base[axis], extent) for axis, extent in chunk.items()}


def encoded_blocks(
    dataset: xr.Dataset, chunk_points: int, progress: Progress | None
) -> Iterator[tuple[str, tuple[slice, ...], np.ndarray[Any, Any]]]:
    """Name, region and stored values of every block, each within one chunk of the source."""
    total, done = sum(array.size for array in dataset.data_vars.values()), 0
    for name, array in dataset.data_vars.items():
        for block in _blocks(array, chunk_points):
            part = array.isel(block)
            yield str(name), tuple(block.values()), np.asarray(encoded(part).values)
            done += part.size
            if progress is not None:
                progress(done, total)


def _blocks(array: xr.DataArray, chunk_points: int) -> Iterator[Block]:
    sizes, base = _sizes(array), _base(array)
    block = block_sizes(base, BLOCK_POINTS, chunks=chunk_sizes(array, chunk_points))
    for outer in tiles(sizes, base):
        extent = {axis: cut.stop - cut.start for axis, cut in outer.items()}
        for inner in tiles(extent, block):
            yield {
                axis: slice(outer[axis].start + cut.start, outer[axis].start + cut.stop)
                for axis, cut in inner.items()
            }


def _base(array: xr.DataArray) -> dict[str, int]:
    sizes = _sizes(array)
    return {**sizes, **stored_chunks(array)}


def _sizes(array: xr.DataArray) -> dict[str, int]:
    return {str(axis): size for axis, size in array.sizes.items()}
