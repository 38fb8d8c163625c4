"""The whole grid as a reduction sees it: axes in order, and where each place of a part lies in it.

What is computed at a place is not its business.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.errors import ResultError
from sweep.schema.axes import AXES
from sweep.schema.variables import dims_of
from sweep.specs.parsing import nearest

Places = NDArray[np.int64]
"""Indices into an axis, or positions in the grid of several axes in row-major order."""


@dataclass(frozen=True)
class Space:
    """Axes of the whole grid and the dimensions of its variables.

    A part of the grid, such as a shard, is measured against this, so that a place has the same
    position however the grid was cut.

    Attributes:
        axes: Labels or numbers of each axis, in the order of the grid.
        dims: Dimensions of each variable, in the order in which they were asked for.
    """

    axes: Mapping[str, Sequence[Any]]
    dims: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, dataset: xr.Dataset) -> "Space":
        """The space of a dataset that holds the whole grid."""
        axes = [dim for dim in (*AXES, "operator") if dim in dataset.dims]
        return cls(
            {axis: dataset[axis].values.tolist() for axis in axes},
            {str(name): tuple(map(str, array.dims)) for name, array in dataset.data_vars.items()},
        )

    @classmethod
    def of_axes(cls, axes: Mapping[str, Sequence[Any]], names: Iterable[str]) -> "Space":
        """The space of a grid that is not computed yet.

        Args:
            axes: Labels or numbers of each axis.
            names: Its variables; those over an axis that is not given are left out.

        Raises:
            GridError: A variable needs an axis the grid lacks.
        """
        known = {axis: list(axes[axis]) for axis in (*AXES, "operator") if axis in axes}
        dims = {name: dims_of(name, known) for name in names}
        return cls(known, {name: over for name, over in dims.items() if set(over) <= set(known)})

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        return {axis: {v: i for i, v in enumerate(values)} for axis, values in self.axes.items()}

    def in_order(self, axes: Iterable[str]) -> tuple[str, ...]:
        """These axes, each once, as the grid orders them."""
        wanted = set(axes)
        return tuple(axis for axis in self.axes if axis in wanted)

    def axes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Every axis over which one of the variables varies."""
        return self.in_order(axis for name in names for axis in self.dims[name])

    def inside(self, axes: Iterable[str]) -> tuple[str, ...]:
        """Every variable that varies over no other axes than these."""
        wanted = set(axes)
        return tuple(name for name, dims in self.dims.items() if set(dims) <= wanted)

    def sizes(self, axes: Iterable[str]) -> tuple[int, ...]:
        """Number of places along each axis of the whole grid."""
        return tuple(len(self.axes[axis]) for axis in axes)

    def places(self, part: xr.Dataset | xr.DataArray, axis: str) -> Places:
        """Where the places of a part along an axis stand in the whole grid.

        Raises:
            ResultError: The part has a label or number that the grid lacks.
        """
        known = self._places[axis]
        values = part[axis].values.tolist()
        strange = [value for value in values if value not in known]
        if strange:
            raise ResultError(f"{axis}: {strange[0]!r} is not in the grid that is reduced")
        return np.asarray([known[value] for value in values], np.int64)

    def position(self, axes: Sequence[str], places: Sequence[Places]) -> Places:
        """Positions in the grid of `axes`; the places broadcast against one another."""
        if not axes:
            return np.zeros(np.broadcast_shapes(*(p.shape for p in places)), np.int64)
        return np.asarray(np.ravel_multi_index(tuple(places), self.sizes(axes)), np.int64)

    def unravel(self, axes: Sequence[str], position: Places) -> dict[str, Places]:
        """Places along each of `axes` of positions in their grid."""
        if not axes:
            return {}
        found = np.unravel_index(position, self.sizes(axes))
        return {axis: np.asarray(p, np.int64) for axis, p in zip(axes, found, strict=True)}

    def check_axis(self, axis: str, where: str) -> str:
        """The axis, if there is one of that name.

        Raises:
            ResultError: There is none.
        """
        if axis not in self.axes:
            raise ResultError(f"{where}: no axis {axis!r}{_hint(axis, list(self.axes))}")
        return axis

    def check_variable(self, name: str, where: str) -> str:
        """The variable, if there is one of that name.

        Raises:
            ResultError: There is none.
        """
        if name not in self.dims:
            raise ResultError(f"{where}: no variable {name!r}{_hint(name, list(self.dims))}")
        return name


def _hint(name: str, known: list[str]) -> str:
    return nearest(name, known) or f"; known: {', '.join(known)}"
