"""Assemble reduced sub-grids into one dataset along the kept axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sweep.files.categories import fill_of
from sweep.queries.grid_axes import GridAxes, Indices

Array = NDArray[Any]


def values_over(variable: xr.Variable, sizes: Mapping[str, int]) -> Array:
    """Broadcast a variable over the dimensions of `sizes`, in that order, without a copy."""
    array = variable.transpose(*(dim for dim in sizes if dim in variable.dims)).values
    ones = array.reshape([size if dim in variable.dims else 1 for dim, size in sizes.items()])
    return np.broadcast_to(ones, tuple(sizes.values()))


@dataclass(frozen=True)
class Assembly:
    """Cells that several sub-grids cover together, along the kept axes.

    Attributes:
        grid: The whole grid.
        covered: Indices in the grid along each kept axis, increasing.
    """

    grid: GridAxes
    covered: Mapping[str, Indices]

    @classmethod
    def of(cls, grid: GridAxes, kept: Sequence[str], subgrids: Sequence[xr.Dataset]) -> "Assembly":
        """The smallest assembly that covers every sub-grid."""
        return cls(
            grid,
            {
                axis: np.unique(np.concatenate([grid.indices(each, axis) for each in subgrids]))
                for axis in kept
            },
        )

    def blank(self, like: xr.Dataset) -> xr.Dataset:
        """Variables like those of a sub-grid, over the whole assembly, with missing values."""
        coords = {
            axis: (axis, _labels(self.grid, axis, indices, like), like[axis].attrs)
            for axis, indices in self.covered.items()
        }
        others = {name: like[name] for name in like.coords if name not in coords}
        sizes = dict(like.sizes) | {axis: indices.size for axis, indices in self.covered.items()}
        variables = {
            name: (
                array.dims,
                np.full([sizes[d] for d in array.dims], fill_of(array.dtype), array.dtype),
                array.attrs,
            )
            for name, array in like.data_vars.items()
        }
        return xr.Dataset(variables, {**coords, **others}, like.attrs)

    def fill_in(self, array: Array, subgrid: xr.DataArray) -> None:
        """Set the values of a sub-grid in an array of the assembly.

        Missing values change nothing: an assembly of sub-grids that are not adjacent has gaps.
        """
        region, new = self.region(subgrid, list(map(str, subgrid.dims))), subgrid.values
        present = ~np.isnan(new) if new.dtype.kind == "f" else new != fill_of(new.dtype)
        array[region] = np.where(present, new, array[region])

    def region(self, subgrid: xr.Dataset | xr.DataArray, dims: Sequence[str]) -> tuple[Any, ...]:
        """Index of a sub-grid into an array of the assembly with these dimensions."""
        return np.ix_(
            *(
                np.searchsorted(self.covered[dim], self.grid.indices(subgrid, dim))
                if dim in self.covered
                else np.arange(subgrid.sizes[dim])
                for dim in dims
            )
        )


def _labels(grid: GridAxes, axis: str, indices: Indices, like: xr.Dataset) -> Array:
    values = [grid.labels[axis][index] for index in indices]
    return np.asarray(values, like[axis].dtype if like[axis].dtype.kind in "if" else None)
