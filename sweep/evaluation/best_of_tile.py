"""The best cell of a computed tile, found on the device that computed it.

The best score comes first: its position is asked for only if it beats those of the tiles before.
Values are compared in place: an axis is divided into slices, whose elementwise maximum is taken.
Compilers turn that into full vectors, unlike a maximum along an axis of values that are masked.
Each function makes one array: for two, XLA reads the tile twice.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.tile_cells import Arrays, Cells, Condition, Masks, Slices
from sweep.evaluation.vmapped_kernel import COMPILER_OPTIONS, Over

WAYS = 16
"""Slices of an axis that are compared at a time, at most. [count]"""
SHORT = 8
"""An axis at least as long is divided before a longer one whose values are adjacent. [count]"""

NONE = np.iinfo(np.int32).max
"""Position where nothing matches."""

Extreme = Callable[..., jax.Array]
"""The largest or the smallest along axes, as of `jax.numpy.max`."""


class Asked(NamedTuple):
    """A best in the form that a compiled function is made for.

    Attributes:
        by: The variable that is to be best.
        largest: Whether larger is better.
        reduced: Axes to choose over, in the order of the grid.
        kept: Axes with a best of their own for each value, in the order of the grid.
        taken: Variables to take at the best cell.
        condition: Constraints on variables and labels.
        dims: Dimensions of all these variables.
    """

    by: str
    largest: bool
    reduced: tuple[str, ...]
    kept: tuple[str, ...]
    taken: tuple[str, ...]
    condition: Condition
    dims: Over


class Scores(NamedTuple):
    """Values that are larger where better, minus infinity where no cell may be chosen.

    Attributes:
        slices: The best of slices along one of the reduced axes.
        best: The best over all reduced axes, which keep a length of one.
    """

    slices: jax.Array
    best: jax.Array


class Found(NamedTuple):
    """The best cells of a tile, over its kept axes.

    Attributes:
        position: Row-major index into the reduced axes of the tile; of equal values the first.
        values: Variables at the best cell.
    """

    position: jax.Array
    values: dict[str, jax.Array]


def best_scores(asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks) -> Scores:
    """Find the best score over the reduced axes.

    Each step is compiled for itself: in one program, XLA computes the scores again at every step.

    Args:
        asked: The question.
        axes: Kept and reduced axes, in the order of the dimensions of the variables.
        variables: Variables of the tile.
        allowed: By axis, whether each index may be chosen; an axis that is not given has no limit.
    """
    slices = _best_of_slices(asked, axes, variables, allowed)
    return Scores(slices, _extreme(jnp.max, _numbers(asked, axes), slices))


def best_cells(
    asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks, scores: Scores
) -> Found:
    """Find the first cell that has the best score, for each index of the kept axes.

    Args:
        asked: The question.
        axes: Kept and reduced axes, in the order of the dimensions of the variables.
        variables: Variables of the tile.
        allowed: By axis, whether each index may be chosen; an axis that is not given has no limit.
        scores: What `best_scores` found.
    """
    numbers = _numbers(asked, axes)
    first = _extreme(jnp.min, numbers, _matches(numbers, NONE, scores))
    last = _extreme(jnp.max, numbers, _matches(numbers, -1, scores))
    if not allowed and asked.condition is None and np.greater_equal(first, last).all():
        positions = _in_their_slices(asked, axes, variables, scores, first)
    else:
        positions = _extreme(
            jnp.min, numbers, _first_positions(asked, axes, variables, allowed, scores.best)
        )
    found: Found = _taken(asked, axes, variables, positions)
    return found


def _numbers(asked: Asked, axes: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(number for number, axis in enumerate(axes) if axis in asked.reduced)


_compiled = partial(jax.jit, static_argnums=(0, 1), compiler_options=COMPILER_OPTIONS)


@_compiled
def _best_of_slices(
    asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks
) -> jax.Array:
    """Best scores of slices along one axis."""
    tile = _Tile(asked, axes, variables)
    return reduce(jnp.maximum, (tile.scores(slices, allowed) for slices in tile.every_slice()))


@_compiled
def _extreme(extreme: Extreme, numbers: tuple[int, ...], array: jax.Array) -> jax.Array:
    """The largest or smallest value along some axes, which keep a length of one."""
    return extreme(array, axis=numbers, keepdims=True)


@_compiled
def _matches(numbers: tuple[int, ...], none: int, scores: Scores) -> jax.Array:
    """Positions in the reduced axes of the slices that have the best score; `none` elsewhere."""
    shape = scores.slices.shape
    lengths = [length if number in numbers else 1 for number, length in enumerate(shape)]
    positions = jnp.arange(prod(lengths), dtype=jnp.int32).reshape(lengths)
    match = (scores.slices == scores.best) & (scores.best > -jnp.inf)
    return jnp.where(match, positions, jnp.int32(none))


@_compiled
def _in_their_slices(
    asked: Asked, axes: tuple[str, ...], variables: Arrays, scores: Scores, first: jax.Array
) -> jax.Array:
    """Positions in the tile of the best cells, whose positions in the slices are known."""
    tile = _Tile(asked, axes, variables)
    sizes = dict(zip(axes, scores.slices.shape, strict=True))
    kept = [sizes[axis] for axis in asked.kept]
    best, first = scores.best.reshape(kept), first.reshape(kept)
    lengths = [sizes[axis] for axis in asked.reduced]
    found = jnp.full(kept, NONE, jnp.int32)
    for slices in reversed(tile.every_slice()):
        begins = [slices[axis].start if axis in slices else 0 for axis in asked.reduced]
        chosen = [i + n for i, n in zip(_unravelled(first, lengths), begins, strict=True)]
        value = tile.at(asked.by, chosen)
        match = (value if asked.largest else -value) == best
        position = sum(i * tile.stride(a) for a, i in zip(asked.reduced, chosen, strict=True))
        found = jnp.where(match, position, found)
    return found


@_compiled
def _first_positions(
    asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks, best: jax.Array
) -> jax.Array:
    """First positions of the best score in slices along one axis; `NONE` where it is not."""
    tile = _Tile(asked, axes, variables)
    positions = (
        jnp.where(tile.scores(slices, allowed) == best, tile.positions(slices), NONE)
        for slices in tile.every_slice()
    )
    return reduce(jnp.minimum, positions)


@_compiled
def _taken(asked: Asked, axes: tuple[str, ...], variables: Arrays, positions: jax.Array) -> Found:
    tile = _Tile(asked, axes, variables)
    # No position fits where nothing may be chosen; any does.
    last = prod(tile.sizes[axis] for axis in asked.reduced) - 1
    position = jnp.minimum(positions.reshape([tile.sizes[axis] for axis in asked.kept]), last)
    return Found(position, tile.take(position))


class _Tile(Cells):
    """Scores of the cells of a tile, and values at chosen ones."""

    def __init__(self, asked: Asked, axes: tuple[str, ...], variables: Arrays) -> None:
        super().__init__(axes, asked.dims, variables)
        self.asked = asked

    def every_slice(self) -> list[Slices]:
        """Slices along one axis that cover the tile."""
        if not self.asked.reduced:
            return [{}]
        axis = min(self.asked.reduced, key=self._worse_to_slice)
        starts, length = _slices(self.sizes[axis])
        return [{axis: slice(start, start + length)} for start in starts]

    def positions(self, slices: Slices) -> jax.Array:
        """Row-major indices into the reduced axes, over a slice."""
        found = jnp.zeros((), jnp.int32)
        for axis in self.asked.reduced:
            indices = range(self.sizes[axis])[slices.get(axis, slice(None))]
            along = jnp.arange(indices.start, indices.stop, dtype=jnp.int32)
            found = found + self.along(axis, along * self.stride(axis))
        return found

    def _worse_to_slice(self, axis: str) -> tuple[bool, int]:
        """Order of slicing: the last axis, whose values are adjacent, comes late."""
        size = self.sizes[axis]
        return axis == self.axes[-1] or size < SHORT, -size

    def stride(self, axis: str) -> int:
        """Number of cells from one index along a reduced axis to the next."""
        after = self.asked.reduced[self.asked.reduced.index(axis) + 1 :]
        return prod(self.sizes[other] for other in after)

    def scores(self, slices: Slices, within: Masks) -> jax.Array:
        """Larger where better, minus infinity where no cell may be chosen, over a slice."""
        asked = self.asked
        value = self.over(asked.by, slices)
        allowed = self.allowed(slices, (asked.by,), asked.condition, within)
        scores = jnp.where(allowed, value if asked.largest else -value, -jnp.inf)
        return jnp.broadcast_to(scores, self.lengths(slices))

    def take(self, position: jax.Array) -> dict[str, jax.Array]:
        """Values of the variables at a position of each kept cell."""
        chosen = _unravelled(position, [self.sizes[axis] for axis in self.asked.reduced])
        return {name: self.at(name, chosen) for name in self.asked.taken}

    def at(self, name: str, chosen: Sequence[jax.Array]) -> jax.Array:
        """A variable at one index along each reduced axis, for each kept cell."""
        asked = self.asked
        lengths = [self.sizes[axis] for axis in asked.kept]
        kept = jnp.ix_(*(jnp.arange(length) for length in lengths))
        index = dict(zip((*asked.reduced, *asked.kept), (*chosen, *kept), strict=True))
        array = self.variables[name][tuple(index[dim] for dim in self.dims[name])]
        return jnp.broadcast_to(array, lengths)


def _unravelled(position: jax.Array, lengths: Sequence[int]) -> tuple[jax.Array, ...]:
    """Indices along axes of a row-major position; the last of each where it is beyond them."""
    return jnp.unravel_index(position, tuple(lengths)) if lengths else ()


def _slices(length: int) -> tuple[list[int], int]:
    """Starts of slices of one length that cover an axis; the last two may overlap."""
    each = -(-length // min(WAYS, length))
    starts = list(range(0, length, each))
    return [*starts[:-1], length - each], each
