"""Reduces the tiles of a region on the device that computed them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sweep.evaluation.best_of_tile import Asked, best_of_tile
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import Plan
from sweep.evaluation.workspaces import Computed
from sweep.files.categories import fill_of
from sweep.grid import thresholds
from sweep.grid.dataset import Origin, coordinates, global_attributes, variable_attributes
from sweep.grid.tiling import Region, offset, overlap
from sweep.queries.best import POSITION, Best
from sweep.queries.where import COMPARISONS
from sweep.schema.variables import VARIABLES

Array = np.ndarray[Any, Any]


def is_reduced_in_tiles(plan: Plan, work: Evaluation) -> bool:
    """Whether the reduction of a plan is computed tile by tile, before results are assembled.

    Not for small grids, whose results take less time than compiling the reduction, nor over
    operators, which models of several structures do not share.
    """
    asked = plan.reduction
    if not isinstance(asked, Best) or plan.points < thresholds.REDUCED_IN_TILES:
        return False
    named = {asked.by, *asked.where.names} - set(asked.grid.labels)
    return named <= set(work.dims) and "operator" not in (*asked.kept, *asked.reduced)


def best_of_region(plan: Plan, work: Evaluation, region: Region) -> xr.Dataset:
    """The partial result of a best over a region, as `Best.within` returns it.

    Args:
        plan: The plan, whose reduction is a best.
        work: Its evaluation.
        region: Index range of each axis.
    """
    assert isinstance(plan.reduction, Best)
    found = _BestOfRegion(plan, plan.reduction, work, region)
    for computed in work.tiles(region):
        with work.types():
            found.add(computed)
    return found.partial()


class _BestOfRegion:
    """The best of the tiles so far, for each kept cell of a region."""

    def __init__(self, plan: Plan, best: Best, work: Evaluation, region: Region) -> None:
        self.plan, self.best, self.region = plan, best, region
        self.axes = tuple(axis for axis in best.grid.labels if axis in (*best.kept, *best.reduced))
        names = [name for name in work.dims if set(work.dims[name]) <= set(self.axes)]
        carried = set(best.carried)
        self.carried = {name: work.dims[name] for name in names if name in carried}
        self.asked = _asked(best, work, [name for name in names if name not in carried])
        self.indices_allowed = _indices_allowed(best)
        lengths = {axis: len(indices) for axis, indices in region.items()}
        kept = [lengths[axis] for axis in best.kept]
        dims = {**self.carried, **dict.fromkeys(self.asked.taken, best.kept)}
        self.values = {
            name: np.full(
                [lengths[d] for d in dims[name]], fill_of(work.type_of(name)), work.type_of(name)
            )
            for name in names
        }
        self.position = np.full(kept, fill_of(np.dtype(np.int64)), np.int64)

    def add(self, computed: Computed) -> None:
        """Choose between the best so far and those of a tile."""
        tile = {axis: _grid_indices(computed, axis) for axis in self.axes}
        own = {axis: self._own(computed, axis) for axis in self.axes}
        used = {name for name, _ in self.asked.dims}
        found = best_of_tile(
            self.asked,
            self.axes,
            {name: array for name, array in computed.results.items() if name in used},
            self._allowed(tile, own),
        )
        inner = tuple(own[axis] for axis in self.best.kept)
        position = self._position(np.asarray(found.position)[inner], tile)
        exists = np.asarray(found.exists)[inner]
        position = np.where(exists, position, self._missing)
        there = self._place(own, tile, self.best.kept)
        values = {name: np.asarray(array)[inner] for name, array in found.values.items()}
        wins = self.best.wins(
            (values[self.best.by], position),
            (self.values[self.best.by][there], self.position[there]),
        )
        for name, array in values.items():
            self.values[name][there] = np.where(wins, array, self.values[name][there])
        self.position[there] = np.where(wins, position, self.position[there])
        for name, dims in self.carried.items():
            source = tuple(own[dim] for dim in dims)
            place = self._place(own, tile, dims)
            self.values[name][place] = np.asarray(computed.results[name])[source]

    @property
    def _missing(self) -> int:
        return int(fill_of(self.position.dtype))

    def _own(self, computed: Computed, axis: str) -> slice:
        """Indices in a tile that it has in common with the region, and with no other tile."""
        own, tile = computed.own[axis], computed.tile[axis]
        if axis == "model":
            wanted = self.region["model"]
            inside = [i for i in own if computed.structure.models[i] in wanted]
            return offset(range(inside[0], inside[-1] + 1), tile)
        return offset(overlap(own, self.region[axis]), tile)

    def _allowed(self, tile: Mapping[str, Array], own: Mapping[str, slice]) -> dict[str, Array]:
        """By axis, which indices of a tile may be chosen, where that is not all."""
        found = {}
        for axis, indices in tile.items():
            mask = np.zeros(indices.size, np.bool_)
            mask[own[axis] if axis in self.best.reduced else slice(None)] = True
            if axis in self.indices_allowed:
                mask &= self.indices_allowed[axis][indices]
            if not mask.all():
                found[axis] = mask
        return found

    def _position(self, local: Array, tile: Mapping[str, Array]) -> Array:
        """Positions in the grid of the reduced axes from those in a tile."""
        axes = self.best.reduced
        if not axes:
            return local.astype(np.int64)
        indices = np.unravel_index(local, [tile[axis].size for axis in axes])
        pairs = zip(axes, indices, strict=True)
        return self.best.grid.position(axes, [tile[axis][index] for axis, index in pairs])

    def _place(
        self, own: Mapping[str, slice], tile: Mapping[str, Array], dims: tuple[str, ...]
    ) -> Any:
        """Index of the cells of a tile into an array of the region."""
        return np.ix_(*(tile[dim][own[dim]] - self.region[dim].start for dim in dims))

    def partial(self) -> xr.Dataset:
        """The best of all tiles, labelled."""
        grid = self.plan.grid.part(self.region)
        present = [variable.name for variable in self.plan.variables]
        variables: dict[Any, Any] = {
            name: (
                self.carried.get(name, self.best.kept),
                array,
                variable_attributes(VARIABLES[name], dict.fromkeys(present)),
            )
            for name, array in self.values.items()
        }
        variables[POSITION] = (self.best.kept, self.position, {})
        attributes = global_attributes(grid, Origin())
        if self.plan.calibration is not None:
            attributes |= calibrated_attributes(self.plan.calibration, present)
        labels = coordinates(grid, tuple(self.plan.grid.operators), self.best.kept)
        return xr.Dataset(variables, labels, attributes)


def _asked(best: Best, work: Evaluation, taken: list[str]) -> Asked:
    constraints = tuple(
        (clause.name, clause.sign, float(clause.value))
        for clause in best.where.clauses
        if clause.name not in best.grid.labels
    )
    used = {best.by, *taken, *(name for name, _, _ in constraints)}
    return Asked(
        by=best.by,
        largest=best.largest,
        reduced=best.reduced,
        kept=best.kept,
        taken=tuple(taken),
        constraints=constraints,
        dims=tuple((name, dims) for name, dims in work.dims.items() if name in used),
    )


def _indices_allowed(best: Best) -> dict[str, Array]:
    """By axis, which indices of the grid satisfy the constraints on its labels."""
    found: dict[str, Array] = {}
    for clause in best.where.clauses:
        if clause.name in best.grid.labels:
            labels = np.asarray(best.grid.labels[clause.name])
            holds = np.asarray(COMPARISONS[clause.sign](labels, clause.value), np.bool_)
            found[clause.name] = holds & found.get(clause.name, np.ones(labels.size, np.bool_))
    return found


def _grid_indices(computed: Computed, axis: str) -> Array:
    """Indices in the grid of those of a tile."""
    indices = computed.tile[axis]
    if axis == "model":
        return np.asarray([computed.structure.models[i] for i in indices], np.int64)
    return np.arange(indices.start, indices.stop)
