"""Cells that the tiles of an evaluation have in common with a region of its grid."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import Plan
from sweep.evaluation.tile_cells import key_of
from sweep.evaluation.workspaces import Computed
from sweep.grid.dataset import Origin, global_attributes, variable_attributes
from sweep.grid.tiling import Region, offset, overlap
from sweep.queries.reduction import Reduction
from sweep.queries.where import COMPARISONS
from sweep.schema.variables import VARIABLES

Array = np.ndarray[Any, Any]


class TileRegion:
    """A region that is reduced tile by tile.

    Attributes:
        axes: Kept and reduced axes, in the order of the grid.
        names: Variables that vary over no other axes.
    """

    def __init__(self, plan: Plan, reduction: Reduction, work: Evaluation, region: Region) -> None:
        """Find the axes, and which of their labels satisfy the constraints."""
        self.plan, self.region, self.grid = plan, region, reduction.grid
        used = (*reduction.kept, *reduction.reduced)
        self.axes = tuple(axis for axis in self.grid.labels if axis in used)
        self.names = [name for name in work.dims if set(work.dims[name]) <= set(used)]
        self._labels_allowed = _labels_allowed(reduction)

    def indices(self, computed: Computed) -> dict[str, Array]:
        """Indices in the grid of those of a tile."""
        return {axis: _grid_indices(computed, axis) for axis in self.axes}

    def own(self, computed: Computed) -> dict[str, slice]:
        """Indices in a tile that it has in common with the region, and with no other tile."""
        return {axis: self._own(computed, axis) for axis in self.axes}

    def _own(self, computed: Computed, axis: str) -> slice:
        own, tile = computed.own[axis], computed.tile[axis]
        if axis == "model":
            wanted = self.region["model"]
            inside = [i for i in own if computed.structure.models[i] in wanted]
            return offset(range(inside[0], inside[-1] + 1), tile)
        return offset(overlap(own, self.region[axis]), tile)

    def allowed(
        self, tile: Mapping[str, Array], own: Mapping[str, slice], limited: Collection[str]
    ) -> dict[str, Array]:
        """By axis, which indices of a tile may be chosen, where that is not all; masks of labels.

        Args:
            tile: Indices in the grid.
            own: Indices in the tile that belong to it and to the region.
            limited: Axes along which only these may be chosen.
        """
        found = {}
        for axis, indices in tile.items():
            mask = np.zeros(indices.size, np.bool_)
            mask[own[axis] if axis in limited else slice(None)] = True
            if not mask.all():
                found[axis] = mask
        for key, (axis, holds) in self._labels_allowed.items():
            found[key] = holds[tile[axis]]
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of a variable."""
        return variable_attributes(VARIABLES[name], dict.fromkeys(self._present))

    def global_attributes(self) -> dict[str, Any]:
        """Attributes of a result over the region."""
        found = global_attributes(self.plan.grid.part(self.region), Origin())
        if self.plan.calibration is None:
            return found
        return found | calibrated_attributes(
            self.plan.calibration, self.plan.calibrated_name, self._present
        )

    @property
    def _present(self) -> list[str]:
        return [variable.name for variable in self.plan.variables]


def _labels_allowed(reduction: Reduction) -> dict[str, tuple[str, Array]]:
    """By clause on an axis, the axis, and which of its labels satisfy the clause."""
    found = {}
    for clause in reduction.where.clauses:
        if clause.name in reduction.grid.labels:
            labels = np.asarray(reduction.grid.labels[clause.name])
            holds = np.asarray(COMPARISONS[clause.sign](labels, clause.value), np.bool_)
            found[key_of(clause)] = clause.name, holds
    return found


def _grid_indices(computed: Computed, axis: str) -> Array:
    indices = computed.tile[axis]
    if axis == "model":
        return np.asarray([computed.structure.models[i] for i in indices], np.int64)
    return np.arange(indices.start, indices.stop)
