"""How a grid is cut into shards: pure arithmetic of lengths, places and numbers."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class Cut:
    """Axes cut into pieces; shards are the outer product of the pieces, counted from 0.

    Along an axis no two pieces differ by more than one place in length.

    Attributes:
        sizes: Length of each axis. [count]
        pieces: Pieces of each axis. [count]
    """

    sizes: Mapping[str, int]
    pieces: Mapping[str, int]

    @property
    def shards(self) -> int:
        """Shards in all. [count]"""
        return prod(self.pieces.values())

    @property
    def longest(self) -> dict[str, int]:
        """Length of the longest piece of each axis. [count]"""
        return {axis: -(-size // self.pieces[axis]) for axis, size in self.sizes.items()}

    def lengths(self, axis: str) -> tuple[int, ...]:
        """Length of each piece of an axis. [count]"""
        return tuple(map(len, self.ranges(axis)))

    def ranges(self, axis: str) -> list[range]:
        """Each piece of an axis."""
        return [self._piece(axis, place) for place in range(self.pieces[axis])]

    def places(self, shard: int) -> dict[str, range]:
        """What of each axis a shard holds."""
        where = np.unravel_index(shard, tuple(self.pieces.values()))
        return {
            axis: self._piece(axis, int(place))
            for axis, place in zip(self.pieces, where, strict=True)
        }

    def shard(self, places: Mapping[str, int]) -> int:
        """The first shard that holds the given piece of each axis in `places`."""
        where = [places.get(axis, 0) for axis in self.pieces]
        return int(np.ravel_multi_index(where, tuple(self.pieces.values())))

    def _piece(self, axis: str, place: int) -> range:
        size, pieces = self.sizes[axis], self.pieces[axis]
        return range(size * place // pieces, size * (place + 1) // pieces)


def cut_until(sizes: Mapping[str, int], enough: Callable[[Cut], bool]) -> Cut:
    """Cut axis after axis, each as little as it takes, until `enough` says so.

    All but the last axis that is cut fall into single places, so that shards have at most two
    shapes.

    Args:
        sizes: Length of each axis, the first to be cut first. [count]
        enough: Whether a cut will do; one with more pieces then does too.
    """
    pieces = dict.fromkeys(sizes, 1)
    if enough(whole := Cut(sizes, pieces)):
        return whole
    for axis, size in sizes.items():

        def tried(count: int, axis: str = axis) -> Cut:
            return Cut(sizes, {**pieces, axis: count})

        counts = range(1, size + 1)
        pieces[axis] = counts[
            min(bisect_left(counts, True, key=lambda n: enough(tried(n))), size - 1)
        ]
    return Cut(sizes, pieces)
