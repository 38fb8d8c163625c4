"""Checks of a result file against the table of variables and the CF conventions."""

import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import GridError, ResultError
from sweep.files.netcdf import open_file
from sweep.grid.dataset import CONVENTIONS, axis_attributes, recorded_grid, variable_attributes
from sweep.queries.best import BEST
from sweep.queries.pareto import FRONT
from sweep.queries.quantile import QUANTILE
from sweep.runs.open_results import open_directory
from sweep.runs.run_folder import Directory
from sweep.schema.axes import AXES, LABELLED
from sweep.schema.intervals import ENDS, OF_WAITS
from sweep.schema.terms import OVERLOADS
from sweep.schema.variables import VARIABLES, dims_of
from sweep.specs.netcdf_library import inside_library
from sweep.specs.seal import fault_of_seal

MAY_BE_ZERO = ("inflight_queue_time", "max_request_rate")
"""Variables, with the ends of their intervals, that are zero in some deployments that run."""
ROUNDED = 1e-5
"""Error of an end of an interval that rounding explains. [1]"""
MISSING_TIMES = OVERLOADS["arrivals_exceed_capacity"] | OVERLOADS["time_out_of_range"]
"""Bits of `inflight_overload` where times of a server are missing."""
CF_TEST = "cf:1.11"
GLOBAL_ATTRIBUTES = (
    "Conventions",
    "title",
    "institution",
    "source",
    "history",
    "references",
    "comment",
    "efficiency",
    "llm_sweep_schema",
    "llm_sweep_grid",
    "llm_sweep_variables",
)


def check_file(path: Path) -> list[str]:
    """List all problems of the result at `path`, one line each.

    Raises:
        ResultError: The file cannot be read, or is no result of this package.
    """
    try:
        damage = fault_of_seal(path, needed=False) if path.is_file() else ""
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror or error}") from None
    if damage:
        return [damage]
    with open_file(path) as dataset:
        problems = check_dataset(dataset)
    return problems + (check_cf(path) if has_compliance_checker() else [])


def check_directory(path: Path) -> list[str]:
    """List all problems of the shards at `path`, one line each; CF rules for the first shard only.

    Reduced shards are not results of their own: their checksums are verified, and the reduced
    result of all is checked against the table of variables.

    Raises:
        ResultError: The folder is no folder of shards.
    """
    directory = Directory.load(path)
    present, problems = directory.present(), []
    missing, first = directory.missing(present)
    if missing:
        name, count = directory.shard_path(first).name, directory.recorded.shards.count
        problems.append(f"{name} is missing, {missing} of {count} shards in all")
    for shard in present:
        file, wrong = directory.shard_path(shard), directory.fault(shard)
        if wrong:
            problems.append(f"{file.name} {wrong}")
            continue
        if directory.recorded.question is not None:
            continue
        with open_file(file) as dataset:
            problems += [f"{file.name}: {problem}" for problem in check_dataset(dataset)]
        if shard == 0 and has_compliance_checker():
            problems += [f"{file.name}: {problem}" for problem in check_cf(file)]
    if directory.recorded.question is not None and not problems:
        problems += check_dataset(open_directory(path))
    return problems


def check_dataset(dataset: xr.Dataset) -> list[str]:
    """List differences from the table of variables, one line each."""
    problems = [
        f"global attribute {name} is missing"
        for name in GLOBAL_ATTRIBUTES
        if name not in dataset.attrs
    ]
    problems += _recorded_problems(dataset)
    if str(dataset.attrs.get("Conventions", CONVENTIONS)) != CONVENTIONS:
        problems.append(f"Conventions is {dataset.attrs['Conventions']!r}, not {CONVENTIONS!r}")
    if "llm_sweep_reduction" in dataset.attrs:
        return problems + _reduced_problems(dataset)
    axes = [axis for axis in AXES if axis in dataset.dims]
    if not dataset.data_vars:
        problems.append("the file has no variables")
    for name in dataset.coords:
        problems += _coordinate_problems(dataset[name], str(name))
    for name, array in dataset.data_vars.items():
        problems += _variable_problems(dataset, str(name), array, axes)
    return problems


def _recorded_problems(dataset: xr.Dataset) -> list[str]:
    """List differences from the grid and the variables that the file records."""
    recorded = str(dataset.attrs.get("llm_sweep_variables", "")).split()
    problems = [f"variable {n} is missing" for n in recorded if n not in dataset.data_vars]
    try:
        axes = recorded_grid(dataset)
    except ResultError as error:
        return [*problems, str(error)]
    used = {dim for array in dataset.data_vars.values() for dim in array.dims}
    return problems + [
        f"axis {axis} does not have the values that llm_sweep_grid records"
        for axis, values in axes.items()
        if axis in used and dataset[axis].values.tolist() != values
    ]


def _reduced_problems(dataset: xr.Dataset) -> list[str]:
    """List differences of a reduced result from the variables it was made of."""
    problems = [
        f"axis {dim} is unknown"
        for dim in dataset.dims
        if dim not in (*AXES, *LABELLED, FRONT, QUANTILE)
    ]
    for axis in AXES:
        if axis in dataset.dims:
            problems += _coordinate_problems(dataset[axis], axis)
    for name, array in dataset.data_vars.items():
        axis = str(name).removeprefix(BEST)
        if name in VARIABLES:
            table = VARIABLES[str(name)]
            wanted = {"long_name": table.long_name, "units": table.units}
            problems += _attribute_problems(str(name), array.attrs, wanted)
        elif axis == name or axis not in (*AXES, *LABELLED):
            problems.append(f"variable {name} is unknown")
    return problems


def has_compliance_checker() -> bool:
    """Whether the IOOS compliance checker is installed, as the extra `check` does."""
    return find_spec("compliance_checker") is not None


def check_cf(path: Path) -> list[str]:
    """List violations of CF-1.11 that the IOOS compliance checker finds, one line each."""
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    CheckSuite.load_all_available_checkers()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with inside_library():
            ComplianceChecker.run_checker(
                str(path), [CF_TEST], 0, "normal", output_filename=str(report), output_format="json"
            )
        found = json.loads(report.read_text(encoding="utf-8"))
    return [
        f"CF: {message}"
        for priority in ("high_priorities", "medium_priorities")
        for test in found[CF_TEST][priority]
        for message in test["msgs"]
    ]


def _coordinate_problems(coordinate: xr.DataArray, name: str) -> list[str]:
    if name not in (*AXES, *LABELLED):
        return [f"coordinate {name} is unknown"]
    problems = _attribute_problems(name, coordinate.attrs, axis_attributes(name))
    values = coordinate.values
    if name in LABELLED:
        if len(np.unique(values)) < values.size:
            problems.append(f"coordinate {name} has the same label twice")
    elif values.size > 1 and not np.all(np.diff(values) > 0):
        problems.append(f"coordinate {name} does not increase")
    return problems


def _variable_problems(
    dataset: xr.Dataset, name: str, array: xr.DataArray, axes: list[str]
) -> list[str]:
    if name not in VARIABLES:
        return [f"variable {name} is unknown"]
    variable = VARIABLES[name]
    try:
        dims = dims_of(name, axes)
    except GridError as error:
        return [str(error)]
    problems = []
    if array.dims != dims:
        problems.append(f"variable {name} has dimensions {array.dims}, not {dims}")
    expected = variable_attributes(variable, dict.fromkeys(map(str, dataset.data_vars)))
    problems += _attribute_problems(name, array.attrs, _known_then(expected, array.attrs))
    stored = (variable.dtype,) if variable.dtype else ("float32", "float64")
    if array.dtype not in stored:
        return [*problems, f"variable {name} is stored as {array.dtype}"]
    if variable.is_flag and problems:
        return problems
    if variable.is_flag:
        problems += _flag_problems(name, array)
    else:
        problems += _quantity_problems(dataset, name, array)
        problems += _interval_problems(dataset, name, array)
        problems += _empty_problems(dataset, name, array)
    return problems


def _empty_problems(dataset: xr.Dataset, name: str, array: xr.DataArray) -> list[str]:
    """List throughputs and times that are missing, or zero, although the deployment can run.

    Times to first token are missing where arrivals exceed the capacity, and times of a server where
    they are out of range; a wait may be zero, and so may the highest rate within limits.
    """
    able = _able(name)
    is_time = VARIABLES[name].units == "s" and "operator" not in array.dims
    judged = VARIABLES[name].masked or is_time
    if not judged or able not in dataset or name == able:
        return []
    if name.endswith(tuple(f"_{end}" for end in ENDS)) and bool(array.isnull().all()):
        return []  # The calibration has no interval of this variable.
    empty = array.isnull() if name.startswith(MAY_BE_ZERO) else array.isnull() | (array == 0)
    runs = (dataset[able] == 1) & empty
    overload = dataset.get("inflight_overload")
    if name.startswith("inflight") and overload is not None and overload.dtype.kind == "i":
        runs = runs & ((overload & np.int8(MISSING_TIMES)) == 0)
    if ("tpot" in name or "per_user" in name) and "osl" in array.dims:
        # The first token is part of the prefill: a single one has no time per output token.
        runs = runs & (array["osl"] > 1)
    return [f"variable {name} has no value where {able} is 1"] if bool(runs.any()) else []


def _flag_problems(name: str, array: xr.DataArray) -> list[str]:
    present = np.unique(array.values)
    if "flag_masks" in array.attrs:
        allowed = np.bitwise_or.reduce(np.atleast_1d(array.attrs["flag_masks"]))
        strange = [int(v) for v in present if v & ~allowed]
    else:
        strange = [int(v) for v in present if v not in np.atleast_1d(array.attrs["flag_values"])]
    return [f"variable {name} has the value {strange[0]}, which no flag means"] if strange else []


def _quantity_problems(dataset: xr.Dataset, name: str, array: xr.DataArray) -> list[str]:
    infinite = array.copy(data=np.isinf(array.values))
    if name.removesuffix("_upper") in OF_WAITS and name.endswith("_upper"):
        # A server that may not keep up has waits without end.
        infinite = infinite & False
    elif _able(name) in dataset:
        infinite = infinite & (dataset[_able(name)] == 1)
    if np.any(array.values < 0) or bool(infinite.any()):
        return [f"variable {name} has negative or infinite values"]
    return []


def _interval_problems(dataset: xr.Dataset, name: str, array: xr.DataArray) -> list[str]:
    """List an end of an interval that is on the other side of its variable."""
    for end, sign in (("_lower", 1), ("_upper", -1)):
        known = dataset.get(name.removesuffix(end)) if name.endswith(end) else None
        if known is not None and bool((sign * (array - known) > ROUNDED * abs(known)).any()):
            return [f"variable {name} is {'above' if sign > 0 else 'below'} {known.name}"]
    return []


def _able(name: str) -> str:
    """Name of the variable that says whether the deployment of another can run."""
    return "inflight_feasible" if name.startswith("inflight") else "feasible"


def _known_then(wanted: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The attributes with the first of their flags, as many as a file of an earlier version has."""
    count = np.size(given.get("flag_masks", ()))
    if not 0 < count < np.size(wanted.get("flag_masks", ())):
        return wanted
    first = " ".join(wanted["flag_meanings"].split()[:count])
    return {**wanted, "flag_masks": wanted["flag_masks"][:count], "flag_meanings": first}


def _attribute_problems(name: str, given: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{name}: attribute {key} is {given.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if key not in given or not np.array_equal(np.atleast_1d(given[key]), np.atleast_1d(value))
    ]
