"""Quantiles over whole axes, for every cell of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.errors import ResultError
from sweep.queries.axes_of_grid import Space
from sweep.queries.canvas import Canvas, values_over
from sweep.queries.outcome import told
from sweep.queries.where import Where

QUANTILE = "quantile"


@dataclass(frozen=True)
class Quantile:
    """Exact quantiles of each variable over the reduced axes, by linear interpolation.

    Attributes:
        space: The whole grid.
        where: What a place has to satisfy to count.
        names: Variables whose quantiles are taken.
        shares: Quantiles, from 0 to 1, increasing.
        reduced: Axes that are reduced; no part may cut them.
        text: How the user asked for it.
    """

    space: Space
    where: Where
    names: tuple[str, ...]
    shares: tuple[float, ...]
    reduced: tuple[str, ...]
    text: str

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that no part may cut, since quantiles of parts tell none of the whole."""
        return self.reduced

    @property
    def kept(self) -> tuple[str, ...]:
        """Axes of the result."""
        axes = self.space.in_order({*self.space.axes_of(self.names), *self.where.axes})
        return tuple(axis for axis in axes if axis not in self.reduced)

    def within(self, part: xr.Dataset) -> xr.Dataset:
        """The quantiles of one part of the grid.

        Raises:
            ResultError: A reduced axis is cut.
        """
        whole = dict(zip(self.reduced, self.space.sizes(self.reduced), strict=True))
        cut = [axis for axis in self.reduced if part.sizes[axis] != whole[axis]]
        if cut:
            raise ResultError(
                f"--reduce {self.text}: the axis {' and '.join(cut)} is cut, and quantiles of "
                f"parts tell none of the whole; cut along {', '.join(self.kept) or 'no axis'} only"
            )
        needed = {*self.names, *(n for n in self.where.names if n in part.data_vars)}
        part = part.drop_vars(set(part.data_vars) - needed).compute()
        mask = self.where.mask(part)
        variables = {name: self._quantiles(part[name], mask) for name in self.names}
        used = {dim for dims, _, _ in variables.values() for dim in dims} - {QUANTILE}
        return xr.Dataset(
            variables,
            {
                **{axis: part[axis] for axis in self.space.in_order(used)},
                QUANTILE: (
                    QUANTILE,
                    np.asarray(self.shares),
                    {"long_name": "share of the places that lie below", "units": "1"},
                ),
            },
            part.attrs,
        )

    def _quantiles(
        self, array: xr.DataArray, mask: xr.DataArray | None
    ) -> tuple[tuple[str, ...], NDArray[Any], Mapping[Any, Any]]:
        extent = {str(dim): size for dim, size in array.sizes.items()}
        if mask is not None:
            extent |= {str(dim): size for dim, size in mask.sizes.items()}
        over = self.space.in_order(extent)
        kept = tuple(axis for axis in over if axis not in self.reduced)
        order = (*kept, *(axis for axis in over if axis in self.reduced))
        sizes = {axis: extent[axis] for axis in order}
        values = values_over(array.variable, sizes)
        allowed = np.isfinite(values)
        if mask is not None:
            allowed = allowed & values_over(mask.variable, sizes)
        rows = np.where(allowed, values, np.nan).reshape(*(sizes[axis] for axis in kept), -1)
        return (*kept, QUANTILE), sorted_quantiles(rows, self.shares), array.attrs

    def combine(self, *parts: xr.Dataset) -> xr.Dataset:
        """The quantiles of several parts, each at its place."""
        if len(parts) == 1:
            return parts[0]
        kept = [axis for axis in self.kept if axis in parts[0].dims]
        canvas = Canvas.of(self.space, kept, parts)
        whole = canvas.blank(parts[0])
        for part in parts:
            for name, array in part.data_vars.items():
                canvas.fill_in(whole[name].values, array)
        return whole

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result, told what it is."""
        result = partial.copy()
        under = f" where {self.where.text}" if self.where.text else ""
        over = ", ".join(self.reduced)
        for name in result.data_vars:
            comment = (
                f"Quantiles over {over}{under}, by linear interpolation; missing values apart."
            )
            result[name] = told(result[name], comment)
        return result


def sorted_quantiles(rows: NDArray[Any], shares: tuple[float, ...]) -> NDArray[Any]:
    """Quantiles along the last axis by linear interpolation, NaN apart; of the type of `rows`.

    Args:
        rows: Shape (..., values).
        shares: From 0 to 1.

    Returns:
        Shape (..., shares); NaN for a row without values.
    """
    ordered = np.sort(rows, axis=-1)
    count = (~np.isnan(ordered)).sum(-1, keepdims=True)
    at = np.maximum(count - 1, 0) * np.asarray(shares)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low = np.take_along_axis(ordered, below, -1).astype(np.float64)
    high = np.take_along_axis(ordered, above, -1)
    return np.asarray(low + (high - low) * (at - below), rows.dtype)
