"""Checks of a file that anyone may have written, before its values are decoded."""

from typing import Any

import numpy as np
import xarray as xr

from sweep.schema.axes import AXES, FRACTIONS, FROM_ZERO, LABELLED, LATENCY_LIMITS
from sweep.schema.labels import LONGEST_LABEL, fault_of_label

LONGEST_AXIS = 10**7
"""Longest axis of a result. [count]"""
NUMBERS = ("scale_factor", "add_offset", "missing_value", "_FillValue", "valid_min", "valid_max")
"""Attributes of a variable that must be one number."""
MISSING = ("_FillValue", "missing_value")
"""Attributes with the value that means none; they must be equal where a variable has both."""
LISTS = {"flag_values": "iuf", "flag_masks": "iu", "valid_range": "iuf"}
"""Attributes of a variable that must be numbers, and their kinds."""
WORDS = (
    *("units", "long_name", "standard_name", "comment", "coordinates", "ancillary_variables"),
    *("flag_meanings", "calendar", "dtype", "grid_mapping", "bounds"),
)
"""Attributes of a variable that must be text."""
GLOBAL_WORDS = (
    *("Conventions", "title", "institution", "source", "history", "references", "comment"),
    *("coordinates", "calibration", "efficiency", "llm_sweep_grid", "llm_sweep_variables"),
    *("llm_sweep_reduction", "llm_sweep_checkpoints", "llm_sweep_draft_model"),
    *("llm_sweep_partial", "llm_sweep_plan", "llm_sweep_shard"),
)
"""Global attributes that must be text."""
UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, NotImplementedError),
)
"""Errors that libraries raise on files whose content contradicts itself."""


def check_attributes(dataset: xr.Dataset) -> None:
    """Check the types of the attributes that are read, and the lengths of axes.

    Args:
        dataset: A file, not decoded yet.

    Raises:
        ValueError: An attribute has a value of another type, or an axis is too long.
    """
    calibrations = (dataset.attrs.get(name, "") for name in ("calibration", "efficiency"))
    for name in (*dataset.dims, *dataset.variables, *calibrations):
        if fault_of_label(str(name)):
            raise ValueError("a name is not printable text, or is too long")
    for key in ("calibration", "efficiency"):
        if not str(dataset.attrs.get(key, "ideal")).strip():
            raise ValueError(f"the global attribute {key} is blank")
    for dim, size in dataset.sizes.items():
        if size > LONGEST_AXIS:
            raise ValueError(f"the axis {dim!s:.80} has {size:,} values")
    for key in GLOBAL_WORDS:
        if not isinstance(dataset.attrs.get(key, ""), str):
            raise ValueError(f"the global attribute {key} is not text")
    for key, value in dataset.attrs.items():
        if isinstance(value, bytes):
            raise ValueError(f"the global attribute {key!s:.80} is neither text nor a number")
    for name, variable in dataset.variables.items():
        attributes = variable.attrs
        for key in NUMBERS:
            labels = variable.dtype.kind in "OUS" and key in MISSING
            if key in attributes and not labels and not _is_numeric(attributes[key], most=1):
                raise ValueError(f"{name!s:.80}: {key} is not a number")
        numbers = variable.dtype.kind not in "OUS"
        fills = [attributes[key] for key in MISSING if numbers and key in attributes]
        if len(fills) == 2 and not np.array_equal(fills[0], fills[1], equal_nan=True):
            raise ValueError(f"{name!s:.80}: {' and '.join(MISSING)} differ")
        for key, kinds in LISTS.items():
            if key in attributes and not _is_numeric(attributes[key], kinds=kinds):
                raise ValueError(f"{name!s:.80}: {key} are not numbers")
        for key in WORDS:
            if not isinstance(attributes.get(key, ""), str):
                raise ValueError(f"{name!s:.80}: {key} is not text")
        meanings = attributes.get("flag_meanings", "").split()
        for key in ("flag_values", "flag_masks"):
            if meanings and key in attributes and np.size(attributes[key]) != len(meanings):
                raise ValueError(f"{name!s:.80}: {key} and flag_meanings differ in number")


def _is_numeric(value: Any, *, kinds: str = "iuf", most: int | None = None) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in kinds and array.ndim <= 1 and (most is None or array.size == most)


def check_axes(dataset: xr.Dataset) -> None:
    """Check that every axis has labels or positive numbers, and every variable numbers.

    Raises:
        ValueError: One has neither.
    """
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind not in "biuf":
            raise ValueError(f"{name!s:.80} has values of type {variable.dtype}")
    for dim in dataset.dims:
        if dim not in dataset.coords or dataset[dim].dims != (dim,):
            raise ValueError(f"the axis {dim!s:.80} has no values")
        values = dataset[dim].values
        if values.dtype.kind not in ("UO" if dim in LABELLED else "if"):
            raise ValueError(f"the axis {dim!s:.80} has values of type {values.dtype}")
        if len(set(values.tolist())) < values.size:
            raise ValueError(f"the axis {dim!s:.80} has a value twice")
        if dim in LABELLED:
            for label in values.tolist():
                if not (isinstance(label, str) and label.isprintable()):
                    raise ValueError(f"the axis {dim} has a label that is not printable text")
                if len(label) > LONGEST_LABEL:
                    raise ValueError(f"the axis {dim} has a label of {len(label):,} characters")
        elif dim in AXES:
            positive = values >= 0 if dim in FROM_ZERO else values > 0
            finite = ~np.isnan(values) if dim in LATENCY_LIMITS else np.isfinite(values)
            if not (finite & positive).all():
                raise ValueError(f"the axis {dim} has values that are not positive numbers")
            if dim not in FRACTIONS and not ((values % 1 == 0) & (values < 2**31)).all():
                raise ValueError(f"the axis {dim} has values that are no counts")
