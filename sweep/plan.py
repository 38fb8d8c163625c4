"""What a sweep will compute, how large it will be and how it is cut, before anything runs."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from sweep.cutting import Cut, cut_until
from sweep.fitted import FittedEfficiency
from sweep.grid import Resolved
from sweep.intervals import interval_variables
from sweep.stacking import merged, model_params
from sweep.transformer import operator_names
from sweep.variables import VARIABLES

SHARD_BYTES = 2**26
"""Size that a shard stays below where its axes can be cut that far. [byte]"""
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
    """

    grid: Resolved
    dtype: FloatType
    keep_infeasible: bool
    efficiency: FittedEfficiency | None
    cut: Cut

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
        """Size of all shards: what does not vary over a cut axis stands in each. [byte]"""
        pieces = self.cut.pieces
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
    shards: int = 1,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    """Lay out what `grid` will compute, cut along its axes in their order.

    An axis that no variable varies over is left whole.

    Args:
        grid: The resolved grid.
        dtype: Type of the results.
        keep_infeasible: Whether throughputs stand where a configuration cannot run.
        efficiency: A calibration; ideal rooflines if not given.
        shards: The least number of shards, if the axes are long enough. [count]
        shard_bytes: Size that a shard stays below, if the axes are long enough. [byte]
    """
    variables = _variables(grid, dtype, efficiency)

    def enough(cut: Cut) -> bool:
        return cut.shards >= shards and _shard_bytes(variables, cut) <= shard_bytes

    varied = {dim for variable in variables for dim in variable.shape}
    cut = cut_until({axis: n for axis, n in grid.sizes.items() if axis in varied}, enough)
    pieces = {axis: cut.pieces.get(axis, 1) for axis in grid.sizes}
    return Plan(grid, dtype, keep_infeasible, efficiency, Cut(grid.sizes, pieces))


def in_units(size: int) -> str:
    """Bytes in words, in decimal units."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


def _variables(
    grid: Resolved, dtype: FloatType, efficiency: FittedEfficiency | None
) -> tuple[PlannedVariable, ...]:
    names = merged([operator_names(model_params(blocks)) for _, blocks in grid.models])
    sizes = {**grid.sizes, "operator": len(names)}
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
