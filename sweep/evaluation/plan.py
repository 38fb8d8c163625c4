"""Plan of a sweep: what it computes, how large it is and how it is divided, before it runs."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from sweep.engines.calibration_file import IDEAL_NAME, Calibration
from sweep.evaluation.intervals import interval_variables, warn_of_unmeasured
from sweep.grid import thresholds
from sweep.grid.resolved import Resolved
from sweep.grid.tiling import Region, Tiling, split_evenly
from sweep.queries.grid_axes import GridAxes
from sweep.queries.reduction import Reduction
from sweep.queries.reduction_request import ReductionRequest
from sweep.schema.variables import VARIABLES

FloatType = Literal["float32", "float64"]
REDUCED_VALUE_BYTES = 8
"""Rough size of a value in a reduced shard: a quantity or an index, some of both. [byte]"""


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
    """Everything that determines the results of a sweep.

    Attributes:
        grid: Axes and variables, every name looked up.
        dtype: Type of the results.
        keep_infeasible: Whether throughput is reported where a deployment cannot run.
        calibration: A calibration, or `None` for ideal rooflines.
        shards: Division of the grid into files.
        question: Reduction of each shard before it is written; `None` to keep all values.
    """

    grid: Resolved
    dtype: FloatType
    keep_infeasible: bool
    calibration: Calibration | None
    shards: Tiling
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
        """Variables of the result, intervals included."""
        return _variables(self.grid, self.dtype, self.calibration)

    @property
    def bytes(self) -> int:
        """Memory of all variables. [byte]"""
        return sum(variable.bytes for variable in self.variables)

    @cached_property
    def calibrated_name(self) -> str:
        """Name and fingerprint of the calibration, `ideal` for bounds; this takes a millisecond."""
        known = self.calibration
        return IDEAL_NAME if known is None else f"{known.name} {known.digest}"

    @cached_property
    def reduction(self) -> Reduction | None:
        """The question, looked up on this grid.

        Raises:
            ResultError: The grid lacks an axis or a variable that the question names.
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
        """Axes that are not divided, since the reduction needs all their values at once."""
        return () if self.reduction is None else self.reduction.axes_needed_whole

    def large_tiles(self, models: int) -> Tiling | None:
        """Tiles that fill a whole result or a whole shard, for `models` models of one structure.

        `None` for grids in between: too large for one tile and not divided into shards by
        default. It depends on the grid alone, not on the number of shards asked for, and equals
        the default division into shards.
        """
        sizes = {**self.sizes, "model": models}
        largest = max(variable.bytes for variable in self.variables)
        if self.bytes <= thresholds.ONE_TILE_BYTES and largest <= thresholds.ONE_ARRAY_BYTES:
            return Tiling.even(sizes, {})
        if not self.is_large:
            return None
        return self._shard_sized(sizes)

    def subgrids(self, shard: Region) -> Iterator[dict[str, range]]:
        """Yield the regions of a reduced shard that are computed one at a time."""
        for inner in self._shard_sized({axis: len(indices) for axis, indices in shard.items()}):
            yield {axis: shard[axis][where.start : where.stop] for axis, where in inner.items()}

    @property
    def subgrid_bytes(self) -> int:
        """Memory of the largest sub-grid of a reduced shard. [byte]"""
        return _region_bytes(self.variables, self._shard_sized(self.shards.shape))

    def _shard_sized(self, sizes: Mapping[str, int]) -> Tiling:
        """Divide a grid of these sizes into regions as large as shards are by default."""
        return _divided(self.variables, sizes, self.axes_needed_whole, thresholds.SHARD_BYTES)

    @property
    def is_large(self) -> bool:
        """Whether the result becomes a folder of shards by default."""
        return self.bytes > thresholds.ONE_FILE_BYTES

    @property
    def shard_bytes(self) -> int:
        """Memory of the largest shard. [byte]"""
        return _region_bytes(self.variables, self.shards)

    @property
    def stored_bytes(self) -> int:
        """Size of all shards; a variable that does not vary over a divided axis is in each. [byte]

        For reduced shards an estimate: one value of each variable for each cell that is kept.
        """
        counts = self.shards.counts
        if self.reduction is not None:
            kept = self.reduction.kept
            cells = prod(self.sizes.get(axis, 1) for axis in kept)
            copies = prod(count for axis, count in counts.items() if axis not in kept)
            return cells * copies * REDUCED_VALUE_BYTES * len(self.variables)
        return sum(
            variable.bytes
            * prod(count for axis, count in counts.items() if axis not in variable.shape)
            for variable in self.variables
        )


def make_plan(
    grid: Resolved,
    dtype: FloatType = "float32",
    *,
    keep_infeasible: bool = False,
    calibration: Calibration | None = None,
    question: ReductionRequest | None = None,
    shards: int = 1,
    shard_bytes: int | None = None,
) -> Plan:
    """Plan the computation of `grid`, divided into shards along its axes in their order.

    An axis that no variable varies over is not divided, nor one that a reduction needs whole.

    Args:
        grid: The resolved grid.
        dtype: Type of the results.
        keep_infeasible: Whether throughput is reported where a deployment cannot run.
        calibration: A calibration; ideal rooflines if not given.
        question: Reduction of each shard before it is written; none to keep all values.
        shards: Fewest shards, if the axes are long enough. [count]
        shard_bytes: Most values computed for a shard, if the axes are long enough; by default
            `SHARD_BYTES`, or `ONE_FILE_BYTES` where shards are reduced. [byte]

    Raises:
        ResultError: The grid lacks an axis or a variable that the question names.
    """
    if shard_bytes is None:
        shard_bytes = thresholds.SHARD_BYTES if question is None else thresholds.ONE_FILE_BYTES
    if calibration is not None:
        warn_of_unmeasured(grid)
    one_shard = Tiling.even(grid.sizes, {})
    plan = Plan(grid, dtype, keep_infeasible, calibration, one_shard, question)
    tiling = _divided(plan.variables, grid.sizes, plan.axes_needed_whole, shard_bytes, shards)
    return replace(plan, shards=tiling)


def _divided(
    variables: tuple[PlannedVariable, ...],
    sizes: Mapping[str, int],
    whole: Collection[str],
    most_bytes: int,
    fewest: int = 1,
) -> Tiling:
    """Divide the axes that variables vary over, except those in `whole`."""
    varied = {dim for variable in variables for dim in variable.shape} - set(whole)
    return split_evenly(
        sizes,
        lambda tiling: tiling.count >= fewest and _region_bytes(variables, tiling) <= most_bytes,
        [axis for axis in sizes if axis in varied],
    )


def in_units(size: int) -> str:
    """Format a number of bytes with a decimal unit."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


def _variables(
    grid: Resolved, dtype: FloatType, calibration: Calibration | None
) -> tuple[PlannedVariable, ...]:
    sizes = {**grid.sizes, "operator": len(grid.operators)}
    added = [] if calibration is None else interval_variables(grid.variables)

    def planned(name: str) -> PlannedVariable:
        shape = {dim: sizes[dim] for dim in grid.dims(name)}
        width = np.dtype(VARIABLES[name].dtype or dtype).itemsize
        return PlannedVariable(name, shape, width * prod(shape.values()))

    return tuple(planned(name) for name in (*grid.variables, *added))


def _region_bytes(variables: tuple[PlannedVariable, ...], tiling: Tiling) -> int:
    """Memory of all variables over the largest region. [byte]"""
    shape = tiling.shape
    return sum(
        variable.bytes
        // prod(variable.shape.values())
        * prod(shape.get(dim, size) for dim, size in variable.shape.items())
        for variable in variables
    )
