"""A calibration file: pooled factors, deviations, settings and intervals."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from sweep.engines.calibration_checks import (
    check_deviations,
    check_factors,
    check_intervals,
    check_measured,
    check_provenance,
    check_ratios,
    check_seen,
)
from sweep.engines.engine import Settings
from sweep.engines.known import engine_of
from sweep.engines.prediction_interval import (
    PER_DOUBLING,
    Intervals,
    Numbers,
    Subjects,
    beside_halfwidths,
    doublings_beyond,
    extrapolations,
    ranges_of,
    spread_of,
    usual_halfwidths,
)
from sweep.engines.traits import AXES_OF_TRAITS, Traits, traits_of_levels
from sweep.errors import SpecError
from sweep.kernel.block import Block
from sweep.kernel.factors import FACTORS, IDEAL, SWITCHES
from sweep.specs.files import mapping_of, read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.netcdf_library import opened
from sweep.specs.parsing import Name, NotNegative, Positive, Spec, nearest, parse, short
from sweep.specs.precision import PrecisionSpec
from sweep.specs.seal import fault_of_seal
from sweep.specs.shipped import shipped_configs
from sweep.specs.short_names import same_but_spelling

IDEAL_NAME = "ideal"
Span = Annotated[list[NotNegative], Field(min_length=2, max_length=2)]


class Figure(Spec):
    """A fitted number.

    Attributes:
        value: A factor, or a deviation as a multiple of the pooled factor.
        standard_error: Of its logarithm. [1]
        verdict: `determined`, `prior-dominated`, `undetermined`, `at bound` or `fixed`.
    """

    value: NotNegative
    standard_error: NotNegative | None = None
    verdict: str = ""


def setting(settings: Settings, factor: str, era: str) -> float:
    """A factor that is not fitted: of its era, else the default, else the ideal value."""
    by_era = settings.get(factor, {})
    return float(by_era.get(era, by_era.get("default", getattr(IDEAL, factor))))


class Calibration(Spec):
    """Factors, intervals and provenance, as a calibration file has them.

    Attributes:
        name: What it is called.
        engine: The engine it is for.
        engine_version: The version that a sweep predicts.
        provenance: Rows, errors and how it was made, in words and numbers.
        factors: Pooled factors.
        deviations: By factor, trait and level, what to multiply the pooled factor by.
        settings: Factors that are not fitted, by era; `default` is for all other eras.
        halfwidths: Half of the 90 % interval of a logarithm, by scenario and by what is new:
            `seen`, or a word of `EXTRAPOLATION`. [1]
        seen: What the rows cover: `hardware`, `model`, `dtype` and `family`.
        spreads: Interval width relative to the default, for a `hardware`, `model`, `version`,
            for `experts` `routed` or `none`, and for bands of `requests` and `gpus`; 1 where it is
            not listed. [1]
        ranges: Lowest and highest number of the rows, by scenario and quantity of `RANGED`.
            [count]
        measured: Most GPUs of a replica in the rows of each accelerator, by scenario. [count]
        ratios: Shares of a half-width that remain in the ratio of two accelerators: of the usual
            one as `seen`, and of what `unseen_hardware` and `unseen_model` add to it; 1 if not
            listed. [1]
        ratio_spreads: Width of the usual part of ratios with an accelerator, relative to the
            default; 1 if not listed. [1]
    """

    name: Name
    engine: str = ""
    engine_version: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)
    factors: dict[str, Figure] = Field(default_factory=dict)
    deviations: dict[str, dict[str, dict[str, Figure]]] = Field(default_factory=dict)
    settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    halfwidths: dict[str, dict[str, NotNegative]] = Field(default_factory=dict)
    seen: dict[str, list[str]] = Field(default_factory=dict)
    spreads: dict[str, dict[str, Positive]] = Field(default_factory=dict)
    ranges: dict[str, dict[str, Span]] = Field(default_factory=dict)
    measured: dict[str, dict[str, Positive]] = Field(default_factory=dict)
    ratios: dict[str, NotNegative] = Field(default_factory=dict)
    ratio_spreads: dict[str, Positive] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "Calibration":
        if self.name == IDEAL_NAME:
            raise ValueError(f"name: {IDEAL_NAME!r} means bounds, without factors; choose another")
        era = engine_of(self.engine).era(self.engine_version)
        check_factors(self.factors, self.settings, era)
        check_deviations(self.deviations)
        check_intervals(self.halfwidths, self.spreads, self.ranges)
        check_measured(self.measured)
        check_ratios(self.ratios, self.ratio_spreads)
        check_seen(self.seen)
        check_provenance(self.provenance)
        return self

    @property
    def digest(self) -> str:
        """Short fingerprint of everything that changes a prediction."""
        content = self.model_dump(exclude={"provenance"}, mode="json")
        text = json.dumps(content, sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def factor(self, name: str, traits: Traits) -> float:
        """One factor of a configuration."""
        if name in self.settings or name not in self.factors:
            return setting(self.settings, name, traits.era)
        value = self.factors[name].value
        for trait, levels in self.deviations.get(name, {}).items():
            value *= _multiple(levels, traits, trait)
        return value

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of a sweep along which a factor varies, in their order."""
        varying = {AXES_OF_TRAITS.get(trait) for trait in self.deviations.get(name, {})}
        return tuple(axis for axis in ("model", "hardware", "precision") if axis in varying)

    @property
    def used(self) -> list[str]:
        """Factors that a kernel reads: all but switches that are off, whose formulas it lacks."""
        era = engine_of(self.engine).era(self.engine_version)
        fixed = [name for name in SWITCHES if name not in self.factors]
        off = [name for name in fixed if not setting(self.settings, name, era)]
        return [name for name in FACTORS if name not in off]

    def grid(
        self,
        models: Sequence[tuple[Block, ...]],
        hardware: Sequence[HardwareSpec],
        precision: Sequence[PrecisionSpec],
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Every factor that a kernel reads, over the axes along which it varies.

        Raises:
            SpecError: The engine does not run on an accelerator.
        """
        self.check_runs_on(hardware)
        levels = traits_of_levels(models, hardware, precision, self.engine, self.engine_version)
        return {name: self._over_levels(name, levels) for name in self.used}

    def runs_on(self, machine: HardwareSpec) -> bool:
        """Whether the engine runs on an accelerator, or was measured on it."""
        measured = self.seen.get("hardware", [])
        engine = engine_of(self.engine)
        return machine.name in measured or engine.runs_on(machine.vendor, machine.architecture)

    def check_runs_on(self, hardware: Sequence[HardwareSpec]) -> None:
        """Check that the engine runs on all accelerators.

        Raises:
            SpecError: It does not run on one.
        """
        for machine in hardware:
            if not self.runs_on(machine):
                engine = engine_of(self.engine)
                kind = machine.vendor
                if engine.runs_on(kind):
                    kind = f"the generation {machine.architecture}"
                raise SpecError(
                    f"{machine.name}: calibration {self.name} is of {self.engine}, which runs on "
                    f"accelerators of {' and '.join(engine.vendors)}, not of {kind}; leave the "
                    f"accelerator out, or use a calibration of another engine or `{IDEAL_NAME}`"
                )

    def _over_levels(
        self, name: str, levels: Mapping[str, Sequence[Traits]]
    ) -> np.ndarray[Any, Any]:
        axes = self.axes(name)
        shape = [len(levels[axis]) for axis in axes]
        if name in self.settings or name not in self.factors:
            return np.full(shape, self.factor(name, levels["model"][0]))
        found = np.full(shape, self.factors[name].value)
        for trait, figures in self.deviations.get(name, {}).items():
            axis = AXES_OF_TRAITS.get(trait)
            along = levels["model"][:1] if axis is None else levels[axis]
            multiples = np.asarray([_multiple(figures, traits, trait) for traits in along])
            found = found * multiples.reshape([len(along) if a == axis else 1 for a in axes])
        return np.asarray(found)

    def intervals(
        self, subjects: Subjects, numbers: Mapping[str, Numbers], variables: Sequence[str]
    ) -> Intervals:
        """The 90 % intervals of predicted variables, and what each extrapolates to.

        Args:
            subjects: Labels of the predictions.
            numbers: By mask of `EXTRAPOLATIONS`, batch sizes, lengths and GPUs. [count]
            variables: Names of `CALIBRATED`; those of whose masks there are numbers.
        """
        return Intervals(
            extrapolation=extrapolations(self.seen, self.ranges, subjects, numbers, self.measured),
            usual=usual_halfwidths(self.halfwidths, variables),
            beside=beside_halfwidths(self.halfwidths, variables),
            spread={
                mask: spread_of(self.spreads, subjects, given) * self._distance(mask, given)
                for mask, given in numbers.items()
            },
        )

    def _distance(self, mask: str, numbers: Numbers) -> np.ndarray[Any, Any]:
        """Width relative to that of a measured load. [1]"""
        added = PER_DOUBLING * doublings_beyond(ranges_of(mask, self.ranges), numbers)
        return np.asarray(np.sqrt(1 + added**2))


FittedEfficiency = Calibration
"""The former name of `Calibration`."""


def _multiple(levels: Mapping[str, Figure], traits: Traits, trait: str) -> float:
    figure = levels.get(getattr(traits, trait))
    return 1.0 if figure is None else figure.value


def load_calibration(name: str | Path) -> Calibration | None:
    """A shipped calibration by name, or one at a path; `None` for `ideal`.

    Raises:
        SpecError: It is unknown or malformed.
    """
    folder = shipped_configs() / "calibrations"
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    spelt = same_but_spelling(str(name), [IDEAL_NAME, *shipped])
    if spelt == [IDEAL_NAME]:
        return None
    path = shipped[spelt[0]] if spelt else Path(name)
    if path.suffix not in (".yaml", ".yml", ".json", ".nc"):
        known = [IDEAL_NAME, *shipped]
        if _is_special(path):
            raise SpecError(
                f"{path}: is not a regular file; name a calibration or a .yaml or .nc file"
            )
        guess = nearest(str(name), known) or f"; known: {', '.join(known)}, or a file"
        raise SpecError(f"unknown calibration {short(str(name))}{guess}")
    try:
        state = path.stat()
    except (OSError, ValueError):
        return _read(path, 0, 0)
    return _read(path, state.st_mtime_ns, state.st_size)


def _is_special(path: Path) -> bool:
    """Whether a path leads to a folder, pipe or device; not if no file can have this name."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=8)
def _read(path: Path, changed_ns: int, size: int) -> Calibration:
    """The calibration of a file, which is read again once it has changed."""
    del changed_ns, size
    data = _from_netcdf(path) if path.suffix == ".nc" else read_mapping(path)
    recorded = data.pop(SEAL_KEY, None)
    if recorded is not None and recorded != content_seal(data):
        raise SpecError(
            f"{path}: its content differs from its {SEAL_KEY}, so it was damaged or edited; if you "
            f"edited it, delete the line {SEAL_KEY!r}, else fit it again or copy it again"
        )
    found = parse(Calibration, {"name": path.stem, **data}, str(path))
    if not found.factors and not found.settings:
        raise SpecError(
            f"{path}: has neither factors nor settings, so it predicts nothing but ideal bounds; "
            f"name {IDEAL_NAME!r} for those, or give a file that llm-calibrate fit has written"
        )
    return found


def calibration_of(
    given: Calibration | str | Path | None, former: Calibration | str | Path | None = None
) -> Calibration | None:
    """A calibration, or the one of a name or file; `None` for `ideal` or nothing.

    Args:
        given: A calibration, its name or its file.
        former: The same under its former name, `efficiency`.

    Raises:
        SpecError: It is unknown or malformed, or both are given.
    """
    if given is not None and former is not None:
        raise SpecError("calibration and its former name, efficiency, are both given; give one")
    chosen = former if given is None else given
    return chosen if isinstance(chosen, Calibration) or chosen is None else load_calibration(chosen)


def recorded_name(attributes: Mapping[str, Any]) -> str:
    """Name and digest of the calibration that a result records, `ideal` for bounds.

    Args:
        attributes: Global attributes; files have it under both of its names, `calibration` and
            `efficiency`, older ones under the second alone.
    """
    former = attributes.get("efficiency")
    return str(attributes.get("calibration", IDEAL_NAME) if former is None else former)


load_efficiency = load_calibration
"""The former name of `load_calibration`."""


ATTRIBUTE = "llm_sweep_calibration"
"""Attribute of a NetCDF file that repeats the plain text beside it."""
FORMER_ATTRIBUTE = "llm_sweep_efficiency"
"""The same in older files."""
SEAL_KEY = "seal"
"""Key of the checksum of all other keys; files without it are read too."""


def content_seal(data: Mapping[str, Any]) -> str:
    """Checksum of the content of a calibration file, whatever its layout and comments.

    Args:
        data: The file as it is read, without the key `SEAL_KEY`.
    """
    text = json.dumps(data, sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _from_netcdf(path: Path) -> dict[str, Any]:
    try:
        fault = fault_of_seal(path, needed=False)
        if not fault:
            with opened(path) as dataset:
                known = ATTRIBUTE if ATTRIBUTE in dataset.ncattrs() else FORMER_ATTRIBUTE
                text = dataset.getncattr(known)
    except (OSError, AttributeError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SpecError(f"{path}: not a calibration: {reason:.200}") from None
    if fault:
        raise SpecError(f"{path}: {fault}; fit it again or copy it again")
    return mapping_of(str(text), f"{path}: {known}", "JSON")
