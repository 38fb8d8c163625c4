"""Writes a result as one CF NetCDF file block by block, compressed and rounded as asked."""

from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.encoding import Progress, Storage, chunk_sizes, encoded, encoded_blocks
from sweep.files.netcdf import encoding, with_label_variables
from sweep.files.rounding import ALGORITHM, CONTAINER, bits_of, rounding_attributes

CHUNK_POINTS = 2**18
"""Points of a compressed chunk: a megabyte of float32."""
MARK = "_QuantizeBitRoundNumberOfSignificantBits"


def write_netcdf_blocks(
    dataset: xr.Dataset, path: Path, storage: Storage, force: bool, progress: Progress | None
) -> None:
    """Write one CF NetCDF file, whole or not at all.

    Raises:
        ResultError: It exists, or cannot be written.
    """
    check_writable(path, force=force)
    if storage.compression == "zstd" and not netCDF4.__has_zstandard_support__:
        raise ResultError("--compression zstd: this netCDF4 was built without it; choose zlib")
    with replacing(path) as beside:
        frame = with_label_variables(dataset.drop_vars(list(dataset.data_vars)))
        frame.to_netcdf(beside, engine="netcdf4", format="NETCDF4", encoding=encoding(frame))
        with netCDF4.Dataset(beside, "a") as file:
            _fill(file, dataset, frame, storage, progress)
        if storage.significant_digits is not None:
            _drop_marks(beside)


def _fill(
    file: Any, dataset: xr.Dataset, frame: xr.Dataset, storage: Storage, progress: Progress | None
) -> None:
    """Add the variables to a file that has the coordinates."""
    if "coordinates" in file.ncattrs():
        file.delncattr("coordinates")
    file.set_fill_off()
    targets = {
        str(name): _create(file, array, frame, storage) for name, array in dataset.data_vars.items()
    }
    _explain_rounding(file, targets, storage)
    for name, region, values in encoded_blocks(dataset, CHUNK_POINTS, progress):
        targets[name][region] = values


def _drop_marks(path: Path) -> None:
    """Drop what netCDF-C notes of its rounding: CF names no attribute with a leading underscore.

    The attributes of CF say the same; the mark exists once the file is closed.
    """
    with netCDF4.Dataset(path, "a") as file:
        for variable in file.variables.values():
            if MARK in variable.ncattrs():
                variable.delncattr(MARK)


def _create(file: Any, array: xr.DataArray, frame: xr.Dataset, storage: Storage) -> Any:
    """An empty variable with all that is told about it."""
    stored = encoded(array.isel({dim: slice(0, 0) for dim in array.dims}))
    bits = bits_of(array, storage.significant_digits)
    attributes = dict(stored.attrs) | rounding_attributes(bits)
    beside = [str(n) for n, c in frame.coords.items() if n not in c.dims and _lies_on(c, array)]
    if beside:
        attributes["coordinates"] = " ".join(beside)
    options: dict[str, Any] = {"fill_value": attributes.pop("_FillValue", None)}
    if array.size and array.ndim:
        options |= _layout(array, storage)
    if bits is not None:
        options |= {"significant_digits": bits, "quantize_mode": "BitRound"}
    target = file.createVariable(array.name, stored.dtype, array.dims, **options)
    target.set_auto_maskandscale(False)
    target.setncatts(attributes)
    return target


def _layout(array: xr.DataArray, storage: Storage) -> dict[str, Any]:
    if storage.compression == "none":
        return {"contiguous": True}
    return {
        "compression": storage.compression,
        "complevel": storage.level,
        "shuffle": True,
        "chunksizes": tuple(chunk_sizes(array, CHUNK_POINTS).values()),
    }


def _lies_on(coordinate: xr.DataArray, array: xr.DataArray) -> bool:
    return set(coordinate.dims) <= set(array.dims)


def _explain_rounding(file: Any, targets: dict[str, Any], storage: Storage) -> None:
    """Add the container variable that rounded variables name."""
    if not any("quantization" in target.ncattrs() for target in targets.values()):
        return
    by = f"libnetcdf version {netCDF4.__netcdf4libversion__}"
    container = file.createVariable(CONTAINER, "i4", ())
    container.setncatts(
        {
            "long_name": "how values were rounded",
            "algorithm": ALGORITHM,
            "implementation": by if storage.significant_digits else "as in the source file",
        }
    )
