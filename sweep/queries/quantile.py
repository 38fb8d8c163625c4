"""Quantiles over whole axes, for every cell of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.errors import ResultError
from sweep.queries.assembly import Assembly, values_over
from sweep.queries.grid_axes import GridAxes
from sweep.queries.result_variables import with_comment
from sweep.queries.where import Where

QUANTILE = "quantile"
MOST_POSITIONS = 32
"""Positions in a sorted row up to which finding their values takes less than a sort. [count]"""


@dataclass(frozen=True)
class Quantile:
    """Exact quantiles of each variable over the reduced axes, by linear interpolation.

    Attributes:
        grid: The whole grid.
        where: Constraints on the cells that count.
        names: Variables whose quantiles are taken.
        shares: Quantiles, from 0 to 1, increasing.
        reduced: Axes that are reduced; they must not be divided.
        text: The request in the words of the user.
    """

    grid: GridAxes
    where: Where
    names: tuple[str, ...]
    shares: tuple[float, ...]
    reduced: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that must not be divided: quantiles of sub-grids do not combine."""
        return self.reduced

    @property
    def kept(self) -> tuple[str, ...]:
        """Axes of the result."""
        axes = self.grid.in_order({*self.grid.axes_of(self.names), *self.where.axes})
        return tuple(axis for axis in axes if axis not in self.reduced)

    def within(self, subgrid: xr.Dataset) -> xr.Dataset:
        """The quantiles of a sub-grid.

        Raises:
            ResultError: A reduced axis is divided.
        """
        whole = dict(zip(self.reduced, self.grid.sizes(self.reduced), strict=True))
        divided = [axis for axis in self.reduced if subgrid.sizes[axis] != whole[axis]]
        if divided:
            raise ResultError(
                f"--reduce {self.text}: the axis {' and '.join(divided)} is divided, and quantiles "
                f"of sub-grids do not combine; divide only {', '.join(self.kept) or 'no axis'}"
            )
        needed = {*self.names, *(n for n in self.where.names if n in subgrid.data_vars)}
        subgrid = subgrid.drop_vars(set(subgrid.data_vars) - needed).compute()
        mask = self.where.mask(subgrid)
        variables = {name: self._quantiles(subgrid[name], mask) for name in self.names}
        used = {dim for dims, _, _ in variables.values() for dim in dims} - {QUANTILE}
        return xr.Dataset(
            variables,
            {
                **{axis: subgrid[axis] for axis in self.grid.in_order(used)},
                QUANTILE: (
                    QUANTILE,
                    np.asarray(self.shares),
                    {"long_name": "share of the cells that lie below", "units": "1"},
                ),
            },
            subgrid.attrs,
        )

    def _quantiles(
        self, array: xr.DataArray, mask: xr.DataArray | None
    ) -> tuple[tuple[str, ...], NDArray[Any], Mapping[Any, Any]]:
        extent = {str(dim): size for dim, size in array.sizes.items()}
        if mask is not None:
            extent |= {str(dim): size for dim, size in mask.sizes.items()}
        over = self.grid.in_order(extent)
        kept = tuple(axis for axis in over if axis not in self.reduced)
        order = (*kept, *(axis for axis in over if axis in self.reduced))
        sizes = {axis: extent[axis] for axis in order}
        values = values_over(array.variable, sizes)
        allowed = np.isfinite(values)
        if mask is not None:
            allowed = allowed & values_over(mask.variable, sizes)
        rows = np.where(allowed, values, np.nan).reshape(*(sizes[axis] for axis in kept), -1)
        return (*kept, QUANTILE), sorted_quantiles(rows, self.shares), array.attrs

    def combine(self, *partials: xr.Dataset) -> xr.Dataset:
        """The quantiles of several partials, assembled."""
        if len(partials) == 1:
            return partials[0]
        kept = [axis for axis in self.kept if axis in partials[0].dims]
        assembly = Assembly.of(self.grid, kept, partials)
        whole = assembly.blank(partials[0])
        for partial in partials:
            for name, array in partial.data_vars.items():
                assembly.fill_in(whole[name].values, array)
        return whole

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, with comments."""
        result = partial.copy()
        under = f" where {self.where.text}" if self.where.text else ""
        over = ", ".join(self.reduced)
        for name in result.data_vars:
            comment = (
                f"Quantiles over {over}{under}, by linear interpolation; missing values apart."
            )
            result[name] = with_comment(result[name], comment)
        return result


def sorted_quantiles(rows: NDArray[Any], shares: tuple[float, ...]) -> NDArray[Any]:
    """Quantiles along the last axis by linear interpolation, without NaN, in the type of `rows`.

    Only the values next to a quantile are put in order, which takes less time than sorting
    all of them.

    Args:
        rows: Shape (..., values).
        shares: From 0 to 1.

    Returns:
        Shape (..., shares); NaN for a row without values.
    """
    count = (~np.isnan(rows)).sum(-1, keepdims=True)
    at = np.maximum(count - 1, 0) * np.asarray(shares)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    wanted = np.unique([below, above])
    # NaN come last in either. Rows of many lengths want many cells.
    few = wanted.size <= MOST_POSITIONS
    ordered = np.partition(rows, wanted, axis=-1) if few else np.sort(rows, axis=-1)
    low = np.take_along_axis(ordered, below, -1).astype(np.float64)
    high = np.take_along_axis(ordered, above, -1)
    return np.asarray(low + (high - low) * (at - below), rows.dtype)
