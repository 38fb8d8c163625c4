"""From arrays and labels to a labelled xarray Dataset, as the table of variables says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.grid.resolved import Resolved
from sweep.schema.axes import AXIS_LONG_NAMES, AXIS_UNITS, LABELLED
from sweep.schema.variables import VARIABLES, Variable
from sweep.specs.precision import CHECKPOINT

SCHEMA_VERSION = 1
"""Version of the file format, increased when an older reader would misread newer files."""
CONVENTIONS = "CF-1.11"
RECIPES = "llm_sweep_checkpoints"
"""Attribute with the recipe of each model's own file in words, where `precision` has that."""
DRAFT = "llm_sweep_draft_model"
"""Attribute with the name of the model that drafts tokens, if it is a model of its own."""
ABSENT = "absent"
"""Flag meaning of a category where the model has no such operator."""


@cache
def package_version() -> str:
    """Version of the installed distribution, or `unknown` in a bare clone."""
    try:
        return version("llm-sweep")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class Origin:
    """Time and software version of a result.

    Attributes:
        created: Time in UTC, ISO 8601.
        version: Version of this package.
    """

    created: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    version: str = field(default_factory=package_version)


def build_dataset(
    grid: Resolved,
    operators: Sequence[str],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    origin: Origin | None = None,
) -> xr.Dataset:
    """Label `arrays` with the dimensions, units and meanings of `VARIABLES`.

    Args:
        grid: The resolved grid.
        operators: Names along the `operator` axis.
        arrays: One per variable of the grid, in the dimensions `grid.dims` gives it.
        origin: Time and version to record; now and this version if not given.
    """
    used = dict.fromkeys(dim for name in arrays for dim in grid.dims(name))
    variables = {
        name: (grid.dims(name), array, variable_attributes(VARIABLES[name], arrays))
        for name, array in arrays.items()
    }
    attributes = global_attributes(grid, origin or Origin())
    return xr.Dataset(variables, coordinates(grid, tuple(operators), tuple(used)), attributes)


@lru_cache(maxsize=8)
def coordinates(
    grid: Resolved, operators: tuple[str, ...], dims: tuple[str, ...]
) -> xr.Coordinates:
    """Labels and numbers along `dims`, indexed; a Dataset copies what can change."""
    labels = {**grid.labels, **grid.numbers, "operator": list(operators)}
    return xr.Coordinates(
        {
            dim: (
                (dim,),
                labels[dim] if dim in LABELLED else _coordinate(grid.numbers[dim]),
                axis_attributes(dim),
            )
            for dim in dims
        }
    )


def _coordinate(values: Sequence[float]) -> np.ndarray[Any, Any]:
    whole = all(isinstance(value, int) for value in values)
    return np.asarray(values, np.int32 if whole else np.float64)


def axis_attributes(dim: str) -> dict[str, Any]:
    """Attributes of a coordinate."""
    long_name = {"long_name": AXIS_LONG_NAMES[dim]}
    return long_name if dim in LABELLED else {**long_name, "units": AXIS_UNITS.get(dim, "1")}


def variable_attributes(variable: Variable, present: Mapping[str, Any]) -> dict[str, Any]:
    """CF attributes of a variable in a dataset with the variables `present`."""
    attributes: dict[str, Any] = {"long_name": variable.long_name, "units": variable.units}
    comment = variable.comment
    if variable.masked:
        comment += (
            " NaN where it cannot run; feasible, or inflight_feasible of servers, says where."
        )
    if comment:
        attributes["comment"] = comment
    if variable.flag_values:
        meanings = list(variable.flag_values)
        values = list(range(len(meanings)))
        if "operator" in variable.dims:
            meanings, values = [ABSENT, *meanings], [-1, *values]
        attributes["flag_values"] = np.asarray(values, np.int8)
        attributes["flag_meanings"] = " ".join(meanings)
    if variable.flag_masks:
        bits = np.asarray([bit for _, bit in variable.flag_masks], variable.dtype)
        attributes["flag_masks"] = bits if bits.size > 1 else bits[0]
        attributes["flag_meanings"] = " ".join(meaning for meaning, _ in variable.flag_masks)
    ancillary = [name for name in variable.ancillary if name in present]
    if ancillary:
        attributes["ancillary_variables"] = " ".join(ancillary)
    return attributes


def global_attributes(grid: Resolved, origin: Origin) -> dict[str, Any]:
    """Attributes that explain a file to a reader without this package."""
    source = f"llm-sweep {origin.version}"
    doubtful = [s.name for s in grid.hardware if s.confidence == "doubtful"]
    caution = f" Figures of {', '.join(doubtful)} are doubtful." if doubtful else ""
    own: dict[str, str] = {}
    if grid.drafting is not None:
        own[DRAFT] = grid.drafting[0].name
    if CHECKPOINT.name in grid.labels["precision"]:
        pairs = zip(grid.labels["model"], grid.checkpoints, strict=True)
        own |= {RECIPES: json.dumps({model: recipe.note for model, recipe in pairs})}
    return {
        "Conventions": CONVENTIONS,
        "title": "Roofline estimates of LLM inference",
        "institution": "not stated",
        "source": f"{source}, per-operator and global rooflines",
        "history": f"{origin.created} computed by {source}",
        "references": "Williams, Waterman, Patterson, Roofline, CACM 52(4), 2009",
        "comment": "Bounds on what the hardware allows, not measurements." + caution,
        "calibration": "ideal",
        "efficiency": "ideal",
        "llm_sweep_schema": SCHEMA_VERSION,
        "llm_sweep_variables": " ".join(grid.variables),
        "llm_sweep_grid": json.dumps({**grid.labels, **grid.numbers}, separators=(",", ":")),
        **own,
    }


def recorded_grid(dataset: xr.Dataset) -> dict[str, list[Any]]:
    """Labels and numbers along every axis that a result records; empty if it records none.

    Raises:
        ResultError: The record is not a JSON object of lists.
    """
    try:
        found = json.loads(str(dataset.attrs.get("llm_sweep_grid", "{}")))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(map(_is_axis, found.values())):
        raise ResultError("llm_sweep_grid is not a JSON object of lists; run the sweep again")
    return found


def _is_axis(held: Any) -> bool:
    return isinstance(held, list) and all(isinstance(value, str | int | float) for value in held)
