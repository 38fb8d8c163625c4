"""A fitted efficiency as a file holds it: pooled factors, deviations, settings, intervals."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from sweep.engines.traits import AXES_OF_TRAITS, Traits, traits_of
from sweep.errors import SpecError
from sweep.kernel.block import Block
from sweep.kernel.factors import FACTORS, IDEAL
from sweep.schema.intervals import BEYOND, EXTRAPOLATION, UNSEEN
from sweep.specs.files import read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import NotNegative, Positive, Spec, nearest, parse
from sweep.specs.precision import PrecisionSpec
from sweep.specs.shipped import shipped_configs

IDEAL_NAME = "ideal"
INTERVAL = 0.9
"""Share of figures that an interval is meant to hold. [1]"""
Span = Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
UNTOLD = 1.5
"""Width of an interval over the known, for what is new in a way that no rows tell. [1]"""
RANGED = {
    "batch_size": "beyond_batch",
    "concurrency": "beyond_batch",
    "isl": "beyond_length",
    "osl": "beyond_length",
    "gpus": "beyond_gpus",
}
"""Numbers whose ranges a calibration keeps, and what it is called to lie outside."""


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


def setting(settings: Mapping[str, Mapping[str, float]], factor: str, era: str) -> float:
    """The value of a factor that is not fitted, of its era or of all others, or the ideal one."""
    by_era = settings.get(factor, {})
    return by_era.get(era, by_era.get("default", float(getattr(IDEAL, factor))))


class FittedEfficiency(Spec):
    """Efficiency factors by what a configuration is pooled by.

    Attributes:
        name: What it is called.
        engine: The engine it is for.
        engine_version: The version that a sweep stands for.
        provenance: Rows, errors and how it was made, in words and numbers.
        factors: Pooled factors.
        deviations: By factor, trait and level, what to multiply the pooled factor by.
        settings: Factors that are not fitted, by era; `default` stands for all others.
        halfwidths: Half of the 90 % interval of a logarithm, by scenario and by what is new:
            `seen`, or a word of `EXTRAPOLATION`. [1]
        seen: What the rows held: `hardware`, `model`, `dtype` and `family`.
        spreads: How much wider than the half-width the interval of a `hardware`, `model`,
            `version`, or of `experts` `routed` or `none`, is; 1 where it is not named. [1]
        ranges: Lowest and highest number that the rows held, by scenario and quantity of
            `RANGED`. [count]
    """

    name: str = Field(min_length=1)
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

    @property
    def digest(self) -> str:
        """Short fingerprint of everything that changes a prediction."""
        told = self.model_dump(exclude={"provenance"}, mode="json")
        text = json.dumps(told, sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def factor(self, name: str, traits: Traits) -> float:
        """One factor of a configuration."""
        if name in self.settings or name not in self.factors:
            return setting(self.settings, name, traits.era)
        value = self.factors[name].value
        for trait, levels in self.deviations.get(name, {}).items():
            figure = levels.get(getattr(traits, trait))
            value *= 1.0 if figure is None else figure.value
        return value

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of a sweep along which a factor varies, in their order."""
        varying = {AXES_OF_TRAITS.get(trait) for trait in self.deviations.get(name, {})}
        return tuple(axis for axis in ("model", "hardware", "precision") if axis in varying)

    def grid(
        self,
        models: Sequence[tuple[Block, ...]],
        hardware: Sequence[HardwareSpec],
        precision: Sequence[PrecisionSpec],
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Every factor over the axes along which it varies."""
        lengths = {"model": len(models), "hardware": len(hardware), "precision": len(precision)}

        def at(name: str, place: Mapping[str, int]) -> float:
            traits = traits_of(
                hardware[place.get("hardware", 0)],
                precision[place.get("precision", 0)].weight_dtype,
                self.engine,
                self.engine_version,
                models[place.get("model", 0)],
            )
            return self.factor(name, traits)

        found = {}
        for name in FACTORS:
            axes = self.axes(name)
            array = np.empty([lengths[axis] for axis in axes])
            for where in np.ndindex(array.shape):
                array[where] = at(name, dict(zip(axes, where, strict=True)))
            found[name] = array
        return found

    def unseen(self, *, model: str, hardware: str, dtype: str, family: str) -> int:
        """Sum of the bits of `UNSEEN` for what the rows did not hold.

        A calibration that does not say which families it saw counts none as new.
        """
        given = {"model": model, "hardware": hardware, "dtype": dtype, "family": family}
        known = {"family": self.seen.get("family", [family])}
        return sum(
            UNSEEN[f"unseen_{what}"]
            for what, name in given.items()
            if name not in known.get(what, self.seen.get(what, []))
        )

    def beyond(self, scenario: str, **numbers: Any) -> Any:
        """Sums of the bits of `BEYOND` for numbers outside the ranges of the rows.

        Args:
            scenario: The kind of rows.
            numbers: By the names of `RANGED`, numbers or arrays that broadcast. [count]
        """
        known = self.ranges.get(scenario, {})
        bits: Any = np.int8(0)
        for name, given in numbers.items():
            if name in known:
                low, high = known[name]
                outside = (given < low) | (given > high)
                bits = bits | outside * np.int8(BEYOND[RANGED[name]])
        return bits

    def spread(self, *, hardware: str, model: str, experts: str, version: str) -> float:
        """How much wider an interval is for what it is of, over the usual. [1]"""
        given = {"hardware": hardware, "model": model, "experts": experts, "version": version}
        product = 1.0
        for by, levels in self.spreads.items():
            product *= levels.get(given.get(by, ""), 1.0)
        return product

    def halfwidth(self, scenarios: Sequence[str], extrapolation: int) -> float:
        """Half of the 90 % interval of a prediction's logarithm, to be times its `spread`. [1]

        What is new in several ways is as uncertain as all together, their excess over the known
        added in squares; a new family stands for its new models too. What no rows tell counts half
        as much again as the known. NaN where there are no rows of any of these scenarios.

        Args:
            scenarios: Kinds of rows, of which the widest holds.
            extrapolation: Sum of bits of `EXTRAPOLATION`.
        """
        new = [what for what, bit in EXTRAPOLATION.items() if extrapolation & bit]
        if "unseen_family" in new and "unseen_model" in new:
            new.remove("unseen_model")
        widths = [_widened(self.halfwidths[s], new) for s in scenarios if self.halfwidths.get(s)]
        return max(widths, default=float("nan"))


def _widened(known: Mapping[str, float], new: Sequence[str]) -> float:
    seen = known.get("seen", max(known.values()))
    extra = [max(known.get(what, UNTOLD * seen) ** 2 - seen**2, 0.0) for what in new]
    return float(np.sqrt(seen**2 + sum(extra)))


def load_efficiency(name: str | Path) -> FittedEfficiency | None:
    """A shipped calibration by name, or one at a path; `None` for `ideal`.

    Raises:
        SpecError: It is unknown or malformed.
    """
    if str(name) == IDEAL_NAME:
        return None
    folder = shipped_configs() / "calibrations"
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    path = shipped.get(str(name), Path(name))
    if path.suffix not in (".yaml", ".yml", ".json", ".nc"):
        known = [IDEAL_NAME, *shipped]
        guess = nearest(str(name), known) or f"; known: {', '.join(known)}, or a file"
        raise SpecError(f"unknown efficiency {str(name)!r}{guess}")
    data = _from_netcdf(path) if path.suffix == ".nc" else read_mapping(path)
    fitted = parse(FittedEfficiency, {"name": path.stem, **data}, str(path))
    for where, names in (("factors", fitted.factors), ("deviations", fitted.deviations)):
        for factor in names:
            if factor not in FACTORS:
                guess = nearest(factor, list(FACTORS)) or f"; known: {', '.join(FACTORS)}"
                raise SpecError(f"{path}: {where}: unknown factor {factor!r}{guess}")
    return fitted


ATTRIBUTE = "llm_sweep_efficiency"
"""Attribute of a NetCDF file that holds the same as the plain text beside it."""


def _from_netcdf(path: Path) -> dict[str, Any]:
    import netCDF4

    try:
        with netCDF4.Dataset(path) as dataset:
            text = dataset.getncattr(ATTRIBUTE)
    except (OSError, AttributeError) as error:
        raise SpecError(f"{path}: not a fitted efficiency: {error}") from None
    found: dict[str, Any] = json.loads(text)
    return found
