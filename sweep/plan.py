"""What a sweep will compute and how large it will be, before anything runs."""

from dataclasses import dataclass
from math import prod

import numpy as np

from sweep.grid import Resolved
from sweep.stacking import model_params
from sweep.transformer import operator_names
from sweep.variables import VARIABLES


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
    """A sweep before it runs.

    Attributes:
        points: Cells of the outer product of all axes. [count]
        sizes: Length of each axis. [count]
        variables: What will be computed.
    """

    points: int
    sizes: dict[str, int]
    variables: tuple[PlannedVariable, ...]

    @property
    def bytes(self) -> int:
        """Memory of all variables. [byte]"""
        return sum(variable.bytes for variable in self.variables)


def make_plan(grid: Resolved, dtype: str = "float32") -> Plan:
    """Lay out what `grid` will compute in floats of `dtype`."""
    names = {n for _, blocks in grid.models for n in operator_names(model_params(blocks))}
    sizes = {**grid.sizes, "operator": len(names)}

    def planned(name: str) -> PlannedVariable:
        shape = {dim: sizes[dim] for dim in grid.dims(name)}
        width = np.dtype(VARIABLES[name].dtype or dtype).itemsize
        return PlannedVariable(name, shape, width * prod(shape.values()))

    return Plan(grid.points, grid.sizes, tuple(planned(name) for name in grid.variables))
