"""Pareto fronts over the grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.queries.assembly import values_over
from sweep.queries.front_of_points import Costs, front, possible_points
from sweep.queries.grid_axes import GridAxes, Indices
from sweep.queries.result_variables import with_comment
from sweep.queries.where import Where
from sweep.schema.axes import AXIS_LONG_NAMES, LABELLED

FRONT = "front"
GROUP, POSITION = "front_group", "front_position"
"""Positions of a point in the grid of the kept axes and in that of the others."""


@dataclass(frozen=True)
class Pareto:
    """The points that no other point of their group beats in every objective.

    Attributes:
        grid: The whole grid.
        where: Constraints on a point.
        objectives: Variables, and for each whether larger is better.
        kept: Axes with a front of their own for each value, in the order of the grid.
        reduced: The other axes of the points.
        text: The request in the words of the user.
    """

    grid: GridAxes
    where: Where
    objectives: Mapping[str, bool]
    kept: tuple[str, ...]
    reduced: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that must not be divided: none."""
        return ()

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes of a point, those of its group first."""
        return (*self.kept, *self.reduced)

    def within(self, subgrid: xr.Dataset) -> xr.Dataset:
        """The fronts of a sub-grid.

        Returns:
            Along `front` the points, with all variables and their positions in the grid.
        """
        names = [name for name in subgrid.data_vars if name in self.grid.inside(self.axes)]
        subgrid = subgrid.drop_vars(set(subgrid.data_vars) - set(names)).compute()
        sizes = {axis: subgrid.sizes[axis] for axis in self.axes}
        chosen = self._possible(subgrid, sizes)
        local = dict(zip(self.axes, np.unravel_index(chosen, tuple(sizes.values())), strict=True))
        indices = {axis: self.grid.indices(subgrid, axis)[local[axis]] for axis in self.axes}
        variables: dict[Any, Any] = {
            name: (
                FRONT,
                subgrid[name].values[tuple(local[str(dim)] for dim in subgrid[name].dims)],
                subgrid[name].attrs,
            )
            for name in names
        }
        for name, axes in ((GROUP, self.kept), (POSITION, self.reduced)):
            position = self.grid.position(axes, [indices[axis] for axis in axes])
            variables[name] = (FRONT, np.broadcast_to(position, chosen.shape))
        return self._on_front(xr.Dataset(variables, attrs=subgrid.attrs))

    def _possible(self, subgrid: xr.Dataset, sizes: Mapping[str, int]) -> Indices:
        """Positions in the sub-grid of points that may be on a front."""
        arrays = [values_over(subgrid[name].variable, sizes) for name in self.objectives]
        allowed = np.logical_and.reduce([np.isfinite(array) for array in arrays])
        mask = self.where.mask(subgrid)
        if mask is not None:
            allowed &= values_over(mask.variable, sizes)
        costs = np.where(allowed, self.costs(arrays), np.inf)
        groups = int(np.prod([sizes[axis] for axis in self.kept]))
        return possible_points(costs.reshape(len(costs), groups, -1))

    def costs(self, values: Sequence[Any]) -> Costs:
        """Values of the objectives, one row each, lower where better."""
        return np.stack(
            [-v if more else v for v, more in zip(values, self.objectives.values(), strict=True)]
        )

    def qualifies(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Whether points have all objectives and satisfy the constraints.

        Args:
            values: Variables and labels of the points, by name.
        """
        qualify = np.logical_and.reduce([np.isfinite(values[name]) for name in self.objectives])
        named = {name: xr.DataArray(values[name]) for name in self.where.names}
        mask = self.where.mask(named)
        if mask is not None:
            qualify &= mask.values
        return np.asarray(qualify, np.bool_)

    def on_front(self, points: Mapping[str, Any]) -> Indices:
        """Indices of the points on the front of their group, in the order of the result."""
        costs = self.costs([np.asarray(points[name]) for name in self.objectives])
        return front(costs, np.asarray(points[GROUP]), np.asarray(points[POSITION]))

    def _on_front(self, points: xr.Dataset) -> xr.Dataset:
        stay = self.on_front({str(name): array.values for name, array in points.data_vars.items()})
        return self.numbered(points.drop_vars(FRONT, errors="ignore").isel({FRONT: stay}))

    def numbered(self, points: xr.Dataset) -> xr.Dataset:
        """Points on fronts, with their numbers along `front`."""
        numbers = np.arange(1, points.sizes[FRONT] + 1, dtype=np.int32)
        attributes = {"long_name": "number of a point on a front", "units": "1"}
        return points.assign_coords({FRONT: (FRONT, numbers, attributes)})

    def combine(self, *partials: xr.Dataset) -> xr.Dataset:
        """The fronts of several partials, in any order and for any tiling of the grid."""
        if len(partials) == 1:
            return partials[0]
        names = list(partials[0].data_vars)
        variables = {
            name: (
                FRONT,
                np.concatenate([partial[name].values for partial in partials]),
                partials[0][name].attrs,
            )
            for name in names
        }
        return self._on_front(xr.Dataset(variables, attrs=partials[0].attrs))

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, with the coordinates of each point along `front`."""
        indices = {
            **self.grid.unravel(self.kept, partial[GROUP].values),
            **self.grid.unravel(self.reduced, partial[POSITION].values),
        }
        result = partial.drop_vars([GROUP, POSITION])
        for name in self.objectives:
            result[name] = with_comment(result[name], self._comment(name))
        return result.assign_coords(
            {axis: self._coordinate(axis, indices[axis]) for axis in self.grid.in_order(indices)}
        )

    def _coordinate(self, axis: str, indices: Indices) -> tuple[str, Any, dict[str, str]]:
        values = np.asarray(self.grid.labels[axis])
        attributes = {"long_name": f"{AXIS_LONG_NAMES[axis]} of a point"}
        if axis in LABELLED:
            return FRONT, values.astype(object)[indices], attributes
        if values.dtype.kind == "i":
            values = values.astype(np.int32)
        return FRONT, values[indices], {**attributes, "units": "1"}

    def _comment(self, name: str) -> str:
        others = ", ".join(other for other in self.objectives if other != name)
        per = f" for each {', '.join(self.kept)}" if self.kept else ""
        under = f" where {self.where.text}" if self.where.text else ""
        return f"On the Pareto front with {others}{per}{under}; of equal points the first."
