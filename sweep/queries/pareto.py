"""Pareto fronts over the grid: what can be had of one thing without giving up another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sweep.queries.axes_of_grid import Places, Space
from sweep.queries.canvas import values_over
from sweep.queries.front_of_points import Costs, candidates, front
from sweep.queries.outcome import told
from sweep.queries.where import Where
from sweep.schema.axes import AXIS_LONG_NAMES, LABELLED

FRONT = "front"
GROUP, POSITION = "front_group", "front_position"
"""Where a point lies in the grid of the kept axes and in that of the others."""


@dataclass(frozen=True)
class Pareto:
    """The points that no other point of their group beats in every objective.

    Attributes:
        space: The whole grid.
        where: What a point has to satisfy.
        objectives: Variables, and of each whether more of it is better.
        kept: Axes of which each place has a front of its own, in the order of the grid.
        reduced: The other axes of the points.
        text: How the user asked for it.
    """

    space: Space
    where: Where
    objectives: Mapping[str, bool]
    kept: tuple[str, ...]
    reduced: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that no part may cut: none."""
        return ()

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes of a point, group first."""
        return (*self.kept, *self.reduced)

    def within(self, part: xr.Dataset) -> xr.Dataset:
        """The fronts of one part of the grid.

        Returns:
            Along `front` the points, with every variable there, and where in the grid they lie.
        """
        names = [name for name in part.data_vars if name in self.space.inside(self.axes)]
        part = part.drop_vars(set(part.data_vars) - set(names)).compute()
        sizes = {axis: part.sizes[axis] for axis in self.axes}
        chosen = self._candidates(part, sizes)
        local = dict(zip(self.axes, np.unravel_index(chosen, tuple(sizes.values())), strict=True))
        places = {axis: self.space.places(part, axis)[local[axis]] for axis in self.axes}
        variables: dict[Any, Any] = {
            name: (
                FRONT,
                part[name].values[tuple(local[str(dim)] for dim in part[name].dims)],
                part[name].attrs,
            )
            for name in names
        }
        for name, axes in ((GROUP, self.kept), (POSITION, self.reduced)):
            position = self.space.position(axes, [places[axis] for axis in axes])
            variables[name] = (FRONT, np.broadcast_to(position, chosen.shape))
        return self._on_front(xr.Dataset(variables, attrs=part.attrs))

    def _candidates(self, part: xr.Dataset, sizes: Mapping[str, int]) -> Places:
        """Positions in the part of points that may be on a front."""
        arrays = [values_over(part[name].variable, sizes) for name in self.objectives]
        allowed = np.logical_and.reduce([np.isfinite(array) for array in arrays])
        mask = self.where.mask(part)
        if mask is not None:
            allowed &= values_over(mask.variable, sizes)
        costs = np.where(allowed, self._costs(arrays), np.inf)
        groups = int(np.prod([sizes[axis] for axis in self.kept]))
        return candidates(costs.reshape(len(costs), groups, -1))

    def _costs(self, values: Sequence[Any]) -> Costs:
        return np.stack(
            [-v if more else v for v, more in zip(values, self.objectives.values(), strict=True)]
        )

    def _on_front(self, points: xr.Dataset) -> xr.Dataset:
        costs = self._costs([points[name].values for name in self.objectives])
        stay = front(costs, points[GROUP].values, points[POSITION].values)
        number = (
            FRONT,
            np.arange(1, stay.size + 1, dtype=np.int32),
            {
                "long_name": "number of a point on a front",
                "units": "1",
            },
        )
        return (
            points.drop_vars(FRONT, errors="ignore")
            .isel({FRONT: stay})
            .assign_coords({FRONT: number})
        )

    def combine(self, *parts: xr.Dataset) -> xr.Dataset:
        """The fronts of several parts, in whatever order they come and however they were cut."""
        if len(parts) == 1:
            return parts[0]
        names = list(parts[0].data_vars)
        variables = {
            name: (
                FRONT,
                np.concatenate([part[name].values for part in parts]),
                parts[0][name].attrs,
            )
            for name in names
        }
        return self._on_front(xr.Dataset(variables, attrs=parts[0].attrs))

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, with the coordinates of each point beside `front`."""
        places = {
            **self.space.unravel(self.kept, partial[GROUP].values),
            **self.space.unravel(self.reduced, partial[POSITION].values),
        }
        result = partial.drop_vars([GROUP, POSITION])
        for name in self.objectives:
            result[name] = told(result[name], self._comment(name))
        return result.assign_coords(
            {axis: self._coordinate(axis, places[axis]) for axis in self.space.in_order(places)}
        )

    def _coordinate(self, axis: str, places: Places) -> tuple[str, Any, dict[str, str]]:
        values = np.asarray(self.space.axes[axis])
        attributes = {"long_name": f"{AXIS_LONG_NAMES[axis]} of a point"}
        if axis in LABELLED:
            return FRONT, values.astype(object)[places], attributes
        if values.dtype.kind == "i":
            values = values.astype(np.int32)
        return FRONT, values[places], {**attributes, "units": "1"}

    def _comment(self, name: str) -> str:
        others = ", ".join(other for other in self.objectives if other != name)
        per = f" for each {', '.join(self.kept)}" if self.kept else ""
        under = f" where {self.where.text}" if self.where.text else ""
        return f"On the Pareto front with {others}{per}{under}; of equal points the first."
