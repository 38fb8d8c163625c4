"""Checks of the tables in a calibration file: every name is known and every number in its range."""

import dataclasses
from collections.abc import Iterable, Mapping
from math import isfinite, isinf
from typing import Any

from sweep.engines.prediction_interval import BANDS, RANGED, WIDEST, bands_of
from sweep.engines.traits import Traits
from sweep.kernel.factors import FACTORS, IDEAL
from sweep.schema.intervals import ASSUMED, CALIBRATED, EXTRAPOLATION, SCENARIO_OF_MASK, UNSEEN
from sweep.specs.parsing import nearest, short

PARTS_OF_A_WHOLE = (
    *("unhidden", "dispatch_everywhere", "prefill_first", "kept_context"),
    *("total_memory_share", "idle_power", "bandwidth_power"),
)
"""Factors between 0 and 1."""
SHARES = (1e-3, 1e3)
"""Lowest and highest share of a rate, and multiple of a pooled factor that is not a share. [1]"""
LONGEST = 1000.0
"""Longest fixed time. [s]"""
MOST_ROWS = 1e9
"""Most rows or heads at which half of a rate is reached. [count]"""
MOST_MEMORY = 1e15
"""Most memory that an engine keeps for itself. [byte]"""
LARGEST_EXPONENT = 100.0
"""Largest exponent, and largest ratio that is 0 in an ideal engine. [1]"""
DEVIATIONS = (1e-6, 1e6)
"""Lowest and highest multiple of a pooled factor. [1]"""
RATIO_SHARES = ("seen", "unseen_hardware", "unseen_model")
"""Keys of `ratios`."""
LARGEST_SHARE = 10.0
"""Largest share of a half-width in that of a ratio. [1]"""
MOST_GPUS = 1e6
"""Most GPUs of a replica. [count]"""
SPREADS = (1e-3, 1e3)
"""Narrowest and widest interval relative to the default. [1]"""
VERDICTS = ("", "determined", "prior-dominated", "undetermined", "at bound", "fixed")

GROUPINGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("hardware", "model", "version", "family", "dtype"), ()),
    "experts": ("routed", "none"),
    **{name: bands_of(name) for name in BANDS},
}
"""Labels by which spreads are listed, and their levels where these are known."""
_JUDGED = {scenario for judged in CALIBRATED.values() for scenario in judged.scenarios}
SCENARIOS = tuple(sorted(_JUDGED | set(SCENARIO_OF_MASK.values()) | set(ASSUMED)))
SEEN = tuple(flag.removeprefix("unseen_") for flag in UNSEEN)
TRAITS = tuple(field.name for field in dataclasses.fields(Traits))

Tables = Mapping[str, Mapping[str, Any]]


def range_of(factor: str) -> tuple[float, float]:
    """Lowest and highest value of a factor, in its unit."""
    if factor in PARTS_OF_A_WHOLE:
        return 0.0, 1.0
    if factor.endswith("_s"):
        return 0.0, LONGEST
    if factor.endswith("_bytes"):
        return 0.0, MOST_MEMORY
    if "half" in factor:
        return 0.0, MOST_ROWS
    return SHARES if getattr(IDEAL, factor) == 1 else (0.0, LARGEST_EXPONENT)


def check_factors(factors: Mapping[str, Any], settings: Tables, era: str) -> None:
    """Check pooled factors and settings.

    Args:
        factors: Figures by factor, each with its `value`, `standard_error` and `verdict`.
        settings: Values by factor and era.
        era: That of the version which a sweep predicts.

    Raises:
        ValueError: A factor is unknown, a number is outside its range, or a setting has no value
            for the era.
    """
    for factor, figure in factors.items():
        _known("factors", "factor", factor, FACTORS)
        _check_value(f"factors.{factor}", figure.value, factor)
        _check_figure(f"factors.{factor}", figure)
    for factor, by_era in settings.items():
        _known("settings", "factor", factor, FACTORS)
        if "default" not in by_era and era not in by_era:
            raise ValueError(
                f"settings.{factor}: has no value for the versions that it predicts; add `default`"
            )
        for of, value in by_era.items():
            _check_value(f"settings.{factor}.{of:.80}", value, factor)


def check_deviations(deviations: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Check deviations by factor, trait and level.

    Raises:
        ValueError: A factor or trait is unknown, or a number is outside its range.
    """
    for factor, by_trait in deviations.items():
        _known("deviations", "factor", factor, FACTORS)
        for trait, levels in by_trait.items():
            _known(f"deviations.{factor}", "trait", trait, TRAITS)
            for level, figure in levels.items():
                where = f"deviations.{factor}.{trait}.{level:.80}"
                _within(where, figure.value, DEVIATIONS)
                _check_figure(where, figure)


def check_intervals(halfwidths: Tables, spreads: Tables, ranges: Tables) -> None:
    """Check half-widths, spreads and ranges.

    Raises:
        ValueError: A name is unknown, a number is outside its range, or a range is reversed.
    """
    for scenario, widths in halfwidths.items():
        _known("halfwidths", "scenario", scenario, SCENARIOS)
        for kind, width in widths.items():
            _known(f"halfwidths.{scenario}", "key", kind, ("seen", *EXTRAPOLATION))
            _within(f"halfwidths.{scenario}.{kind}", width, (0.0, WIDEST))
    for grouping, levels in spreads.items():
        _known("spreads", "grouping", grouping, GROUPINGS)
        for level, spread in levels.items():
            if GROUPINGS[grouping]:
                _known(f"spreads.{grouping}", "level", level, GROUPINGS[grouping])
            _within(f"spreads.{grouping}.{level:.80}", spread, SPREADS)
    for scenario, spans in ranges.items():
        _known("ranges", "scenario", scenario, SCENARIOS)
        for quantity, (low, high) in spans.items():
            _known(f"ranges.{scenario}", "quantity", quantity, RANGED)
            if low > high:
                raise ValueError(
                    f"ranges.{scenario}.{quantity}: from {low:g} to {high:g} is reversed; "
                    "write the lowest number first"
                )


def check_measured(measured: Tables) -> None:
    """Check GPUs of replicas by scenario and accelerator.

    Raises:
        ValueError: A scenario is unknown, or a number is outside its range.
    """
    for scenario, by_hardware in measured.items():
        _known("measured", "scenario", scenario, SCENARIOS)
        for hardware, gpus in by_hardware.items():
            _within(f"measured.{scenario}.{hardware:.80}", gpus, (1.0, MOST_GPUS))


def check_ratios(ratios: Mapping[str, Any], spreads: Mapping[str, Any]) -> None:
    """Check shares of half-widths in those of ratios, and widths by accelerator.

    Raises:
        ValueError: A share is unknown, or a number is outside its range.
    """
    for share, value in ratios.items():
        _known("ratios", "key", share, RATIO_SHARES)
        _within(f"ratios.{share}", value, (0.0, LARGEST_SHARE))
    for hardware, spread in spreads.items():
        _within(f"ratio_spreads.{hardware:.80}", spread, SPREADS)


def check_seen(seen: Iterable[str]) -> None:
    """Check the kinds of labels that the rows cover.

    Raises:
        ValueError: One is unknown.
    """
    for kind in seen:
        _known("seen", "key", kind, SEEN)


def check_provenance(provenance: Mapping[str, Any]) -> None:
    """Check what is printed of the provenance; the rest may be anything.

    Raises:
        ValueError: A list or mapping is something else.
    """
    together = provenance.get("told_only_together", [])
    if not _is_list(together, lambda group: _is_list(group, lambda name: isinstance(name, str))):
        raise ValueError(_another("told_only_together", "a list of lists of factors", together))
    aside = provenance.get("rows_set_aside", [])
    if not _is_list(aside, lambda name: isinstance(name, str)):
        raise ValueError(_another("rows_set_aside", "a list of rows", aside))
    waits = provenance.get("rows_waiting_longest_for", {})
    if not _is_mapping(waits, lambda count: isinstance(count, int)):
        raise ValueError(_another("rows_waiting_longest_for", "rows by resource", waits))
    drivers = provenance.get("rows_that_drive", {})
    if not _is_mapping(drivers, lambda shares: _is_mapping(shares, _is_number)):
        raise ValueError(_another("rows_that_drive", "shares by factor and kind", drivers))
    errors = provenance.get("errors_without_own_configuration", {})
    if not _is_mapping(errors, lambda found: _is_mapping(found, _is_number)):
        raise ValueError(_another("errors_without_own_configuration", "errors by kind", errors))


def _another(key: str, wanted: str, given: Any) -> str:
    return f"provenance.{key}: must be {wanted}, not {short(given)}"


def _is_list(value: Any, allowed: Any) -> bool:
    return isinstance(value, list) and all(map(allowed, value))


def _is_mapping(value: Any, allowed: Any) -> bool:
    return isinstance(value, Mapping) and all(map(allowed, value.values()))


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) < 1e300


def _check_value(where: str, value: float, factor: str) -> None:
    # An ideal engine has no kernel that sums in one shot: its time is infinite.
    if not (isinf(getattr(IDEAL, factor)) and value == getattr(IDEAL, factor)):
        _within(where, value, range_of(factor))


def _check_figure(where: str, figure: Any) -> None:
    if figure.standard_error is not None:
        _within(f"{where}.standard_error", figure.standard_error, (0.0, WIDEST))
    if figure.verdict not in VERDICTS:
        known = ", ".join(VERDICTS[1:])
        raise ValueError(f"{where}.verdict: must be one of {known}, not {short(figure.verdict)}")


def _within(where: str, value: float, span: tuple[float, float]) -> None:
    low, high = span
    if not (isfinite(value) and low <= value <= high):
        raise ValueError(f"{where}: must be from {low:g} to {high:g}, not {short(value)}")


def _known(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        guess = nearest(name, names) or f"; known: {', '.join(names)}"
        raise ValueError(f"{where}: unknown {kind} {short(name)}{guess}")
