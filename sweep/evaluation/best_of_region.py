"""The best of a region, from the best of its tiles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from sweep.evaluation.best_of_tile import Asked, best_cells, best_scores
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan
from sweep.evaluation.tile_region import TileRegion
from sweep.evaluation.workspaces import Computed
from sweep.files.categories import fill_of
from sweep.grid.dataset import coordinates
from sweep.grid.tiling import Region
from sweep.queries.best import POSITION, Best

Array = np.ndarray[Any, Any]


class BestOfRegion(TileRegion):
    """The best of the tiles so far, for each kept cell of a region."""

    def __init__(self, plan: Plan, best: Best, work: Evaluation, region: Region) -> None:
        """Start without any."""
        super().__init__(plan, best, work, region)
        self.best = best
        names = self.names
        carried = set(best.carried)
        self.carried = {name: work.dims[name] for name in names if name in carried}
        self.asked = _asked(best, work, [name for name in names if name not in carried])
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
        tile, own = self.indices(computed), self.own(computed)
        for name, dims in self.carried.items():
            source = tuple(own[dim] for dim in dims)
            index = self._index(own, tile, dims)
            self.values[name][index] = np.asarray(computed.results[name])[source]
        used = {name for name, _ in self.asked.dims}
        variables = {name: array for name, array in computed.results.items() if name in used}
        allowed = self.allowed(tile, own, self.best.reduced)
        scores = best_scores(self.asked, self.axes, variables, allowed)
        inner = tuple(own[axis] for axis in self.best.kept)
        there = self._index(own, tile, self.best.kept)
        kept = [tile[axis].size for axis in self.best.kept]
        score = np.asarray(scores.best).reshape(kept)[inner]
        if not self._may_win(score, there).any():
            return
        found = best_cells(self.asked, self.axes, variables, allowed, scores)
        position = self._position(np.asarray(found.position)[inner], tile)
        position = np.where(score > -np.inf, position, self._missing)
        values = {name: np.asarray(array)[inner] for name, array in found.values.items()}
        wins = self.best.wins(
            (values[self.best.by], position),
            (self.values[self.best.by][there], self.position[there]),
        )
        for name, array in values.items():
            self.values[name][there] = np.where(wins, array, self.values[name][there])
        self.position[there] = np.where(wins, position, self.position[there])

    def _may_win(self, score: Array, there: Any) -> Array:
        """Whether a score is at least as good as the best so far; of equal ones the first wins."""
        old = self.values[self.best.by][there]
        better = score >= (old if self.best.largest else -old)
        return np.asarray((score > -np.inf) & (better | (self.position[there] < 0)))

    @property
    def _missing(self) -> int:
        return int(fill_of(self.position.dtype))

    def _position(self, local: Array, tile: Mapping[str, Array]) -> Array:
        """Positions in the grid of the reduced axes from those in a tile."""
        axes = self.best.reduced
        if not axes:
            return local.astype(np.int64)
        indices = np.unravel_index(local, [tile[axis].size for axis in axes])
        pairs = zip(axes, indices, strict=True)
        return self.best.grid.position(axes, [tile[axis][index] for axis, index in pairs])

    def _index(
        self, own: Mapping[str, slice], tile: Mapping[str, Array], dims: tuple[str, ...]
    ) -> Any:
        """Index of the cells of a tile into an array of the region."""
        return np.ix_(*(tile[dim][own[dim]] - self.region[dim].start for dim in dims))

    def partial(self) -> xr.Dataset:
        """The best of all tiles, labelled."""
        variables: dict[Any, Any] = {
            name: (
                self.carried.get(name, self.best.kept),
                array,
                self.attributes(name),
            )
            for name, array in self.values.items()
        }
        variables[POSITION] = (self.best.kept, self.position, {})
        grid = self.plan.grid.part(self.region)
        labels = coordinates(grid, tuple(self.plan.grid.operators), self.best.kept)
        return xr.Dataset(variables, labels, self.global_attributes())


def _asked(best: Best, work: Evaluation, taken: list[str]) -> Asked:
    used = {best.by, *taken, *best.where.names}
    return Asked(
        by=best.by,
        largest=best.largest,
        reduced=best.reduced,
        kept=best.kept,
        taken=tuple(taken),
        condition=best.where.condition,
        dims=tuple((name, dims) for name, dims in work.dims.items() if name in used),
    )
