"""The best cell over some axes, for every cell of the others, under constraints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of, stored_integers
from sweep.queries.assembly import Assembly, values_over
from sweep.queries.grid_axes import GridAxes, Indices
from sweep.queries.result_variables import coordinate_variable, with_comment
from sweep.queries.where import Where

POSITION = "best_position"
"""Position of the best in the grid of the reduced axes; of equal values the first counts."""
BEST = "best_"
"""Prefix of the variables with the coordinates of the best."""


@dataclass(frozen=True)
class Best:
    """The largest or smallest value over the reduced axes, and all variables of that cell.

    Attributes:
        grid: The whole grid.
        where: Constraints on a cell.
        by: The variable that is to be best.
        largest: Whether larger is better.
        reduced: Axes to choose over, in the order of the grid.
        kept: Axes with a best of their own for each value, in the order of the grid.
        text: The request in the words of the user.
    """

    grid: GridAxes
    where: Where
    by: str
    largest: bool
    reduced: tuple[str, ...]
    kept: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that must not be divided: none."""
        return ()

    @property
    def carried(self) -> tuple[str, ...]:
        """Variables that do not vary over the reduced axes; they are unchanged."""
        return self.grid.inside(self.kept)

    def within(self, subgrid: xr.Dataset) -> xr.Dataset:
        """The best of a sub-grid.

        Returns:
            Over the kept axes: all variables of the best cell, and its position in the grid of the
            reduced axes, below 0 where no cell satisfies the constraints.
        """
        inside = self.grid.inside((*self.kept, *self.reduced))
        subgrid = subgrid.drop_vars(set(subgrid.data_vars) - set(inside)).compute()
        value, local = self._choose(subgrid)
        found, index = np.isfinite(value), self._index(subgrid, local)
        position = self.grid.position(
            self.reduced, [self.grid.indices(subgrid, axis)[index[axis]] for axis in self.reduced]
        )
        take = _Taker(index, found)
        variables = {
            name: array if name in self.carried else (self.kept, take(array.variable), array.attrs)
            for name, array in subgrid.data_vars.items()
        }
        variables[POSITION] = (self.kept, np.where(found, position, fill_of(position.dtype)), {})
        return xr.Dataset(variables, {axis: subgrid[axis] for axis in self.kept}, subgrid.attrs)

    def _index(self, subgrid: xr.Dataset, local: Indices) -> dict[str, Indices]:
        """Indices of the best cell along every axis; they broadcast to the kept cells."""
        chosen = np.unravel_index(local, [subgrid.sizes[axis] for axis in self.reduced])
        cells = np.ix_(*(np.arange(subgrid.sizes[axis]) for axis in self.kept))
        return dict(zip((*self.reduced, *self.kept), (*chosen, *cells), strict=True))

    def _choose(self, subgrid: xr.Dataset) -> tuple[NDArray[Any], Indices]:
        """Best value of each kept cell, infinite where there is none, and its position."""
        sizes = {axis: subgrid.sizes[axis] for axis in (*self.kept, *self.reduced)}
        values = values_over(subgrid[self.by].variable, sizes)
        allowed = np.isfinite(values)
        mask = self.where.mask(subgrid)
        if mask is not None:
            allowed = allowed & values_over(mask.variable, sizes)
        worst = -np.inf if self.largest else np.inf
        scores = np.full(values.shape, worst, values.dtype)
        np.copyto(scores, values, where=allowed)
        shape = scores.shape[: len(self.kept)]
        rows = scores.reshape(int(np.prod(shape)), -1)
        local = rows.argmax(1) if self.largest else rows.argmin(1)
        best = np.take_along_axis(rows, local[:, None], 1)
        return best.reshape(shape), local.reshape(shape)

    def combine(self, *partials: xr.Dataset) -> xr.Dataset:
        """The best of several partials, in any order and for any tiling of the grid."""
        if len(partials) == 1:
            return partials[0]
        assembly = Assembly.of(self.grid, self.kept, partials)
        whole = assembly.blank(partials[0])
        arrays = {name: array.values for name, array in whole.data_vars.items()}
        for partial in partials:
            here = assembly.region(partial, self.kept)
            new = partial[self.by].values, partial[POSITION].values
            wins = self.wins(new, (arrays[self.by][here], arrays[POSITION][here]))
            for name, array in partial.data_vars.items():
                if name in self.carried:
                    assembly.fill_in(arrays[name], array)
                else:
                    arrays[name][here] = np.where(wins, array.values, arrays[name][here])
        return whole

    def wins(
        self, new: tuple[NDArray[Any], Indices], old: tuple[NDArray[Any], Indices]
    ) -> NDArray[np.bool_]:
        """Whether a best of part of the grid replaces another, cell by cell.

        Args:
            new: Values and positions; positions below 0 where there is none.
            old: Those that were best so far.
        """
        (value, position), (old_value, old_position) = new, old
        better = value > old_value if self.largest else value < old_value
        earlier = (value == old_value) & (position < old_position)
        won: NDArray[np.bool_] = (position >= 0) & ((old_position < 0) | better | earlier)
        return won

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, with the coordinates of each best cell in `best_<axis>`."""
        position = partial[POSITION].values
        indices = self.grid.unravel(self.reduced, np.maximum(position, 0))
        chosen = [name for name in partial.data_vars if name not in (*self.carried, POSITION)]
        result = partial.drop_vars(POSITION)
        for name in chosen:
            result[name] = stored_integers(result[name])
            result[name] = with_comment(result[name], self._comment(str(name)))
        for axis, index in indices.items():
            result[BEST + axis] = coordinate_variable(
                self.grid,
                axis,
                np.where(position < 0, -1, index),
                self.kept,
                f"where {self.by} is best",
            )
        return result

    def _comment(self, name: str) -> str:
        if name != self.by:
            return f"At the cell of the best {self.by}."
        over = ", ".join(self.reduced)
        what = "Largest" if self.largest else "Smallest"
        under = f" where {self.where.text}" if self.where.text else ""
        return f"{what} over {over}{under}; missing where no cell qualifies."


@dataclass
class _Taker:
    """Takes the values of variables in the best cells.

    Attributes:
        index: Index along each axis, broadcasting to the kept cells.
        found: Whether a kept cell has a best.
        flat: Positions in a variable of these dimensions, computed once.
    """

    index: Mapping[str, Indices]
    found: NDArray[np.bool_]
    flat: dict[tuple[Any, ...], Indices] = field(default_factory=dict)

    def __call__(self, variable: xr.Variable) -> NDArray[Any]:
        """Values of a variable in the best cells, in its own type."""
        if variable.dims not in self.flat:
            index = tuple(self.index[str(dim)] for dim in variable.dims)
            self.flat[variable.dims] = np.ravel_multi_index(index, variable.shape)
        taken = variable.values.ravel()[self.flat[variable.dims]]
        return np.where(self.found, taken, np.asarray(fill_of(variable.dtype), variable.dtype))
