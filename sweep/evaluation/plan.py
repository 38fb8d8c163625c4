"""What a sweep will compute, how large it will be and how it is cut, before anything runs."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from sweep.engines.calibration_file import FittedEfficiency
from sweep.evaluation.intervals import interval_variables
from sweep.evaluation.tiling import Cut, cut_until
from sweep.grid.resolved import Resolved
from sweep.queries.grid_axes import GridAxes
from sweep.queries.reduction import Reduction
from sweep.queries.reduction_request import ReductionRequest
from sweep.schema.variables import VARIABLES

SHARD_BYTES = 2**26
"""Size that a shard stays below where its axes can be cut that far. [byte]"""
REDUCED_BYTES = 2**30
"""The same for what is computed for a shard that is reduced before it is written. [byte]"""
WHOLE_BYTES = 2**28
"""Size up to which a grid is computed at once, where that costs no more memory. [byte]"""
LARGE = 10**9
"""Size above which a plan is cut into shards unasked. [byte]"""

FloatType = Literal["float32", "float64"]


@dataclass(frozen=True)
class PlannedVariable:
    """One variable of a plan.

    Attributes:
        name: Its name.
        shape: Length of each of its dimensions. [count]
        bytes: Memory of its values. [byte]
    """

    name: str
    shape: dict[str, int]
    bytes: int


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs: everything its results follow from.

    Attributes:
        grid: Axes and variables, every name looked up.
        dtype: Type of the results.
        keep_infeasible: Whether throughputs stand where a configuration cannot run.
        efficiency: A calibration, or `None` for ideal rooflines.
        cut: Which shards the axes are cut into.
        question: What each shard is reduced to before it is written; nothing to keep it all.
    """

    grid: Resolved
    dtype: FloatType
    keep_infeasible: bool
    efficiency: FittedEfficiency | None
    cut: Cut
    question: ReductionRequest | None = None

    @property
    def points(self) -> int:
        """Cells of the outer product of all axes. [count]"""
        return self.grid.points

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis. [count]"""
        return self.grid.sizes

    @cached_property
    def variables(self) -> tuple[PlannedVariable, ...]:
        """What will be computed, intervals included."""
        return _variables(self.grid, self.dtype, self.efficiency)

    @property
    def bytes(self) -> int:
        """Memory of all variables. [byte]"""
        return sum(variable.bytes for variable in self.variables)

    @cached_property
    def reduction(self) -> Reduction | None:
        """What the question means on this grid.

        Raises:
            ResultError: It cannot be asked of this grid.
        """
        if self.question is None:
            return None
        axes = {**self.grid.labels, **self.grid.numbers, "operator": list(self.grid.operators)}
        used = {dim for variable in self.variables for dim in variable.shape}
        names = [variable.name for variable in self.variables]
        return self.question.over(
            GridAxes.of_axes({axis: axes[axis] for axis in axes if axis in used}, names)
        )

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that are cut neither into shards nor into pieces."""
        return () if self.reduction is None else self.reduction.axes_needed_whole

    def blocks(self, models: int) -> Cut | None:
        """What is computed at once of so many models of one kind: the grid, or a shard's worth.

        Nothing of the kind for grids in between, which are more than is computed at once, and are
        not cut unasked. It follows from the grid alone, however many shards are asked for, and is
        the cut into shards where nobody asked.
        """
        sizes = {**self.sizes, "model": models}
        uncut = dict.fromkeys(sizes, 1)
        if self.bytes <= WHOLE_BYTES:
            return Cut(sizes, uncut)
        if not self.is_large:
            return None
        cut = _cut(self.variables, sizes, self.axes_needed_whole, 1, SHARD_BYTES)
        return Cut(sizes, {**uncut, **cut.pieces})

    def pieces(self, places: Mapping[str, range]) -> Iterator[dict[str, range]]:
        """What of the grid is computed at once, piece after piece, of what lies at `places`."""
        cut = self._pieces({axis: len(where) for axis, where in places.items()})
        for piece in range(cut.shards):
            inner = cut.places(piece)
            yield {
                axis: where[inner[axis].start : inner[axis].stop] if axis in inner else where
                for axis, where in places.items()
            }

    @property
    def piece_bytes(self) -> int:
        """Memory of what is computed at once for a shard that is reduced. [byte]"""
        return _shard_bytes(self.variables, self._pieces(self.cut.longest))

    def _pieces(self, sizes: Mapping[str, int]) -> Cut:
        return _cut(self.variables, sizes, self.axes_needed_whole, 1, SHARD_BYTES)

    @property
    def is_large(self) -> bool:
        """Whether it is cut into shards unasked."""
        return self.bytes > LARGE

    @property
    def shard_bytes(self) -> int:
        """Memory of the largest shard. [byte]"""
        return _shard_bytes(self.variables, self.cut)

    @property
    def stored_bytes(self) -> int:
        """Size of all shards: what does not vary over a cut axis stands in each. [byte]

        That of reduced ones is a guess, a value of each variable for each place that is kept.
        """
        pieces = self.cut.pieces
        if self.reduction is not None:
            cells = prod(self.sizes.get(axis, 1) for axis in self.reduction.kept)
            again = prod(n for axis, n in pieces.items() if axis not in self.reduction.kept)
            return cells * again * 8 * len(self.variables)
        return sum(
            variable.bytes * prod(n for axis, n in pieces.items() if axis not in variable.shape)
            for variable in self.variables
        )


def make_plan(
    grid: Resolved,
    dtype: FloatType = "float32",
    *,
    keep_infeasible: bool = False,
    efficiency: FittedEfficiency | None = None,
    question: ReductionRequest | None = None,
    shards: int = 1,
    shard_bytes: int | None = None,
) -> Plan:
    """Lay out what `grid` will compute, cut along its axes in their order.

    An axis that no variable varies over is left whole, and so is one that a reduction needs whole.

    Args:
        grid: The resolved grid.
        dtype: Type of the results.
        keep_infeasible: Whether throughputs stand where a configuration cannot run.
        efficiency: A calibration; ideal rooflines if not given.
        question: What each shard is reduced to before it is written; nothing to keep it all.
        shards: The least number of shards, if the axes are long enough. [count]
        shard_bytes: Size that what is computed for a shard stays below, if the axes are long
            enough; `SHARD_BYTES`, or `REDUCED_BYTES` where shards are reduced, if not given. [byte]

    Raises:
        ResultError: The question cannot be asked of this grid.
    """
    if shard_bytes is None:
        shard_bytes = SHARD_BYTES if question is None else REDUCED_BYTES
    uncut = Cut(grid.sizes, dict.fromkeys(grid.sizes, 1))
    plan = Plan(grid, dtype, keep_infeasible, efficiency, uncut, question)
    cut = _cut(plan.variables, grid.sizes, plan.axes_needed_whole, shards, shard_bytes)
    pieces = {axis: cut.pieces.get(axis, 1) for axis in grid.sizes}
    return replace(plan, cut=Cut(grid.sizes, pieces))


def _cut(
    variables: tuple[PlannedVariable, ...],
    sizes: Mapping[str, int],
    whole: Collection[str],
    shards: int,
    shard_bytes: int,
) -> Cut:
    """A cut of the axes that variables vary over, but of those in `whole`."""
    varied = {dim for variable in variables for dim in variable.shape} - set(whole)
    return cut_until(
        {axis: size for axis, size in sizes.items() if axis in varied},
        lambda cut: cut.shards >= shards and _shard_bytes(variables, cut) <= shard_bytes,
    )


def in_units(size: int) -> str:
    """Bytes in words, in decimal units."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


def _variables(
    grid: Resolved, dtype: FloatType, efficiency: FittedEfficiency | None
) -> tuple[PlannedVariable, ...]:
    sizes = {**grid.sizes, "operator": len(grid.operators)}
    added = [] if efficiency is None else interval_variables(grid.variables)

    def planned(name: str) -> PlannedVariable:
        shape = {dim: sizes[dim] for dim in grid.dims(name)}
        width = np.dtype(VARIABLES[name].dtype or dtype).itemsize
        return PlannedVariable(name, shape, width * prod(shape.values()))

    return tuple(planned(name) for name in (*grid.variables, *added))


def _shard_bytes(variables: tuple[PlannedVariable, ...], cut: Cut) -> int:
    longest = cut.longest
    return sum(
        variable.bytes
        // prod(variable.shape.values())
        * prod(longest.get(dim, size) for dim, size in variable.shape.items())
        for variable in variables
    )
