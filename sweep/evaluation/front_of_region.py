"""The Pareto fronts of a region, from the cells of its tiles that may be on them."""

from typing import Any

import numpy as np
import xarray as xr

from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.front_of_tile import Asked, possible_cells
from sweep.evaluation.plan import Plan
from sweep.evaluation.tile_region import TileRegion
from sweep.evaluation.workspaces import Computed
from sweep.grid.tiling import Region
from sweep.queries.front_of_points import Costs
from sweep.queries.pareto import FRONT, GROUP, POSITION, Pareto

Array = np.ndarray[Any, Any]


class FrontOfRegion(TileRegion):
    """The fronts of the tiles so far, as points with all variables."""

    def __init__(self, plan: Plan, pareto: Pareto, work: Evaluation, region: Region) -> None:
        """Start without points."""
        super().__init__(plan, pareto, work, region)
        self.pareto = pareto
        self.dims = {name: work.dims[name] for name in self.names}
        used = {*pareto.objectives, *pareto.where.names}
        self.asked = Asked(
            objectives=tuple(pareto.objectives.items()),
            kept=pareto.kept,
            axes=self.axes,
            condition=pareto.where.condition,
            dims=tuple((name, dims) for name, dims in self.dims.items() if name in used),
        )
        self.points: dict[str, Array] = {
            **{name: np.zeros(0, work.type_of(name)) for name in self.names},
            **{name: np.zeros(0, np.int64) for name in (GROUP, POSITION)},
        }

    def add(self, computed: Computed) -> None:
        """Join the points so far with those of a tile."""
        tile = self.indices(computed)
        allowed = self.allowed(tile, self.own(computed), self.axes)
        used = {name for name, _ in self.asked.dims}
        variables = {name: array for name, array in computed.results.items() if name in used}
        cells = possible_cells(self.asked, variables, allowed, self._known(tile))
        found = self._points(computed, tile, np.concatenate(cells), allowed)
        joined = {name: np.concatenate([self.points[name], found[name]]) for name in self.points}
        stay = self.pareto.on_front(joined)
        self.points = {name: values[stay] for name, values in joined.items()}

    def _known(self, tile: dict[str, Array]) -> list[Costs]:
        """Points so far of each group of a tile."""
        kept = self.pareto.kept
        indices = np.ix_(*(tile[axis] for axis in kept))
        groups = np.atleast_1d(self.grid.position(kept, indices) if kept else np.int64(0))
        costs = self.pareto.costs([self.points[name] for name in self.pareto.objectives])
        return [costs[:, self.points[GROUP] == group] for group in groups.ravel()]

    def _points(
        self,
        computed: Computed,
        tile: dict[str, Array],
        cells: Array,
        allowed: dict[str, Array],
    ) -> dict[str, Array]:
        """Cells of a tile as points, those that are allowed."""
        indices = np.unravel_index(cells, [tile[axis].size for axis in self.axes])
        local = dict(zip(self.axes, indices, strict=True))
        values = {
            name: np.asarray(computed.results[name])[tuple(local[dim] for dim in dims)]
            for name, dims in self.dims.items()
        }
        labels = {
            axis: np.asarray(self.grid.labels[axis])[tile[axis][local[axis]]]
            for axis in self.axes
            if axis in self.pareto.where.names
        }
        stays = self.pareto.qualifies({**values, **labels})
        for axis in self.axes:
            if axis in allowed:
                stays &= allowed[axis][local[axis]]
        for name, axes in ((GROUP, self.pareto.kept), (POSITION, self.pareto.reduced)):
            position = self.grid.position(axes, [tile[axis][local[axis]] for axis in axes])
            values[name] = np.broadcast_to(position, cells.shape)
        return {name: array[stays] for name, array in values.items()}

    def partial(self) -> xr.Dataset:
        """The fronts of all tiles, labelled."""
        variables: dict[Any, Any] = {
            name: (FRONT, values, self.attributes(name) if name in self.dims else {})
            for name, values in self.points.items()
        }
        return self.pareto.numbered(xr.Dataset(variables, attrs=self.global_attributes()))
