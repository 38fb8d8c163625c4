"""Cuts an outer product into blocks that fit in memory, along the chunks it is stored in."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from math import prod

import xarray as xr

Block = dict[str, slice]


def block_sizes(
    sizes: Mapping[str, int],
    budget: int,
    *,
    whole: Collection[str] = (),
    chunks: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Extent of a block of at most `budget` points along each axis, if the whole axes allow it.

    Args:
        sizes: Places along each axis; the first axes are cut first.
        budget: Points. [1]
        whole: Axes that are not cut.
        chunks: Extent of a stored chunk along some axes; a block holds whole ones if it can.
    """
    block = dict(sizes)
    for axis in block:
        points = prod(block.values())
        if points <= budget:
            break
        if axis not in whole:
            extent = max(1, block[axis] * budget // points)
            chunk = (chunks or {}).get(axis, 1)
            block[axis] = extent - extent % chunk if extent > chunk else extent
    return block


def tiles(sizes: Mapping[str, int], block: Mapping[str, int]) -> Iterator[Block]:
    """The blocks, the last axis fastest."""
    cuts = [
        [slice(start, min(start + block[axis], size)) for start in range(0, size, block[axis])]
        for axis, size in sizes.items()
    ]
    for cut in product(*cuts):
        yield dict(zip(sizes, cut, strict=True))


def stored_chunks(dataset: xr.Dataset | xr.DataArray) -> dict[str, int]:
    """Extent of the chunks along each axis of a lazily joined dataset; empty for other data."""
    try:
        return {str(axis): chunks[0] for axis, chunks in dataset.chunksizes.items()}
    except ValueError:
        return {}


def even(size: int, extent: int) -> int:
    """An extent near `extent` and no larger that divides `size`, if there is one."""
    fewest = -(-size // max(extent, 1))
    for count in range(fewest, 2 * fewest + 1):
        if count and size % count == 0:
            return size // count
    return extent
