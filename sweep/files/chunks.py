"""Regions of a stored result that fit in memory, along the chunks it is stored in."""

from collections.abc import Collection, Mapping, Sequence
from math import prod

import xarray as xr

from sweep.grid.tiling import Tiling, split_by_extent


def regions_in_memory(
    sizes: Mapping[str, int],
    cells: int,
    *,
    whole: Collection[str] = (),
    chunks: Mapping[str, int] | None = None,
) -> Tiling:
    """Divide a grid into regions of at most `cells` cells, if the whole axes allow it.

    Args:
        sizes: Length of each axis; the first axes are divided first. [count]
        cells: Most cells of a region. [count]
        whole: Axes that are not divided.
        chunks: Length of a stored chunk along some axes; a region contains whole chunks if it
            can. [count]
    """

    def extents(axis: str) -> Sequence[int]:
        return _extents(sizes[axis], (chunks or {}).get(axis, 1))

    return split_by_extent(
        sizes,
        lambda tiling: prod(tiling.shape.values()) <= cells,
        [axis for axis in sizes if axis not in whole],
        extents,
    )


def _extents(size: int, chunk: int) -> Sequence[int]:
    """Lengths to try: the whole axis, whole chunks, then less than a chunk. [count]"""
    if chunk <= 1:
        return range(size, 0, -1)
    chunks = range((size - 1) // chunk * chunk, chunk, -chunk)
    return [size, *chunks, *range(min(chunk, size - 1), 0, -1)]


def stored_chunks(dataset: xr.Dataset | xr.DataArray) -> dict[str, int]:
    """Length of the chunks along each axis of a lazily joined dataset; empty for other data."""
    try:
        return {str(axis): chunks[0] for axis, chunks in dataset.chunksizes.items()}
    except ValueError:
        return {}


def dividing_extent(size: int, extent: int) -> int:
    """Length near `extent`, and no larger, that divides `size`; `extent` if there is none."""
    fewest = -(-size // max(extent, 1))
    for count in range(fewest, 2 * fewest + 1):
        if count and size % count == 0:
            return size // count
    return extent
