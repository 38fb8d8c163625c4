"""Cells of a computed tile that may be on a Pareto front, found by blocks on its device.

A block of cells is left out if a known point beats its best values, each taken from any of its
cells; blocks of blocks are left out in the same way. Few cells are left to be compared one by one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.tile_cells import Arrays, Cells, Condition, Masks, Slices
from sweep.evaluation.vmapped_kernel import COMPILER_OPTIONS, Over
from sweep.queries.front_of_points import Costs, front, unbeaten

WAYS = 16
"""Indices of an axis in a block. [count]"""
SHORT = 8
"""An axis at least as long is divided before a longer one whose values are adjacent. [count]"""

Array = np.ndarray[Any, Any]


class Asked(NamedTuple):
    """A front in the form that a compiled function is made for.

    Attributes:
        objectives: Variables, and for each whether larger is better.
        kept: Axes with a front of their own for each value.
        axes: All axes of a point, in the order of the grid.
        condition: Constraints on variables and labels.
        dims: Dimensions of all these variables.
    """

    objectives: tuple[tuple[str, bool], ...]
    kept: tuple[str, ...]
    axes: tuple[str, ...]
    condition: Condition
    dims: Over


class Level(NamedTuple):
    """Lowest costs of blocks of cells.

    Attributes:
        costs: Shape (objectives, *blocks); infinite where no cell is allowed.
        axis: Number of the axis along which each block is divided on the level below.
    """

    costs: Array
    axis: int


def possible_cells(
    asked: Asked, variables: Arrays, allowed: Masks, known: Sequence[Costs]
) -> list[Array]:
    """Row-major positions in the tile of cells that may be on a front, group by group.

    Args:
        asked: The question.
        variables: Variables of the tile.
        allowed: By axis, whether each index may be chosen; an axis that is not given has no limit.
        known: For each group, points of its front so far, one column per point.
    """
    sizes = list(Cells(asked.axes, asked.dims, variables).sizes.values())
    free = [number for number, axis in enumerate(asked.axes) if axis not in asked.kept]
    last = len(sizes) - 1
    free.sort(key=lambda n: (n == last or sizes[n] < SHORT, -sizes[n]))
    first, *second = free[:2]
    blocks = _lowest_of_cells(asked, first, variables, allowed)
    levels = [Level(np.asarray(blocks), first)]
    if second:
        levels.append(Level(np.asarray(_lowest_of_blocks(second[0], blocks)), second[0]))
    sample = np.asarray(_sample(asked, tuple(free[:2]), variables, allowed))
    top, below = levels[-1].costs.shape[1:], [level.costs.shape[1:] for level in levels[:-1]]
    shapes = [*reversed(below), tuple(sizes)]
    found = []
    for group, (inside, sampled) in enumerate(
        zip(_by_group(asked, top), _by_group(asked, sample.shape[1:]), strict=True)
    ):
        points = np.concatenate([known[group], sample.reshape(len(sample), -1)[:, sampled]], axis=1)
        points = points[:, np.isfinite(points).all(0)]
        nothing = np.zeros(points.shape[1], np.int64)
        strong = points[:, front(points, nothing, np.arange(points.shape[1]))]
        left = inside
        for level, shape in zip(reversed(levels), shapes, strict=True):
            costs = level.costs.reshape(len(level.costs), -1)[:, left]
            left = left[np.isfinite(costs).all(0) & unbeaten(costs, strong)]
            left = _inside(left, level.costs.shape[1:], level.axis, shape)
        found.append(left)
    return found


_compiled = partial(jax.jit, static_argnums=(0, 1), compiler_options=COMPILER_OPTIONS)


@_compiled
def _lowest_of_cells(asked: Asked, axis: int, variables: Arrays, allowed: Masks) -> jax.Array:
    """Lowest costs of blocks of adjacent cells along an axis."""
    cells = Cells(asked.axes, asked.dims, variables)
    name, size = asked.axes[axis], cells.sizes[asked.axes[axis]]

    def lowest(start: int, stop: int, stride: int) -> jax.Array:
        every = [{name: slice(start + i, stop, stride)} for i in range(min(stride, stop - start))]
        return _least([_costs(asked, cells, slices, allowed) for slices in every])

    return _whole_and_rest(lowest, size, axis + 1)


@partial(jax.jit, static_argnums=0, compiler_options=COMPILER_OPTIONS)
def _lowest_of_blocks(axis: int, blocks: jax.Array) -> jax.Array:
    """Lowest costs of blocks of adjacent blocks along an axis."""

    def lowest(start: int, stop: int, stride: int) -> jax.Array:
        starts = range(start, min(start + stride, stop))
        return _least(
            [jax.lax.slice_in_dim(blocks, i, stop, stride, axis=axis + 1) for i in starts]
        )

    return _whole_and_rest(lowest, blocks.shape[axis + 1], axis + 1)


def _whole_and_rest(lowest: Any, size: int, axis: int) -> jax.Array:
    """Lowest costs of blocks of `WAYS` indices, and of what is left at the end of the axis."""
    whole = size - size % WAYS
    parts = [lowest(0, whole, WAYS)] if whole else []
    if whole < size:
        parts.append(lowest(whole, size, size - whole))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)


def _least(parts: Sequence[jax.Array]) -> jax.Array:
    found = parts[0]
    for part in parts[1:]:
        found = jnp.where(part < found, part, found)
    return found


@_compiled
def _sample(asked: Asked, axes: tuple[int, ...], variables: Arrays, allowed: Masks) -> jax.Array:
    """Costs of the first cell of each block of blocks."""
    cells = Cells(asked.axes, asked.dims, variables)
    return _costs(asked, cells, {asked.axes[n]: slice(0, None, WAYS) for n in axes}, allowed)


def _costs(asked: Asked, cells: Cells, slices: Slices, within: Masks) -> jax.Array:
    """Values of the objectives, lower where better, infinite where no cell may be chosen."""
    names = [name for name, _ in asked.objectives]
    allowed = cells.allowed(slices, names, asked.condition, within)
    shape = cells.lengths(slices)
    costs = [
        jnp.broadcast_to(
            jnp.where(allowed, (-1 if larger else 1) * cells.over(name, slices), jnp.inf), shape
        )
        for name, larger in asked.objectives
    ]
    return jnp.stack(costs)


def _by_group(asked: Asked, shape: tuple[int, ...]) -> Array:
    """Row-major positions in a shape, one row for each group."""
    kept = [number for number, axis in enumerate(asked.axes) if axis in asked.kept]
    others = [number for number in range(len(shape)) if number not in kept]
    positions = np.arange(int(np.prod(shape))).reshape(shape).transpose(*kept, *others)
    return np.asarray(positions.reshape(int(np.prod([shape[n] for n in kept])), -1))


def _inside(blocks: Array, shape: tuple[int, ...], axis: int, below: tuple[int, ...]) -> Array:
    """Positions on the level below of what is in some blocks."""
    indices = list(np.unravel_index(blocks[:, None], shape))
    indices[axis] = indices[axis] * WAYS + np.arange(WAYS)
    exists = np.broadcast_to(indices[axis] < below[axis], (blocks.size, WAYS))
    indices[axis] = np.minimum(indices[axis], below[axis] - 1)
    return np.asarray(np.ravel_multi_index(tuple(indices), below)[exists])
