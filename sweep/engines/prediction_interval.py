"""Interval of a calibrated prediction: what it extrapolates to, and how wide that makes it.

The functions read the tables of a calibration file; `Calibration.intervals` calls them.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sweep.schema.intervals import (
    ASSUMED,
    BEYOND,
    CALIBRATED,
    EXTRAPOLATION,
    INSTEAD,
    SCENARIO_OF_MASK,
    UNSEEN,
)

INTERVAL = 0.9
"""Share of figures that an interval is meant to contain. [1]"""
WIDEST = 20.0
"""Widest half of an interval of a logarithm: a factor of half a billion. [1]"""
UNMEASURED = 1.5
"""Width of an interval, relative to `seen`, for an extrapolation that no row measures. [1]"""
PER_DOUBLING = 0.55
"""Width that each doubling of the load beyond the measured ones adds in squares, relative to the
usual width. Of 1,518 shipped runs at up to 8 requests a GPU, predicted by a fit without all of
these, errors grew so: 1.3, 1.7 and 2.3 times the usual at 1.5, 2.5 and 3.5 doublings. [1]"""
KINDS = ("seen", *EXTRAPOLATION)
"""Kinds of novelty for which a calibration has half-widths."""
LOADS = ("batch_size", "concurrency", "load")
"""Numbers of `RANGED` that are loads."""
RANGED = {
    "batch_size": "beyond_batch",
    "concurrency": "beyond_batch",
    "load": "beyond_batch",
    "isl": "beyond_length",
    "osl": "beyond_length",
    "gpus": "beyond_gpus",
}
"""Numbers whose ranges a calibration records, and the flag for a value outside; the load is the
concurrency over the GPUs of a replica."""

BANDS = {"requests": (8, 64), "gpus": (1, 2, 4)}
"""Last numbers of the bands in which errors are compared; above the last is one more. [count]"""

Array = np.ndarray[Any, Any]
Numbers = Mapping[str, Array]
Tables = Mapping[str, Mapping[str, float]]
Ranges = Mapping[str, Sequence[float]]
"""Lowest and highest number of measurements, by the names of `RANGED`. [count]"""


@dataclass(frozen=True)
class Subjects:
    """Labels of predictions, as arrays of text that broadcast against one another.

    Attributes:
        model: Names of the models.
        family: Their `model_type`.
        experts: `routed` for a mixture of experts, else `none`.
        hardware: Names of the accelerators.
        dtype: Types of the weights, as they are pooled.
        version: Engine and version.
    """

    model: Array
    family: Array
    experts: Array
    hardware: Array
    dtype: Array
    version: Array

    def at(self, rows: Array) -> "Subjects":
        """The labels of some rows, if each label has one axis, over rows."""
        return Subjects(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Intervals:
    """Intervals of predicted variables, all over the same cells.

    Attributes:
        extrapolation: Sums of the bits of `EXTRAPOLATION`, by mask.
        usual: Half-width by sum of bits, by variable. [1]
        beside: Half-width that adds to that in squares, by sum of bits, by variable. [1]
        spread: Width relative to the default, for the accelerator, model, version, numbers of
            requests and GPUs, and the distance of the load from the measured ones, by mask. [1]
    """

    extrapolation: dict[str, Array]
    usual: dict[str, Array]
    beside: dict[str, Array]
    spread: dict[str, Array]

    def parts(self, variable: str, dtype: Any = np.float64) -> tuple[Array, ...]:
        """Half-widths of the logarithm of `variable` that add up in squares, power last. [1]"""
        mask = CALIBRATED[variable].mask
        bits = self.extrapolation[mask]
        widths = [self.usual[variable].astype(dtype)[bits] * self.spread[mask].astype(dtype)]
        if variable in self.beside:
            widths.append(self.beside[variable].astype(dtype)[bits])
        # Factors of calibrations that others wrote may multiply to more than a float can hold.
        return tuple(np.asarray(np.minimum(each, np.asarray(WIDEST, dtype))) for each in widths)

    def halfwidth(self, variable: str, dtype: Any = np.float64) -> Array:
        """Half of the 90 % interval of the logarithm of `variable`. [1]"""
        own, *beside = self.parts(variable, dtype)
        return np.asarray(np.hypot(own, *beside) if beside else own)


def unseen_bits(seen: Mapping[str, Sequence[str]], subjects: Subjects) -> Array:
    """Sums of the bits of `UNSEEN` for labels that no measurement has.

    A calibration that does not list the families it has seen counts none as new.
    """
    bits: Any = np.int8(0)
    for flag, bit in UNSEEN.items():
        label = flag.removeprefix("unseen_")
        if label == "family" and label not in seen:
            continue
        new = ~np.isin(getattr(subjects, label), list(seen.get(label, [])))
        bits = bits | np.int8(bit) * new
    return np.asarray(bits)


def beyond_bits(ranges: Ranges, numbers: Numbers) -> Array:
    """Sums of the bits of `BEYOND` for numbers outside the ranges of the measurements.

    Args:
        ranges: Lowest and highest value, by the names of `RANGED`. [count]
        numbers: Arrays that broadcast, by the names of `RANGED`. [count]
    """
    bits: Any = np.int8(0)
    for name, given in numbers.items():
        if name in ranges:
            low, high = ranges[name]
            bits = bits | np.int8(BEYOND[RANGED[name]]) * ((given < low) | (given > high))
    return np.asarray(bits)


def scenario_of(mask: str, ranges: Container[str]) -> str:
    """Kind of measurement that a mask compares with.

    Servers that clients kept busy, where their times to first token are those of `INSTEAD`.

    Args:
        mask: A name of `EXTRAPOLATIONS`.
        ranges: Ranges by kind of those that were measured.
    """
    own = SCENARIO_OF_MASK[mask]
    return own if own in ranges or INSTEAD.get(own) not in ranges else "inflight"


def ranges_of(mask: str, ranges: Mapping[str, Ranges]) -> Ranges:
    """Ranges of the measurements that a mask compares with; none if there are none. [count]

    A batch of prompts is compared with the clients that sent theirs at once.
    """
    scenario = scenario_of(mask, ranges)
    found = ranges.get(scenario, {})
    if scenario == SCENARIO_OF_MASK[mask] or "concurrency" not in found:
        return found
    return {**found, "batch_size": (1.0, found["concurrency"][1])}


def doublings_beyond(ranges: Ranges, numbers: Numbers) -> Array:
    """Doublings by which the load is outside the range of the measurements, 0 inside. [1]

    Args:
        ranges: Lowest and highest value, by the names of `RANGED`. [count]
        numbers: Arrays that broadcast, by the names of `RANGED`; NaN where there is none. [count]
    """
    furthest: Any = np.float64(0.0)
    for name in LOADS:
        if name in numbers and name in ranges:
            low, high = ranges[name]
            with np.errstate(invalid="ignore", divide="ignore"):
                beyond = np.maximum(np.log2(low / numbers[name]), np.log2(numbers[name] / high))
            furthest = np.fmax(furthest, np.where(np.isfinite(beyond), beyond, 0.0))
    return np.asarray(furthest)


def unmeasured_bits(
    measured: Mapping[str, float], seen: Sequence[str], hardware: Array, numbers: Numbers
) -> Array:
    """Sums of the bits of accelerators without runs of one kind, and of more GPUs than those had.

    An accelerator that was only measured in flight is new to static batches, and one that was only
    measured alone is new to exchanges between several. One whose runs did not leave its link is new
    beyond it, where others exchange over another interconnect or were not measured either.

    Args:
        measured: Most GPUs of the runs of a kind, by accelerator. [count]
        seen: Accelerators with runs of any kind; any other is new anyhow.
        hardware: Names of the accelerators.
        numbers: `gpus` of a replica, and `link_gpus` that the accelerator's link joins, 1 without a
            link. [count]
    """
    gpus, linked = numbers["gpus"], numbers["link_gpus"]
    known = np.isin(hardware, list(measured))
    most = np.reshape([measured.get(str(name), 1.0) for name in hardware.ravel()], hardware.shape)
    left = (linked > 1) & (gpus > linked) & (most <= linked)
    new = (np.isin(hardware, list(seen)) & ~known) | left
    bits: Array = np.int8(UNSEEN["unseen_hardware"]) * new | (
        np.int8(BEYOND["beyond_gpus"]) * ((known & (gpus > most)) | left)
    )
    return bits


def bands(numbers: Numbers) -> dict[str, Array]:
    """Labels of the bands of `BANDS` that numbers of requests and of GPUs are in.

    Requests are those of a static batch, or those that clients keep open; `full` for a server that
    holds as many as fit.

    Args:
        numbers: Arrays by the names of `RANGED`; NaN where there is none. [count]
    """
    batch = numbers.get("batch_size", np.asarray(np.nan))
    held = numbers.get("concurrency", np.asarray(np.nan))
    requests = np.where(np.isnan(held), batch, held) if "concurrency" in numbers else batch
    given = {"requests": requests, "gpus": numbers.get("gpus", np.asarray(np.nan))}
    return {name: _banded(np.asarray(values), name) for name, values in given.items()}


def bands_of(name: str) -> tuple[str, ...]:
    """Labels of the bands of a quantity of `BANDS`, from the lowest."""
    ends = BANDS[name]
    return (*(f"to {end}" for end in ends), f"above {ends[-1]}", "full")


def _banded(values: Array, name: str) -> Array:
    names, ends = np.asarray(bands_of(name)), BANDS[name]
    index = np.searchsorted(np.asarray(ends), values)
    return np.asarray(names[np.where(np.isnan(values), len(ends) + 1, index)])


def spread_of(spreads: Tables, subjects: Subjects, numbers: Numbers) -> Array:
    """Interval width relative to the default: a product over groupings, 1 for unlisted groups."""
    product: Any = np.float64(1.0)
    banded = bands(numbers)
    for grouping, groups in spreads.items():
        labels = banded.get(grouping, np.asarray(getattr(subjects, grouping, "")))
        factors = [groups.get(str(label), 1.0) for label in labels.ravel()]
        product = product * np.reshape(factors, labels.shape)
    return np.asarray(product)


def halfwidth(halfwidths: Tables, scenarios: Sequence[str], extrapolation: int) -> float:
    """Half of the 90 % interval of a logarithm where errors have their usual spread. [1]

    Extrapolations add up in squares of what each exceeds `seen` by. A new family includes its new
    models. An extrapolation that no row measures is `UNMEASURED` times as wide as `seen`.

    Args:
        halfwidths: Half-widths by scenario and kind of extrapolation. [1]
        scenarios: Kinds of measurements, of which the widest counts; that of `INSTEAD` for one
            without any.
        extrapolation: Sum of bits of `EXTRAPOLATION`.

    Returns:
        The half-width; NaN if none of these was measured.
    """
    new = [flag for flag, bit in EXTRAPOLATION.items() if extrapolation & bit]
    if "unseen_family" in new and "unseen_model" in new:
        new.remove("unseen_model")
    known = [each if halfwidths.get(each) else INSTEAD.get(each, "") for each in scenarios]
    widths = [_widened(halfwidths[each], new) for each in known if halfwidths.get(each)]
    return max(widths, default=float("nan"))


def _widened(known: Mapping[str, float], new: Sequence[str]) -> float:
    seen = known.get("seen", max(known.values()))
    extra = [max(known.get(flag, UNMEASURED * seen) ** 2 - seen**2, 0.0) for flag in new]
    return float(np.sqrt(seen**2 + sum(extra)))


def usual_halfwidths(halfwidths: Tables, variables: Sequence[str]) -> dict[str, Array]:
    """Half-widths by variable and sum of the bits of `EXTRAPOLATION`. [1]"""
    sums = range(sum(EXTRAPOLATION.values()) + 1)
    found: dict[tuple[str, ...], Array] = {}
    for name in variables:
        scenarios = CALIBRATED[name].scenarios
        if not scenarios:
            found[scenarios] = np.zeros(len(sums))
        elif scenarios not in found:
            found[scenarios] = np.asarray([halfwidth(halfwidths, scenarios, n) for n in sums])
    return {name: found[CALIBRATED[name].scenarios] for name in variables}


def beside_halfwidths(halfwidths: Tables, variables: Sequence[str]) -> dict[str, Array]:
    """Half-widths that add in squares, by variable and sum of the bits of `EXTRAPOLATION`. [1]

    A kind without measurements has its assumed half-width, whatever is new.
    """
    found = {}
    for name in variables:
        kind = CALIBRATED[name].beside
        if kind:
            sums = range(sum(EXTRAPOLATION.values()) + 1)
            known = (
                halfwidths if halfwidths.get(kind) else {kind: dict.fromkeys(KINDS, ASSUMED[kind])}
            )
            found[name] = np.asarray([halfwidth(known, (kind,), n) for n in sums])
    return found


def extrapolations(
    seen: Mapping[str, Sequence[str]],
    ranges: Mapping[str, Ranges],
    subjects: Subjects,
    numbers: Mapping[str, Numbers],
    measured: Mapping[str, Mapping[str, float]],
) -> dict[str, Array]:
    """Sums of the bits of `EXTRAPOLATION`, by mask.

    Args:
        seen: Labels that the measurements have.
        ranges: Lowest and highest number of the measurements, by scenario. [count]
        subjects: Labels of the predictions.
        numbers: By mask, the numbers that decide it; an axis that is absent raises no flag: a
            server without a limit holds as many requests as fit, as the measured ones did. [count]
        measured: Most GPUs of the runs of each accelerator, by scenario. [count]
    """
    new = unseen_bits(seen, subjects)
    found = {}
    for mask, given in numbers.items():
        scenario = scenario_of(mask, ranges)
        bits = new | beyond_bits(ranges_of(mask, ranges), given)
        if measured.get(scenario) and "gpus" in given:
            known = seen.get("hardware", [])
            bits = bits | unmeasured_bits(measured[scenario], known, subjects.hardware, given)
        found[mask] = bits
    return found
