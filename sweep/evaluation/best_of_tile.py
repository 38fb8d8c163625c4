"""The best cell of a computed tile, found on the device that computed it.

Values are compared in place: each axis is cut into slices, whose elementwise maximum is taken with
its position, until a single index is left. Compilers turn that into full vectors, unlike a maximum
with its index along an axis.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sweep.evaluation.tile_cells import Arrays, Cells, Condition, Cut, Masks
from sweep.evaluation.vmapped_kernel import COMPILER_OPTIONS, Over

WAYS = 16
"""Slices of an axis that are compared at a time, at most. [count]"""
SHORT = 8
"""An axis at least as long is cut before a longer one whose values are adjacent. [count]"""


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


class Found(NamedTuple):
    """The best cells of a tile, over its kept axes.

    Attributes:
        exists: Whether any cell satisfies the constraints.
        position: Row-major index into the reduced axes of the tile; of equal values the first.
        values: Variables at the best cell.
    """

    exists: jax.Array
    position: jax.Array
    values: dict[str, jax.Array]


def best_of_tile(asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks) -> Found:
    """Find the best cell over the reduced axes, for each of the others.

    Each step is compiled for itself: in one program, XLA computes the scores again at every step.

    Args:
        asked: The question.
        axes: Kept and reduced axes, in the order of the dimensions of the variables.
        variables: Variables of the tile.
        allowed: By axis, whether each index may be chosen; an axis that is not given has no limit.
    """
    scores, places = _first(asked, axes, variables, allowed)
    for number, axis in enumerate(axes):
        while axis in asked.reduced and scores.shape[number] > 1:
            scores, places = _best_of_slices(number, scores, places)
    found: Found = _taken(asked, axes, variables, scores, places)
    return found


_compiled = partial(jax.jit, static_argnums=(0, 1), compiler_options=COMPILER_OPTIONS)


@_compiled
def _first(
    asked: Asked, axes: tuple[str, ...], variables: Arrays, allowed: Masks
) -> tuple[jax.Array, jax.Array]:
    """Best scores of slices along one axis, and their positions."""
    return _Tile(asked, axes, variables).first(allowed)


@partial(jax.jit, static_argnums=0, compiler_options=COMPILER_OPTIONS)
def _best_of_slices(axis: int, scores: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best scores of slices along an axis, and the first of their positions."""
    starts, length = _slices(scores.shape[axis])

    def cut(array: jax.Array, start: int) -> jax.Array:
        return jax.lax.slice_in_dim(array, start, start + length, axis=axis)

    best, place = cut(scores, 0), cut(places, 0)
    for start in starts[1:]:
        score, other = cut(scores, start), cut(places, start)
        better = (score > best) | ((score == best) & (other < place))
        best, place = jnp.where(better, score, best), jnp.where(better, other, place)
    return best, place


@_compiled
def _taken(
    asked: Asked,
    axes: tuple[str, ...],
    variables: Arrays,
    scores: jax.Array,
    places: jax.Array,
) -> Found:
    tile = _Tile(asked, axes, variables)
    shape = [tile.sizes[axis] for axis in asked.kept]
    position = places.reshape(shape)
    return Found(scores.reshape(shape) > -jnp.inf, position, tile.take(position))


class _Tile(Cells):
    """Scores of the cells of a tile, and values at chosen ones."""

    def __init__(self, asked: Asked, axes: tuple[str, ...], variables: Arrays) -> None:
        super().__init__(axes, asked.dims, variables)
        self.asked = asked

    def first(self, allowed: Masks) -> tuple[jax.Array, jax.Array]:
        """Best scores of slices along one axis, and their positions along all axes."""
        axis = min(self.asked.reduced, key=self._worse_to_cut)
        starts, length = _slices(self.sizes[axis])
        best = self._scores({axis: slice(0, length)}, allowed)
        start = jnp.zeros(best.shape, jnp.int32)
        for begin in starts[1:]:
            score = self._scores({axis: slice(begin, begin + length)}, allowed)
            better = score > best
            best, start = jnp.where(better, score, best), jnp.where(better, begin, start)
        places = start * self._stride(axis)
        for other in self.asked.reduced:
            indices = jnp.arange(length if other == axis else self.sizes[other], dtype=jnp.int32)
            places = places + self.along(other, indices * self._stride(other))
        return best, places

    def _worse_to_cut(self, axis: str) -> tuple[bool, int]:
        """The order in which axes are cut: the last, whose values are adjacent, is cut late."""
        size = self.sizes[axis]
        return axis == self.axes[-1] or size < SHORT, -size

    def _stride(self, axis: str) -> int:
        """Number of cells from one index along a reduced axis to the next."""
        after = self.asked.reduced[self.asked.reduced.index(axis) + 1 :]
        return prod(self.sizes[other] for other in after)

    def _scores(self, cut: Cut, within: Masks) -> jax.Array:
        """Larger where better, minus infinity where no cell may be chosen, over a slice."""
        asked = self.asked
        value = self.over(asked.by, cut)
        allowed = self.allowed(cut, (asked.by,), asked.condition, within)
        scores = jnp.where(allowed, value if asked.largest else -value, -jnp.inf)
        return jnp.broadcast_to(scores, self.lengths(cut))

    def take(self, position: jax.Array) -> dict[str, jax.Array]:
        """Values of the variables at a position of each kept cell."""
        lengths = [self.sizes[axis] for axis in self.asked.reduced]
        chosen = jnp.unravel_index(position, lengths) if lengths else ()
        kept = jnp.ix_(*(jnp.arange(self.sizes[axis]) for axis in self.asked.kept))
        index = dict(zip((*self.asked.reduced, *self.asked.kept), (*chosen, *kept), strict=True))
        return {
            name: jnp.broadcast_to(
                self.variables[name][tuple(index[dim] for dim in self.dims[name])], position.shape
            )
            for name in self.asked.taken
        }


def _slices(length: int) -> tuple[list[int], int]:
    """Starts of slices of one length that cover an axis; the last two may overlap."""
    each = -(-length // min(WAYS, length))
    starts = list(range(0, length, each))
    return [*starts[:-1], length - each], each
