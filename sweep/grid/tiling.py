"""Division of a grid into regions: shards of a run, tiles of the kernel, chunks of storage.

A *shard* is a file, a *tile* a kernel call, a *chunk* a storage unit. Each is a region of one
`Tiling`: pure arithmetic of lengths and indices.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

Region = Mapping[str, range]
"""Index range of each axis."""


@dataclass(frozen=True)
class Split:
    """Division of one axis into consecutive ranges.

    Attributes:
        size: Length of the axis. [count]
        count: Number of ranges. [count]
        extent: Length of every range but the last, which may be shorter; 0 for ranges whose
            lengths differ by at most one. [count]
    """

    size: int
    count: int = 1
    extent: int = 0

    @classmethod
    def strided(cls, size: int, extent: int) -> "Split":
        """Ranges of one length, the last shorter if the axis does not divide."""
        extent = max(extent, 1)
        return cls(size, max(-(-size // extent), 1), extent)

    @property
    def longest(self) -> int:
        """Length of the longest range. [count]"""
        return min(self.extent, self.size) or -(-self.size // self.count)

    def indices(self, number: int) -> range:
        """Range by its number, counted from 0."""
        return range(self._start(number), self._start(number + 1))

    def overlapping(self, indices: range) -> Iterator[range]:
        """Ranges that share at least one index with `indices`."""
        if indices:
            first, last = self._number(indices[0]), self._number(indices[-1])
            yield from map(self.indices, range(first, last + 1))

    def _start(self, number: int) -> int:
        if self.extent:
            return min(number * self.extent, self.size)
        return self.size * number // self.count

    def _number(self, index: int) -> int:
        """Number of the range that contains an index."""
        if self.extent:
            return index // self.extent
        return ((index + 1) * self.count - 1) // self.size


@dataclass(frozen=True)
class Tiling:
    """Axes divided into ranges; regions are the outer product of the ranges.

    Regions are counted from 0, the last axis fastest.

    Attributes:
        axes: Division of each axis.
    """

    axes: Mapping[str, Split]

    @classmethod
    def even(cls, sizes: Mapping[str, int], counts: Mapping[str, int]) -> "Tiling":
        """As many ranges of each axis as `counts` says, one where it says nothing.

        Lengths of the ranges of one axis differ by at most one.
        """
        return cls({axis: Split(size, counts.get(axis, 1)) for axis, size in sizes.items()})

    @classmethod
    def strided(cls, sizes: Mapping[str, int], extents: Mapping[str, int]) -> "Tiling":
        """Regions of one shape, those at the end of an axis smaller if it does not divide."""
        return cls({axis: Split.strided(size, extents[axis]) for axis, size in sizes.items()})

    @property
    def count(self) -> int:
        """Number of regions. [count]"""
        return prod(self.counts.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis. [count]"""
        return {axis: split.size for axis, split in self.axes.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Number of ranges of each axis. [count]"""
        return {axis: split.count for axis, split in self.axes.items()}

    @property
    def shape(self) -> dict[str, int]:
        """Length of each axis in the largest region. [count]"""
        return {axis: split.longest for axis, split in self.axes.items()}

    def lengths(self, axis: str) -> tuple[int, ...]:
        """Length of each range of an axis. [count]"""
        split = self.axes[axis]
        return tuple(len(split.indices(number)) for number in range(split.count))

    def region(self, number: int) -> dict[str, range]:
        """One region by its number."""
        numbers = np.unravel_index(number, tuple(self.counts.values()))
        return {
            axis: split.indices(int(each))
            for (axis, split), each in zip(self.axes.items(), numbers, strict=True)
        }

    def number(self, numbers: Mapping[str, int]) -> int:
        """Number of a region from the number of its range along each axis, 0 where not given."""
        of_axes = [numbers.get(axis, 0) for axis in self.axes]
        return int(np.ravel_multi_index(of_axes, tuple(self.counts.values())))

    def overlapping(self, region: Region) -> Iterator[dict[str, range]]:
        """Regions that share at least one cell with `region`."""
        ranges = [list(split.overlapping(region[axis])) for axis, split in self.axes.items()]
        for each in product(*ranges):
            yield dict(zip(self.axes, each, strict=True))

    def __iter__(self) -> Iterator[dict[str, range]]:
        """All regions, in the order of their numbers."""
        splits = self.axes.values()
        for each in product(*(map(split.indices, range(split.count)) for split in splits)):
            yield dict(zip(self.axes, each, strict=True))

    def padded(self, region: Region) -> dict[str, range]:
        """A region of this tiling extended to the largest shape by cells of its neighbours."""
        found = {}
        for axis, split in self.axes.items():
            start = min(region[axis].start, split.size - split.longest)
            found[axis] = range(start, start + split.longest)
        return found


def overlap(one: range, other: range) -> range:
    """Indices in both ranges."""
    return range(max(one.start, other.start), min(one.stop, other.stop))


def offset(indices: range, whole: range) -> slice:
    """Position of a range inside one that contains it."""
    return slice(indices.start - whole.start, indices.stop - whole.start)


def slices(region: Region) -> dict[str, slice]:
    """The region as xarray's `isel` takes it."""
    return {axis: slice(indices.start, indices.stop) for axis, indices in region.items()}


# How far to divide.

Enough = Callable[[Tiling], bool]
"""Whether a tiling is fine enough; every finer one must be too."""


def split_evenly(
    sizes: Mapping[str, int], enough: Enough, axes: Sequence[str] | None = None
) -> Tiling:
    """Divide axis after axis into as few even ranges as it takes.

    Every axis that is divided, except the last, is divided into single indices, so that regions
    have at most two shapes.

    Args:
        sizes: Length of each axis. [count]
        enough: Whether a tiling is fine enough.
        axes: Axes that may be divided, the first to be divided first; all if not given.
    """
    return _divided(sizes, enough, axes, lambda axis: range(1, sizes[axis] + 1), Split)


def split_by_extent(
    sizes: Mapping[str, int],
    enough: Enough,
    axes: Sequence[str] | None = None,
    extents: Callable[[str], Sequence[int]] | None = None,
) -> Tiling:
    """Divide axis after axis into ranges that are as long as allowed.

    Args:
        sizes: Length of each axis. [count]
        enough: Whether a tiling is fine enough.
        axes: Axes that may be divided, the first to be divided first; all if not given.
        extents: Lengths of ranges to try along an axis, the longest first; every length if not
            given. [count]
    """
    if extents is None:
        return _divided(sizes, enough, axes, lambda axis: range(sizes[axis], 0, -1), Split.strided)
    return _divided(sizes, enough, axes, extents, Split.strided)


def halves(size: int) -> list[int]:
    """The length of an axis, its half, its quarter, …, 1, rounded up. [count]"""
    found = [size]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return found


def _divided(
    sizes: Mapping[str, int],
    enough: Enough,
    axes: Sequence[str] | None,
    candidates: Callable[[str], Sequence[int]],
    split: Callable[[int, int], Split],
) -> Tiling:
    tiling = Tiling.even(sizes, {})
    for axis in sizes if axes is None else axes:
        if enough(tiling):
            break
        tried = candidates(axis)

        def divided(candidate: int, axis: str = axis, tiling: Tiling = tiling) -> Tiling:
            return replace(tiling, axes={**tiling.axes, axis: split(sizes[axis], candidate)})

        found = bisect_left(tried, True, key=lambda value: enough(divided(value)))
        tiling = divided(tried[min(found, len(tried) - 1)])
    return tiling
