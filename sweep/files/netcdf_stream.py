"""Writes a result region by region as one CF NetCDF file, compressed and rounded if asked."""

from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.encoding import Progress, Storage, chunk_shape, encoded, encoded_regions
from sweep.files.netcdf import save, with_label_variables
from sweep.files.rounding import ALGORITHM, CONTAINER, bits_of, rounding_attributes
from sweep.grid.thresholds import NETCDF_CHUNK_CELLS
from sweep.specs.netcdf_library import LIBRARY, inside_library
from sweep.specs.seal import seal

MARK = "_QuantizeBitRoundNumberOfSignificantBits"


def write_netcdf_streamed(
    dataset: xr.Dataset, path: Path, storage: Storage, force: bool, progress: Progress | None
) -> None:
    """Write one CF NetCDF file atomically.

    Raises:
        ResultError: The file exists or cannot be written.
    """
    check_writable(path, force=force)
    if storage.compression == "zstd" and not netCDF4.__has_zstandard_support__:
        raise ResultError("--compression zstd: this netCDF4 was built without it; choose zlib")
    with replacing(path, force=force) as temporary:
        axes = dataset.drop_vars(list(dataset.data_vars))
        save(axes, temporary)
        with inside_library():
            file = netCDF4.Dataset(temporary, "a")
        try:
            _fill(file, dataset, with_label_variables(axes), storage, progress)
        finally:
            with LIBRARY:
                file.close()
        if storage.significant_digits is not None:
            _drop_marks(temporary)
        seal(temporary)


def _fill(
    file: Any, dataset: xr.Dataset, frame: xr.Dataset, storage: Storage, progress: Progress | None
) -> None:
    """Add the variables to a file that has the coordinates."""
    with LIBRARY:
        if "coordinates" in file.ncattrs():
            file.delncattr("coordinates")
        file.set_fill_off()
        targets = {
            str(name): _create(file, array, frame, storage)
            for name, array in dataset.data_vars.items()
        }
        _explain_rounding(file, targets, storage)
    for name, region, values in encoded_regions(dataset, NETCDF_CHUNK_CELLS, progress):
        with LIBRARY:
            targets[name][region] = values


def _drop_marks(path: Path) -> None:
    """Drop the attribute in which netCDF-C records its rounding, whose name CF does not allow.

    The attributes of CF say the same. netCDF-C writes its own when the file is closed.
    """
    with inside_library(), netCDF4.Dataset(path, "a") as file:
        for variable in file.variables.values():
            if MARK in variable.ncattrs():
                variable.delncattr(MARK)


def _create(file: Any, array: xr.DataArray, frame: xr.Dataset, storage: Storage) -> Any:
    """An empty variable with its attributes, chunks and compression."""
    stored = encoded(array.isel({dim: slice(0, 0) for dim in array.dims}))
    bits = bits_of(array, storage.significant_digits)
    attributes = dict(stored.attrs) | rounding_attributes(bits)
    labels = [str(n) for n, c in frame.coords.items() if n not in c.dims and _is_along(c, array)]
    if labels:
        attributes["coordinates"] = " ".join(labels)
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
        "chunksizes": tuple(chunk_shape(array, NETCDF_CHUNK_CELLS).values()),
    }


def _is_along(coordinate: xr.DataArray, array: xr.DataArray) -> bool:
    return set(coordinate.dims) <= set(array.dims)


def _explain_rounding(file: Any, targets: dict[str, Any], storage: Storage) -> None:
    """Add the variable that describes the rounding, which rounded variables refer to."""
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
