"""Axes of the whole grid, and the indices of a sub-grid in it."""

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

Indices = NDArray[np.int64]
"""Indices along one axis, or positions: row-major indices into the grid of several axes."""


@dataclass(frozen=True)
class GridAxes:
    """Axes of the whole grid and dimensions of its variables.

    Sub-grids, such as shards, are located in it, so a cell has the same position however the grid
    is tiled.

    Attributes:
        labels: Labels or numbers of each axis, in the order of the grid.
        dims: Dimensions of each variable, in the order of the request.
    """

    labels: Mapping[str, Sequence[Any]]
    dims: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, dataset: xr.Dataset) -> "GridAxes":
        """The axes of a dataset that holds the whole grid."""
        axes = [dim for dim in (*AXES, "operator") if dim in dataset.dims]
        return cls(
            {axis: dataset[axis].values.tolist() for axis in axes},
            {str(name): tuple(map(str, array.dims)) for name, array in dataset.data_vars.items()},
        )

    @classmethod
    def of_axes(cls, axes: Mapping[str, Sequence[Any]], names: Iterable[str]) -> "GridAxes":
        """The axes of a grid that is not computed yet.

        Args:
            axes: Labels or numbers of each axis.
            names: Its variables; those over an axis that is not given are left out.

        Raises:
            GridError: A variable needs an axis that the grid lacks.
        """
        known = {axis: list(axes[axis]) for axis in (*AXES, "operator") if axis in axes}
        dims = {name: dims_of(name, known) for name in names}
        return cls(known, {name: over for name, over in dims.items() if set(over) <= set(known)})

    @cached_property
    def _index_of(self) -> dict[str, dict[Any, int]]:
        return {axis: {v: i for i, v in enumerate(values)} for axis, values in self.labels.items()}

    def in_order(self, axes: Iterable[str]) -> tuple[str, ...]:
        """These axes in the order of the grid, each once."""
        wanted = set(axes)
        return tuple(axis for axis in self.labels if axis in wanted)

    def axes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Every axis over which one of the variables varies."""
        return self.in_order(axis for name in names for axis in self.dims[name])

    def inside(self, axes: Iterable[str]) -> tuple[str, ...]:
        """Every variable that varies over no other axes than these."""
        wanted = set(axes)
        return tuple(name for name, dims in self.dims.items() if set(dims) <= wanted)

    def sizes(self, axes: Iterable[str]) -> tuple[int, ...]:
        """Length of each axis of the whole grid."""
        return tuple(len(self.labels[axis]) for axis in axes)

    def indices(self, subgrid: xr.Dataset | xr.DataArray, axis: str) -> Indices:
        """Indices in the whole grid of the labels of a sub-grid along an axis.

        Raises:
            ResultError: The sub-grid has a label or number that the grid lacks.
        """
        known = self._index_of[axis]
        labels = subgrid[axis].values.tolist()
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise ResultError(f"{axis}: {unknown[0]!r} is not in the grid that is reduced")
        return np.asarray([known[label] for label in labels], np.int64)

    def position(self, axes: Sequence[str], indices: Sequence[Indices]) -> Indices:
        """Positions in the grid of `axes`; the indices broadcast against one another."""
        if not axes:
            return np.zeros(np.broadcast_shapes(*(i.shape for i in indices)), np.int64)
        return np.asarray(np.ravel_multi_index(tuple(indices), self.sizes(axes)), np.int64)

    def unravel(self, axes: Sequence[str], position: Indices) -> dict[str, Indices]:
        """Indices along each of `axes` of positions in their grid."""
        if not axes:
            return {}
        found = np.unravel_index(position, self.sizes(axes))
        return {axis: np.asarray(i, np.int64) for axis, i in zip(axes, found, strict=True)}

    def check_axis(self, axis: str, where: str) -> str:
        """Return the axis if the grid has it.

        Raises:
            ResultError: The grid lacks it; the message begins with `where`.
        """
        if axis not in self.labels:
            raise ResultError(f"{where}: no axis {axis!r}{_hint(axis, list(self.labels))}")
        return axis

    def check_variable(self, name: str, where: str) -> str:
        """Return the variable if the grid has it.

        Raises:
            ResultError: The grid lacks it; the message begins with `where`.
        """
        if name not in self.dims:
            raise ResultError(f"{where}: no variable {name!r}{_hint(name, list(self.dims))}")
        return name


def _hint(name: str, known: list[str]) -> str:
    return nearest(name, known) or f"; known: {', '.join(known)}"
