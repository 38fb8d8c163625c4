"""Prediction intervals and extrapolation flags of a calibrated sweep."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from operator import or_
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import Intervals, Subjects, beyond_bits, ranges_of
from sweep.engines.traits import experts_of, pooled_dtype
from sweep.errors import SpecWarning
from sweep.grid.resolved import Resolved
from sweep.schema.axes import AXES, LENGTHS, PREFIX, REPLICA_GPUS, gpus_of
from sweep.schema.intervals import (
    BEYOND,
    CALIBRATED,
    ENDS,
    OF_RATES,
    OF_WAITS,
    POWER,
    UTILISATION,
)

Array = np.ndarray[Any, Any]
Tables = dict[str, "Table"]
LONG = BEYOND["beyond_length"]
"""Bit of the one flag that lengths decide."""
_BEYOND = ".beyond"
_OF_POWER = ".power"


class Table(NamedTuple):
    """Numbers that the kernel reads of a calibration's intervals, over the axes they vary along."""

    axes: tuple[str, ...]
    values: Array


class Drawn(NamedTuple):
    """Power of a GPU, which limits the upper end of its interval.

    Attributes:
        power: What it draws. [W]
        rated: What it may draw at most, NaN where unknown. [W]
    """

    power: Any
    rated: Any


class Arrivals(NamedTuple):
    """Figures of requests that arrive at a rate, from which their waits grow.

    Attributes:
        utilisation: Share of the time that the server is busy. [1]
        prefill_time: Time of a request's own prefill. [s]
    """

    utilisation: Any
    prefill_time: Any


def interval_tables(grid: Resolved, calibration: Calibration, dtype: np.dtype[Any]) -> Tables:
    """Tables from which `ends` makes the intervals and flags of every cell of a grid.

    Lengths decide one flag and have the longest axes, so tables leave them out.

    Args:
        grid: The grid.
        calibration: The calibration.
        dtype: Type of the results.

    Returns:
        By mask its flags apart from lengths; by mask and axis the flag of a length; by end of an
        interval the multiple of the variable, within and beyond the lengths that were measured,
        and that of the power alone where it has errors of its own.
    """
    judged = [name for name in CALIBRATED if name in grid.variables]
    dims = _dims(grid, judged)
    within = intervals_of(grid, calibration, judged)
    flagged = {mask: flags | np.int8(LONG) for mask, flags in within.extrapolation.items()}
    beyond = replace(within, extrapolation=flagged)
    tables = {mask: _table(dims, flags) for mask, flags in within.extrapolation.items()}
    for mask in within.extrapolation:
        ranges = ranges_of(mask, calibration.ranges)
        for axis in set(LENGTHS) & set(grid.dims(mask)):
            bits = beyond_bits(ranges, {axis: np.asarray(grid.numbers[axis], float)})
            tables[_of_length(mask, axis)] = Table((axis,), np.broadcast_to(bits, grid.sizes[axis]))
    for name, (end, sign) in product(judged, zip(ENDS, (-1, 1), strict=True)):
        for intervals, which in ((within, ""), (beyond, _BEYOND)):
            widths = intervals.parts(name, dtype)
            for part, width in zip(("", _OF_POWER), widths, strict=False):
                widest = _widest(dims, width, grid.dims(name))
                tables[f"{name}_{end}{part}{which}"] = _table(dims, np.exp(sign * widest))
    return tables


def _table(dims: Sequence[str], array: Array) -> Table:
    axes = tuple(dim for dim, size in zip(dims, array.shape, strict=True) if size > 1)
    return Table(axes, array.reshape([size for size in array.shape if size > 1]))


def _widest(dims: Sequence[str], widths: Array, own: Sequence[str]) -> Array:
    """The widest over axes that make no difference to a variable."""
    others = [position for position, dim in enumerate(dims) if dim not in own]
    widest: Array = widths.max(tuple(others), keepdims=True)
    return widest


def _of_length(mask: str, axis: str) -> str:
    return f"{mask}.{axis}"


def ends(
    values: Mapping[str, Any],
    tables: Mapping[str, Any],
    arrivals: Arrivals | None = None,
    drawn: Drawn | None = None,
) -> dict[str, Any]:
    """Flags and intervals of the variables of one cell.

    Args:
        values: The variables.
        tables: The tables of `interval_tables` at this cell.
        arrivals: Figures of requests that arrive at a rate, if they do.
        drawn: Power of a GPU, if power or energy at load are among the variables.
    """
    judged = [name for name in CALIBRATED if name in values]
    found: dict[str, Any] = {}
    lengths: dict[str, Any] = {}
    for mask in _masks(judged):
        given = [tables[key] for axis in LENGTHS if (key := _of_length(mask, axis)) in tables]
        lengths[mask] = reduce(or_, given, jnp.int8(0))
        found[mask] = tables[mask] | lengths[mask]
    for name, end in product(judged, ENDS):
        # The mask may vary over axes that make no difference to the variable; lengths do not.
        is_long = (lengths[CALIBRATED[name].mask] & np.int8(LONG)) != 0
        slower, *more = (
            jnp.where(is_long, tables[f"{key}{_BEYOND}"], tables[key])
            for part in ("", _OF_POWER)
            if (key := f"{name}_{end}{part}") in tables
        )
        if more and drawn is not None:
            found[f"{name}_{end}"] = values[name] * power_multiple(
                name, slower, within_rated(more[0], drawn), arrivals
            )
        else:
            found[f"{name}_{end}"] = interval_end(name, values[name], slower, arrivals)
    return found


def within_rated(more: Any, drawn: Drawn) -> Any:
    """A multiple of the power, at most that of the rated power where it is known. [1]"""
    highest = jnp.maximum(drawn.rated / drawn.power, 1.0)
    return jnp.where(jnp.isnan(highest), more, jnp.minimum(more, highest))


def power_multiple(name: str, slower: Any, more: Any, arrivals: Arrivals | None) -> Any:
    """Multiple of power, or of the energy that it makes in a time, at an end of the interval.

    Errors of the time and of the power add up in squares in the energy. Requests that arrive at a
    rate are served at that rate, so that their energy is as uncertain as the power.

    Args:
        name: The variable.
        slower: Multiple of the time for everything. [1]
        more: Multiple of the power. [1]
        arrivals: Figures of requests that arrive at a rate, if they do.
    """
    if name == POWER:
        return more
    time, power = jnp.log(slower), jnp.log(more)
    both = jnp.exp(jnp.sqrt(time**2 + power**2))
    multiple = jnp.where((time < 0) | (power < 0), 1 / both, both)
    return multiple if arrivals is None else jnp.where(arrivals.utilisation < 1, more, multiple)


def interval_end(name: str, value: Any, slower: Any, arrivals: Arrivals | None) -> Any:
    """End of an interval: the value of a server that takes `slower` times as long for everything.

    At a given rate of arrivals its utilisation ρ is as many times as high, and waits, which grow as
    ρ/(1 − ρ), grow as much more: without end where it no longer keeps up.
    """
    if name == UTILISATION and arrivals is None:
        # A server is not busier than all of the time.
        return jnp.minimum(value * slower, jnp.maximum(value, 1.0))
    if arrivals is None or name not in (*OF_WAITS, *OF_RATES):
        return value * slower
    used = arrivals.utilisation
    if name in OF_RATES:
        # As much as arrives, unless the slower server cannot; `slower` divides its rate.
        highest = value / jnp.where(used < 1, used, 1.0) * slower
        return jnp.where(used < 1, jnp.minimum(value, highest), highest)
    left = 1 - used * slower
    longer = jnp.where(left > 0, slower * (1 - used) / jnp.where(left > 0, left, 1.0), jnp.inf)
    waits = value if name == "inflight_queue_time" else value - arrivals.prefill_time
    waits = jnp.where(waits > 0, waits, 0.0)
    # No wait is no wait, however long others take.
    waited = jnp.where(waits > 0, waits * longer * slower, 0.0)
    return (value - waits) * slower + waited


def warn_of_unmeasured(grid: Resolved) -> None:
    """Warn of hits and drafts in a calibrated sweep: no run that was fitted had any."""
    axes = [axis for axis in (*PREFIX, "draft_tokens") if any(grid.numbers.get(axis, ()))]
    if axes:
        warnings.warn(
            f"{' and '.join(axes)}: the calibration was fitted to runs without, and the intervals "
            "are those of such runs",
            SpecWarning,
            stacklevel=4,
        )


def calibrated_attributes(
    calibration: Calibration, name: str, present: Sequence[str]
) -> dict[str, str]:
    """Global attributes of a calibrated result.

    Args:
        calibration: The calibration.
        name: Its name with its fingerprint.
        present: Variables of the result.
    """
    return {
        "calibration": name,
        "efficiency": name,
        "title": "Calibrated estimates of LLM inference",
        "comment": f"Efficiency factors fitted to measurements of {calibration.engine}, for "
        f"version {calibration.engine_version}; 90 % intervals where a variable has lower and "
        "upper.",
        "llm_sweep_variables": " ".join(present),
    }


def interval_variables(variables: Sequence[str]) -> list[str]:
    """Names that a calibration adds to `variables`, in their order."""
    judged = [name for name in CALIBRATED if name in variables]
    return [*_masks(judged), *(f"{name}_{end}" for name in judged for end in ENDS)]


def intervals_of(grid: Resolved, calibration: Calibration, variables: Sequence[str]) -> Intervals:
    """Intervals of `variables` over the cells of a grid.

    Arrays have the axes of all masks together but lengths, in their order, with a length of 1 along
    those that make no difference. No length raises a flag here, nor an axis that the grid lacks.
    """
    dims = _dims(grid, variables)

    def along(values: Any, axis: str) -> Array:
        return np.reshape(values, [-1 if dim == axis else 1 for dim in dims])

    subjects = Subjects(
        model=along([spec.name for spec, _ in grid.models], "model"),
        family=along([spec.family for spec, _ in grid.models], "model"),
        experts=along([experts_of(blocks) for _, blocks in grid.models], "model"),
        hardware=along([machine.name for machine in grid.hardware], "hardware"),
        dtype=_dtypes(grid, dims),
        version=np.asarray(f"{calibration.engine} {calibration.engine_version}"),
    )
    axes = {
        dim: along(np.asarray(grid.numbers[dim], float), dim) for dim in dims if dim in grid.numbers
    }
    gpus = np.asarray(gpus_of(axes, REPLICA_GPUS), float)
    linked = along([float(machine.fabric_reach[0]) for machine in grid.hardware], "hardware")

    def of(mask: str) -> dict[str, Array]:
        given = {dim: axes[dim] for dim in grid.dims(mask) if dim in axes}
        load = {"load": given["concurrency"] / gpus} if "concurrency" in given else {}
        return {**given, **load, "gpus": gpus, "link_gpus": linked}

    numbers = {mask: of(mask) for mask in _masks(variables)}
    return calibration.intervals(subjects, numbers, variables)


def _dtypes(grid: Resolved, dims: Sequence[str]) -> Array:
    """Types of the weights by which they are pooled, along models only where these differ."""
    found = [[pooled_dtype(each.weight_dtype) for each in recipes] for recipes in grid.recipes]
    if all(types == found[0] for types in found):
        found = found[:1]
    lengths = {"model": len(found), "precision": len(found[0])}
    return np.reshape(np.asarray(found), [lengths.get(dim, 1) for dim in dims])


def _dims(grid: Resolved, variables: Sequence[str]) -> list[str]:
    """Axes of the labels and of all masks of `variables` together, apart from lengths."""
    labels = ("model", "hardware", "precision")
    found = {*labels, *(dim for mask in _masks(variables) for dim in grid.dims(mask))}
    return [axis for axis in AXES if axis in found and axis not in LENGTHS]


def _masks(variables: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(CALIBRATED[name].mask for name in variables))
