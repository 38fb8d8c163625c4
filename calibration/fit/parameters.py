"""Parameters of a fit: pooled factors and deviations by trait, with their priors.

Each factor is fitted in logarithms: a pooled value, and a deviation for each level of some traits.
A deviation has a prior of its own width, so that a level with few rows stays near the pooled value
and an unseen level has the pooled value.
"""

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from calibration.fit.priors import BOUNDS, POWER_BOUNDS, POWER_PRIORS, PRIORS, Prior
from sweep.engines.calibration_file import Calibration, setting
from sweep.engines.known import engine_of
from sweep.engines.traits import Traits
from sweep.errors import SpecError
from sweep.kernel.factors import FACTORS
from sweep.schema.intervals import POWER
from sweep.specs.parsing import nearest

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parameter:
    """One number of a fit, in logarithms.

    Attributes:
        factor: Name of the factor.
        trait: Trait of a deviation; empty for the pooled value.
        level: Level of the trait.
        centre: Mean of its prior.
        width: Standard deviation of its prior.
        free: Whether it is fitted; otherwise it remains at its centre.
    """

    factor: str
    trait: str
    level: str
    centre: float
    width: float
    free: bool = True

    @property
    def name(self) -> str:
        """Name of the parameter: `gemm`, `gemm[hardware=l40s]`."""
        return f"{self.factor}[{self.trait}={self.level}]" if self.trait else self.factor

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest permitted logarithm."""
        known = BOUNDS | POWER_BOUNDS
        if self.trait or self.factor not in known:
            return -np.inf, np.inf
        low, high = known[self.factor]
        return float(np.log(low)), float(np.log(high))


@dataclass(frozen=True)
class Design:
    """Map from the parameters to the factors of each row.

    Attributes:
        parameters: The parameters in order.
        factors: Names of the factors, in the order of the columns of `values`.
    """

    parameters: tuple[Parameter, ...]
    factors: tuple[str, ...]
    _matrices: tuple[Any, ...]
    _fixed: Array

    @cached_property
    def centres(self) -> Array:
        """Means of the priors."""
        return np.asarray([p.centre for p in self.parameters])

    @cached_property
    def widths(self) -> Array:
        """Standard deviations of the priors."""
        return np.asarray([p.width for p in self.parameters])

    @cached_property
    def free(self) -> Array:
        """Whether each parameter is fitted."""
        return np.asarray([p.free for p in self.parameters], bool)

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest logarithm of each parameter."""
        ends = np.asarray([p.bounds for p in self.parameters], float).reshape(-1, 2)
        return ends[:, 0], ends[:, 1]

    def values(self, vector: Array) -> Array:
        """Factors of each row for the parameters in `vector`, shape (rows, factors)."""
        values = self._fixed.copy()
        for column, matrix in enumerate(self._matrices):
            if matrix is not None:
                values[:, column] = np.exp(matrix @ vector)
        return values

    def slopes(self, values: Array, by_factor: Array) -> Any:
        """Derivatives by the parameters, from the derivatives `by_factor` by the factors."""
        rows, factors, columns, starts = self._entries
        by_logarithm = (by_factor * values)[rows, factors]
        shape = len(values), len(self.parameters)
        return sparse.csr_array((by_logarithm, columns, starts), shape=shape)

    @cached_property
    def _entries(self) -> tuple[Array, Array, Array, Array]:
        """Row, factor and parameter of each entry of `slopes`, and where each row begins."""
        found = [
            (*matrix.nonzero(), np.full(matrix.nnz, column))
            for column, matrix in enumerate(self._matrices)
            if matrix is not None
        ]
        rows, columns, factors = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((columns, rows))
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(self._fixed)))])
        return rows[order], factors[order], columns[order], starts


def design(
    rows: Sequence[Traits],
    *,
    priors: dict[str, Prior] = PRIORS,
    centres: dict[str, tuple[float, float]] | None = None,
    free: Sequence[str] = (),
) -> Design:
    """Create the parameters of a fit of `rows`.

    Args:
        rows: Traits of each row.
        priors: Factors to fit.
        centres: Mean and width of the priors of some parameters by name, which replace `priors`.
        free: Patterns of the parameters to vary, as `chosen` reads them; all if empty.

    Raises:
        SpecError: A pattern names no parameter, or a centre is outside the bounds of its factor.
    """
    parameters: list[Parameter] = []
    matrices: list[Any] = []
    fixed = np.ones((len(rows), len(FACTORS)))
    for column, factor in enumerate(FACTORS):
        if factor not in priors:
            fixed[:, column] = [
                setting(engine_of(row.engine).settings, factor, row.era) for row in rows
            ]
            matrices.append(None)
            continue
        first = len(parameters)
        prior = priors[factor]
        pooled = Parameter(factor, "", "", float(np.log(prior.typical)), prior.width)
        members = [(pooled, np.arange(len(rows)))]
        for trait, width in prior.deviations.items():
            levels = np.asarray([getattr(row, trait) for row in rows])
            for level in sorted(set(levels)):
                parameter = Parameter(factor, trait, str(level), 0.0, width)
                members.append((parameter, np.flatnonzero(levels == level)))
        parameters += [parameter for parameter, _ in members]
        indices = np.concatenate([where for _, where in members])
        columns = np.repeat(np.arange(len(members)) + first, [len(w) for _, w in members])
        matrices.append((indices, columns))
    count = len(parameters)
    built = [
        None
        if found is None
        else sparse.csr_array((np.ones(len(found[0])), found), shape=(len(rows), count))
        for found in matrices
    ]
    if centres:
        parameters = [_centred(parameter, centres) for parameter in parameters]
    if free:
        names = chosen(free, parameters)
        parameters = [dataclasses.replace(p, free=p.name in names) for p in parameters]
    return Design(tuple(parameters), FACTORS, tuple(built), fixed)


def priors_of(kinds: Collection[str]) -> dict[str, Prior]:
    """Factors to fit to rows of some kinds: those of power where rows measure it."""
    return PRIORS | POWER_PRIORS if POWER in kinds else PRIORS


def settings_of(
    rows: Sequence[Traits], engine: str, base: Calibration | None = None
) -> dict[str, dict[str, float]]:
    """Settings of a calibration fitted to `rows`, by factor and era.

    `default` is that of `engine`, or of the calibration that the fit starts from, and ideal where
    that has none; the eras of rows of other engines are written out.

    Args:
        rows: Traits of the rows.
        engine: Engine of the calibration.
        base: The calibration that the fit starts from.
    """
    owner = engine if base is None else base.engine
    known = engine_of(engine).settings if base is None else base.settings
    settings = {factor: dict(by_era) for factor, by_era in known.items()}
    for name, era in dict.fromkeys((row.engine, row.era) for row in rows):
        if name != owner:
            own = engine_of(name).settings
            for factor in {**settings, **own}:
                ideal = {"default": setting({}, factor, era)}
                settings.setdefault(factor, ideal)[era] = setting(own, factor, era)
    return settings


def chosen(patterns: Sequence[str], parameters: Sequence[Parameter]) -> set[str]:
    """Names of the parameters that match `patterns`.

    A factor's name means its pooled value and all its deviations, `gemm[]` the pooled value alone;
    `*` stands for any text, as in `weight_bandwidth[hardware=*]`.

    Raises:
        SpecError: A pattern matches no parameter.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = {p.name for p in parameters if _means(pattern, p)}
        if not names:
            raise SpecError(f"--free: {_no_such(pattern, parameters)}")
        found |= names
    return found


def split_patterns(given: Sequence[str]) -> list[str]:
    """Split texts at commas outside brackets into patterns.

    Raises:
        SpecError: The texts contain no pattern.
    """
    parts = [part for text in given for part in re.split(r",(?![^\[\]]*\])", text)]
    patterns = [part.strip() for part in parts if part.strip()]
    if given and not patterns:
        raise SpecError("--free: names no factor; leave it out to fit all")
    return patterns


def _means(pattern: str, parameter: Parameter) -> bool:
    whole = parameter.factor if "[" not in pattern else parameter.name
    if not parameter.trait and "[" in pattern:
        whole = f"{parameter.factor}[]"
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), whole) is not None


def _no_such(pattern: str, parameters: Sequence[Parameter]) -> str:
    factors = list(dict.fromkeys(p.factor for p in parameters))
    factor = pattern.partition("[")[0]
    if factor in factors:
        of_it = [p.name for p in parameters if p.factor == factor and p.trait]
        guess = nearest(pattern, of_it) or f"; it has {', '.join(of_it) or 'no deviations'}"
        return f"these rows have no {pattern!r}{guess:.300}"
    guess = nearest(factor, factors) or f"; known: {', '.join(factors)}"
    kind = "is a setting of the engine and is not fitted" if factor in FACTORS else "is no factor"
    return f"{factor!r} {kind}{guess}"


def _centred(parameter: Parameter, centres: dict[str, tuple[float, float]]) -> Parameter:
    if parameter.name not in centres:
        return parameter
    centre, width = centres[parameter.name]
    low, high = parameter.bounds
    if not low <= centre <= high or not np.isfinite(centre):
        raise SpecError(
            f"--calibration: {parameter.name} is {np.exp(centre):.4g}, and must be above 0 and "
            f"within {np.exp(low):.4g} to {np.exp(high):.4g} to start a fit"
        )
    return dataclasses.replace(parameter, centre=centre, width=width)
