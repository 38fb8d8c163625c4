"""Puts parts of a grid back together, each at its place among the axes that are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of
from sweep.queries.axes_of_grid import Places, Space

Array = NDArray[Any]


def values_over(variable: xr.Variable, sizes: Mapping[str, int]) -> Array:
    """Values of a variable broadcast over the dimensions of `sizes`, in that order, not copied."""
    array = variable.transpose(*(dim for dim in sizes if dim in variable.dims)).values
    ones = array.reshape([size if dim in variable.dims else 1 for dim, size in sizes.items()])
    return np.broadcast_to(ones, tuple(sizes.values()))


@dataclass(frozen=True)
class Canvas:
    """The places that several parts cover together, along the axes that are kept.

    Attributes:
        space: The whole grid.
        covered: Along each kept axis the places of the grid, increasing.
    """

    space: Space
    covered: Mapping[str, Places]

    @classmethod
    def of(cls, space: Space, kept: Sequence[str], parts: Sequence[xr.Dataset]) -> "Canvas":
        """The least canvas that holds every part."""
        return cls(
            space,
            {
                axis: np.unique(np.concatenate([space.places(part, axis) for part in parts]))
                for axis in kept
            },
        )

    def blank(self, like: xr.Dataset) -> xr.Dataset:
        """The variables of a part, over the whole canvas and without a value anywhere."""
        coords = {
            axis: (axis, _labels(self.space, axis, places, like), like[axis].attrs)
            for axis, places in self.covered.items()
        }
        others = {name: like[name] for name in like.coords if name not in coords}
        sizes = dict(like.sizes) | {axis: places.size for axis, places in self.covered.items()}
        variables = {
            name: (
                array.dims,
                np.full([sizes[d] for d in array.dims], fill_of(array.dtype), array.dtype),
                array.attrs,
            )
            for name, array in like.data_vars.items()
        }
        return xr.Dataset(variables, {**coords, **others}, like.attrs)

    def fill_in(self, array: Array, part: xr.DataArray) -> None:
        """Set the values of a part in an array of the canvas.

        What a part lacks stays: the hull of two parts that do not lie side by side has gaps.
        """
        region, new = self.region(part, list(map(str, part.dims))), part.values
        there = ~np.isnan(new) if new.dtype.kind == "f" else new != fill_of(new.dtype)
        array[region] = np.where(there, new, array[region])

    def region(self, part: xr.Dataset | xr.DataArray, dims: Sequence[str]) -> tuple[Any, ...]:
        """Index of a part into an array of the canvas with these dimensions."""
        return np.ix_(
            *(
                np.searchsorted(self.covered[dim], self.space.places(part, dim))
                if dim in self.covered
                else np.arange(part.sizes[dim])
                for dim in dims
            )
        )


def _labels(space: Space, axis: str, places: Places, like: xr.Dataset) -> Array:
    values = [space.axes[axis][place] for place in places]
    return np.asarray(values, like[axis].dtype if like[axis].dtype.kind in "if" else None)
