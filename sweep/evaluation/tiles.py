"""Models of one structure, which share a compiled kernel, and the blocks their results come in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import jax

Places = Mapping[str, range]
"""What of each axis is meant."""
FACTOR = "efficiency."
"""Before the name of a factor, some of which axes have too."""


class Family:
    """Models of one structure, and what the kernel reads of them.

    Attributes:
        models: Their places in the grid.
        operators: Places of their operators among all.
    """

    def __init__(
        self, models: Sequence[int], operators: Sequence[int], numbers: dict[str, Any]
    ) -> None:
        """Keep what the kernel reads, by name of an axis or `FACTOR` and that of a factor."""
        self.models = models
        self.operators = operators
        self._numbers = numbers
        self._parts: dict[tuple[Any, ...], Any] = {}

    def read(self, name: str, axes: Sequence[str], block: Places) -> Any:
        """What of `name` a block reads, which many blocks share; none if the grid lacks it."""
        if name not in self._numbers:
            return None
        key = (name, *(block[axis] for axis in axes))
        if key not in self._parts:
            where = tuple(slice(block[axis].start, block[axis].stop) for axis in axes)
            self._parts[key] = jax.tree.map(lambda leaf: leaf[where], self._numbers[name])
        return self._parts[key]

    def of(self, part: Places) -> dict[str, range] | None:
        """A part of the grid with the places its models have here; none if it has none of them."""
        inside = [i for i, member in enumerate(self.models) if member in part["model"]]
        if not inside:
            return None
        return {**part, "model": range(inside[0], inside[-1] + 1)}


class Blocks:
    """A grid cut into pieces, each computed in a block of the same shape.

    A piece that is shorter than others is computed with some of its neighbour's places, for the
    sake of the shape; what is kept of a block is its piece.

    Attributes:
        lengths: Places of each axis in a block. [count]
    """

    def __init__(self, pieces: Mapping[str, Sequence[range]]) -> None:
        """Take the pieces of each axis, in their order."""
        self._pieces = pieces
        self.lengths = {axis: max(map(len, each)) for axis, each in pieces.items()}

    def meeting(self, part: Places) -> Iterator[dict[str, range]]:
        """Pieces of which something lies in `part`."""
        met = (
            [piece for piece in pieces if common(piece, part[axis])]
            for axis, pieces in self._pieces.items()
        )
        for piece in product(*met):
            yield dict(zip(self._pieces, piece, strict=True))

    def around(self, piece: Places) -> dict[str, range]:
        """The block that a piece is computed in."""
        found = {}
        for axis, length in self.lengths.items():
            start = min(piece[axis].start, self._pieces[axis][-1].stop - length)
            found[axis] = range(start, start + length)
        return found


def common(one: range, other: range) -> range:
    """Places that lie in both."""
    return range(max(one.start, other.start), min(one.stop, other.stop))


def within(places: range, whole: range) -> slice:
    """Where places lie in a range that holds them."""
    return slice(places.start - whole.start, places.stop - whole.start)


def every(size: int, length: int) -> list[range]:
    """Pieces of one length that cover `size`, the last of them shorter if need be."""
    return [range(first, min(first + length, size)) for first in range(0, size, length)]
