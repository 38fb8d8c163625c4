"""Opens results, a file or a folder of shards, as one lazy Dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.files.netcdf import open_file
from sweep.queries.reduction import Reduction, finish, joined
from sweep.runs.plan_file import MARK
from sweep.runs.run_folder import PARTIAL, Directory
from sweep.runs.shard_file import read_variable


def open_results(path: str | Path) -> xr.Dataset:
    """Open a result, a file or a folder of shards; values are read when used.

    Raises:
        ResultError: It does not exist, cannot be read, lacks shards, or is no result of this
            package.
    """
    path = Path(path)
    if path.is_dir():
        return open_directory(path)
    dataset = open_file(path)
    if PARTIAL in dataset.attrs:
        dataset.close()
        raise ResultError(
            f"{path}: a partial result of {dataset.attrs[PARTIAL]}; open its folder {path.parent}"
        )
    return dataset


def open_directory(path: Path) -> xr.Dataset:
    """Open a folder of shards as one Dataset of Dask arrays, one chunk for each shard.

    A variable that does not vary along a divided axis is read from the first shard along it. If
    the shards contain partial results of a reduction, the Dataset is the reduced result, in memory.
    Checksum and identity of a shard are verified before its values are used.

    Raises:
        ResultError: It is no folder of shards, lacks some, or Dask is not installed.
    """
    directory = Directory.load(path)
    missing, first_missing = directory.missing(directory.present())
    if missing:
        raise ResultError(
            f"{path}: {missing} of {directory.recorded.shards.count} shards are missing, "
            f"the first is {directory.shard_path(first_missing).name}; run the sweep again to add "
            "them"
        )
    if directory.plan.reduction is not None:
        return _reduced(directory, directory.plan.reduction)
    with open_file(directory.sound_path(0)) as first:
        variables = {
            str(name): (array.dims, _lazy(directory, array), array.attrs)
            for name, array in first.data_vars.items()
        }
        coords = {str(dim): _whole_axis(directory, first[dim]) for dim in first.coords}
    return xr.Dataset(variables, coords, dict(directory.recorded.attributes))


def _reduced(directory: Directory, reduction: Reduction) -> xr.Dataset:
    """The result of a reduction, from the partial result of each shard."""

    def partials() -> Iterator[xr.Dataset]:
        for shard in directory.shards():
            with open_file(directory.sound_path(shard)) as partial:
                yield partial.load()

    partial = joined(reduction, partials())
    partial.attrs = dict(directory.recorded.attributes)
    return finish(reduction, partial).assign_attrs({MARK: directory.digest})


def _whole_axis(directory: Directory, first: xr.DataArray) -> tuple[str, Any, dict[str, Any]]:
    """The whole of a coordinate, from its range in the first shard."""
    dim = str(first.dims[0])
    axes = directory.recorded.axes
    labelled = first.dtype.kind in "UO"
    values = np.asarray(axes.get(dim, first.values), None if labelled else first.dtype)
    return dim, values, first.attrs


def _lazy(directory: Directory, first: xr.DataArray) -> Any:
    """A variable over all shards as a Dask array, from its values in the first one."""
    try:
        import dask.array
    except ImportError:
        raise ResultError(
            f"{directory.path}: a folder of shards needs Dask: pip install 'llm-sweep[dask]'"
        ) from None
    shards, name = directory.recorded.shards, str(first.name)
    dims = [str(dim) for dim in first.dims]
    chunks = tuple(
        shards.lengths(dim) if dim in shards.axes else (first.sizes[dim],) for dim in dims
    )

    def read(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        numbers = dict(zip(dims, block_id, strict=True))
        shape = tuple(of_dim[k] for of_dim, k in zip(chunks, block_id, strict=True))
        return read_variable(directory.sound_path(shards.number(numbers)), name, shape)

    empty = np.empty((0,) * len(dims), first.dtype)
    return dask.array.map_blocks(
        read, chunks=chunks, dtype=first.dtype, meta=empty, name=f"{name}-{directory.digest}"
    )
