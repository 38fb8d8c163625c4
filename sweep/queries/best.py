"""The best place among some axes, for every cell of the others, under constraints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of, stored_integers
from sweep.queries.axes_of_grid import Places, Space
from sweep.queries.canvas import Canvas, values_over
from sweep.queries.outcome import finished_place, told
from sweep.queries.where import Where

POSITION = "best_position"
"""Where the best lies in the grid of the reduced axes; of equal values the first is taken."""
BEST = "best_"
"""How the variable begins that tells where along an axis the best is."""


@dataclass(frozen=True)
class Best:
    """The largest or smallest value over the reduced axes, its place, and what else holds there.

    Attributes:
        space: The whole grid.
        where: What a place has to satisfy.
        by: The variable that is to be best.
        largest: Whether more of it is better.
        reduced: Axes that are chosen over, in the order of the grid.
        kept: Axes that each have their own best, in the order of the grid.
        text: How the user asked for it.
    """

    space: Space
    where: Where
    by: str
    largest: bool
    reduced: tuple[str, ...]
    kept: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that no part may cut: none."""
        return ()

    @property
    def carried(self) -> tuple[str, ...]:
        """Variables that do not vary over the reduced axes, and stay as they are."""
        return self.space.inside(self.kept)

    def within(self, part: xr.Dataset) -> xr.Dataset:
        """The best of one part of the grid.

        Returns:
            Over the kept axes: `by` and every other variable at the best place, and its position
            in the grid of the reduced axes, below 0 where nothing satisfies the constraints.
        """
        inside = self.space.inside((*self.kept, *self.reduced))
        part = part.drop_vars(set(part.data_vars) - set(inside)).compute()
        value, local = self._choose(part)
        found, index = np.isfinite(value), self._index(part, local)
        position = self.space.position(
            self.reduced, [self.space.places(part, axis)[index[axis]] for axis in self.reduced]
        )
        take = _Taker(index, found)
        variables = {
            name: array if name in self.carried else (self.kept, take(array.variable), array.attrs)
            for name, array in part.data_vars.items()
        }
        variables[POSITION] = (self.kept, np.where(found, position, fill_of(position.dtype)), {})
        return xr.Dataset(variables, {axis: part[axis] for axis in self.kept}, part.attrs)

    def _index(self, part: xr.Dataset, local: Places) -> dict[str, Places]:
        """Index of the best place of each cell along every axis; they broadcast to the cells."""
        chosen = np.unravel_index(local, [part.sizes[axis] for axis in self.reduced])
        cells = np.ix_(*(np.arange(part.sizes[axis]) for axis in self.kept))
        return dict(zip((*self.reduced, *self.kept), (*chosen, *cells), strict=True))

    def _choose(self, part: xr.Dataset) -> tuple[NDArray[Any], Places]:
        """Best value of each cell, infinite where there is none, and where in the part it is."""
        sizes = {axis: part.sizes[axis] for axis in (*self.kept, *self.reduced)}
        values = values_over(part[self.by].variable, sizes)
        allowed = np.isfinite(values)
        mask = self.where.mask(part)
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

    def combine(self, *parts: xr.Dataset) -> xr.Dataset:
        """The best of several parts, in whatever order they come and however they were cut."""
        if len(parts) == 1:
            return parts[0]
        canvas = Canvas.of(self.space, self.kept, parts)
        whole = canvas.blank(parts[0])
        arrays = {name: array.values for name, array in whole.data_vars.items()}
        for part in parts:
            here = canvas.region(part, self.kept)
            wins = self._wins(part, arrays[self.by][here], arrays[POSITION][here])
            for name, array in part.data_vars.items():
                if name in self.carried:
                    canvas.fill_in(arrays[name], array)
                else:
                    arrays[name][here] = np.where(wins, array.values, arrays[name][here])
        return whole

    def _wins(self, part: xr.Dataset, value: NDArray[Any], position: Places) -> NDArray[np.bool_]:
        new, place = part[self.by].values, part[POSITION].values
        better = new > value if self.largest else new < value
        earlier = (new == value) & (place < position)
        won: NDArray[np.bool_] = (place >= 0) & ((position < 0) | better | earlier)
        return won

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, with the coordinates of each best place in `best_<axis>`."""
        position = partial[POSITION].values
        places = self.space.unravel(self.reduced, np.maximum(position, 0))
        chosen = [name for name in partial.data_vars if name not in (*self.carried, POSITION)]
        result = partial.drop_vars(POSITION)
        for name in chosen:
            result[name] = stored_integers(result[name])
            result[name] = told(result[name], self._comment(str(name)))
        for axis, place in places.items():
            result[BEST + axis] = finished_place(
                self.space,
                axis,
                np.where(position < 0, -1, place),
                self.kept,
                f"where {self.by} is best",
            )
        return result

    def _comment(self, name: str) -> str:
        if name != self.by:
            return f"At the place of the best {self.by}."
        over = ", ".join(self.reduced)
        what = "Largest" if self.largest else "Smallest"
        under = f" where {self.where.text}" if self.where.text else ""
        return f"{what} over {over}{under}; missing where no place qualifies."


@dataclass
class _Taker:
    """Takes the values of variables at the best places.

    Attributes:
        index: Place along each axis, broadcasting to the cells.
        found: Whether a cell has a best place.
        flat: Positions in a variable of these dimensions, made once.
    """

    index: Mapping[str, Places]
    found: NDArray[np.bool_]
    flat: dict[tuple[Any, ...], Places] = field(default_factory=dict)

    def __call__(self, variable: xr.Variable) -> NDArray[Any]:
        """Values of a variable at the best places, of its own type."""
        if variable.dims not in self.flat:
            index = tuple(self.index[str(dim)] for dim in variable.dims)
            self.flat[variable.dims] = np.ravel_multi_index(index, variable.shape)
        taken = variable.values.ravel()[self.flat[variable.dims]]
        return np.where(self.found, taken, np.asarray(fill_of(variable.dtype), variable.dtype))
