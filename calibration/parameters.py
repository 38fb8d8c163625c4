"""What a fit may vary: factors, what they are expected to be, and how far groups may depart.

Every factor is fitted in logarithms: a pooled value, and a deviation for each level of some traits
of a row. A deviation has a prior of its own width, so that a level with few rows stays near the
pooled value, and one never seen has it.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from sweep.efficiency import FACTORS
from sweep.errors import SpecError
from sweep.fitted import setting
from sweep.specs import nearest
from sweep.traits import Traits

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prior:
    """What a factor is expected to be before any row is seen.

    Attributes:
        typical: Its value.
        width: Standard deviation of its logarithm. [1]
        deviations: Width of the deviations by each trait that it may depart by. [1]
    """

    typical: float
    width: float
    deviations: dict[str, float]


PRIORS: dict[str, Prior] = {
    "software": Prior(1.0, 0.02, {"version": 0.04}),
    "gemm": Prior(0.75, 0.3, {"architecture": 0.15, "hardware": 0.05, "dtype": 0.15, "era": 0.15}),
    "power_limit": Prior(0.33, 0.4, {}),
    "gemm_half_rows": Prior(20.0, 1.0, {"architecture": 0.4, "dtype": 0.4, "era": 0.4}),
    "expert_half_rows": Prior(20.0, 1.0, {"era": 0.5}),
    "expert_gemm": Prior(0.8, 0.3, {"era": 0.2, "hardware": 0.15, "dtype": 0.2}),
    "attention": Prior(0.5, 0.5, {"architecture": 0.2, "era": 0.3}),
    "weight_bandwidth": Prior(0.92, 0.05, {"hardware": 0.12, "era": 0.1}),
    "kv_bandwidth": Prior(0.9, 0.1, {"architecture": 0.15, "hardware": 0.05, "era": 0.3}),
    "kv_half_heads": Prior(30.0, 1.0, {"era": 0.7, "architecture": 0.5}),
    "activation_bandwidth": Prior(0.8, 0.5, {"era": 0.3}),
    "vector_attention": Prior(1.0, 1.5, {"decoding": 1.5, "attention": 0.4}),
    "link_bandwidth": Prior(0.7, 0.4, {"fabric": 0.3, "hardware": 0.05}),
    "exchange_overhead_s": Prior(8e-6, 0.7, {"fabric": 0.7, "hardware": 0.15, "era": 0.5}),
    "link_crowding": Prior(0.1, 1.0, {"fabric": 1.0}),
    "exchange_growth": Prior(0.5, 0.7, {"fabric": 0.7}),
    "unhidden": Prior(0.1, 1.0, {"era": 0.5, "architecture": 0.3}),
    "operator_overhead_s": Prior(4e-7, 0.4, {"era": 1.0, "hardware": 0.2}),
    "step_overhead_s": Prior(4e-4, 0.5, {"era": 1.0, "host": 0.7, "hardware": 1.0}),
    "sequence_overhead_s": Prior(5e-6, 0.5, {"era": 0.7, "host": 0.5}),
    "pipeline_sequence_overhead_s": Prior(4e-5, 0.5, {}),
    "expert_imbalance": Prior(1.1, 0.2, {"era": 0.2}),
    "pipeline_idle": Prior(0.02, 0.7, {}),
    "ramp": Prior(1.0, 0.3, {}),
}
"""Physical priors. Saturated rows alone do not tell fixed costs: about 6 µs for the dozen kernels
of a layer and 0.4 ms for a pass come from profiles of engines with CUDA graphs; plain copies reach
90 to 93 % of the memory bandwidth that a datasheet states. The widths were chosen by the errors of
refits without the configurations, models and accelerators predicted: hosts differ, links and
matrix units of different accelerators reach much the same share of their rates."""

SHARE = (0.02, 1.5)
"""A share above 1 says that the formula counts work the engine does not do; half as much again is
more than any kernel is known to save. Below a fiftieth something else binds."""
BOUNDS: dict[str, tuple[float, float]] = {
    "software": (0.5, 1.5),
    "gemm": SHARE,
    "power_limit": (1e-2, 1.0),
    "gemm_half_rows": (0.01, 1e4),
    "expert_half_rows": (0.01, 1e4),
    "expert_gemm": SHARE,
    "attention": SHARE,
    "weight_bandwidth": SHARE,
    "kv_bandwidth": SHARE,
    "kv_half_heads": (0.01, 1e4),
    "activation_bandwidth": SHARE,
    "vector_attention": (1e-3, 100.0),
    "link_bandwidth": SHARE,
    "link_crowding": (1e-3, 1.0),
    "exchange_overhead_s": (1e-8, 1e-2),
    "exchange_growth": (1e-2, 3.0),
    "unhidden": (1e-4, 1.0),
    "operator_overhead_s": (1e-9, 1e-4),
    "step_overhead_s": (1e-7, 0.1),
    "sequence_overhead_s": (1e-9, 1e-2),
    "pipeline_sequence_overhead_s": (1e-9, 1e-2),
    "expert_imbalance": (0.5, 8.0),
    "pipeline_idle": (1e-3, 1.0),
    "ramp": (0.2, 5.0),
}
"""Lowest and highest value that a pooled factor can have for physical reasons: parts of a whole lie
between 0 and 1, an overhead is longer than a cycle of the clock and shorter than a pass. An
imbalance of experts below 1 says that the layout's own is too high. Deviations are held by their
priors alone."""

SETTINGS: dict[str, dict[str, float]] = {
    "dispatch_everywhere": {"default": 1.0},
    "kept_context": {"default": 1.0},
    "reserved_memory_bytes": {"default": 2.5e9},
    "logit_copies": {"default": 1.0, "0.10": 5.0, "cpp-0.14": 5.0},
}
"""Habits of the engine that no slope tells, by era, else by default. Tokens are gathered
to be dispatched, the cache keeps what stands behind a window, and samplers kept several copies of
the logits until 0.15; the figures are those under which the rows of full caches fit best."""


@dataclass(frozen=True)
class Parameter:
    """One number of a fit, in logarithms.

    Attributes:
        factor: The factor it belongs to.
        trait: The trait whose level it is for, empty for the pooled value.
        level: The level.
        centre: Mean of its prior.
        width: Standard deviation of its prior.
        free: Whether it is fitted; otherwise it stays at its centre.
    """

    factor: str
    trait: str
    level: str
    centre: float
    width: float
    free: bool = True

    @property
    def name(self) -> str:
        """What it is called: `gemm`, `gemm[hardware=l40s]`."""
        return f"{self.factor}[{self.trait}={self.level}]" if self.trait else self.factor

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest logarithm that it may take."""
        if self.trait or self.factor not in BOUNDS:
            return -np.inf, np.inf
        low, high = BOUNDS[self.factor]
        return float(np.log(low)), float(np.log(high))


@dataclass(frozen=True)
class Design:
    """How parameters make up the factors of each row.

    Attributes:
        parameters: The parameters in order.
        factors: Names of the factors in the order of the columns of `values`.
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
        """Factors of each row under the parameters in `vector`."""
        values = self._fixed.copy()
        for column, matrix in enumerate(self._matrices):
            if matrix is not None:
                values[:, column] = np.exp(matrix @ vector)
        return values

    def slopes(self, values: Array, by_factor: Array) -> Any:
        """Derivatives by the parameters, of what has derivatives `by_factor` by the factors."""
        total = sparse.csr_array((len(values), len(self.parameters)))
        for column, matrix in enumerate(self._matrices):
            if matrix is not None:
                total = (
                    total + sparse.diags_array(by_factor[:, column] * values[:, column]) @ matrix
                )
        return total.tocsr()


def design(
    rows: Sequence[Traits],
    *,
    priors: dict[str, Prior] = PRIORS,
    centres: dict[str, tuple[float, float]] | None = None,
    free: Sequence[str] = (),
) -> Design:
    """Lay out the parameters of a fit of `rows`.

    Args:
        rows: Traits of each row.
        priors: Factors to fit.
        centres: Mean and width of the priors of some parameters by name, in place of those.
        free: Patterns of the parameters to vary, as `chosen` reads them; all if empty.

    Raises:
        SpecError: A pattern names no parameter, or a centre lies outside the factor's bounds.
    """
    parameters: list[Parameter] = []
    matrices: list[Any] = []
    fixed = np.ones((len(rows), len(FACTORS)))
    for column, factor in enumerate(FACTORS):
        if factor not in priors:
            fixed[:, column] = [setting(SETTINGS, factor, row.era) for row in rows]
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
        places = np.concatenate([where for _, where in members])
        columns = np.repeat(np.arange(len(members)) + first, [len(w) for _, w in members])
        matrices.append((places, columns))
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


def chosen(patterns: Sequence[str], parameters: Sequence[Parameter]) -> set[str]:
    """Names of the parameters that `patterns` mean.

    A factor's name means its pooled value and all its deviations, `gemm[]` the pooled value alone;
    `*` stands for any text, as in `weight_bandwidth[hardware=*]`.

    Raises:
        SpecError: A pattern means none of them.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = {p.name for p in parameters if _means(pattern, p)}
        if not names:
            raise SpecError(f"--free: {_no_such(pattern, parameters)}")
        found |= names
    return found


def split_patterns(given: Sequence[str]) -> list[str]:
    """Patterns one by one, of texts that join several by commas outside of brackets.

    Raises:
        SpecError: There are texts, and no pattern in them.
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
    kind = "is a setting of the engine and is not fitted" if factor in SETTINGS else "is no factor"
    return f"{factor!r} {kind}{guess}"


def _centred(parameter: Parameter, centres: dict[str, tuple[float, float]]) -> Parameter:
    if parameter.name not in centres:
        return parameter
    centre, width = centres[parameter.name]
    low, high = parameter.bounds
    if not low <= centre <= high or not np.isfinite(centre):
        raise SpecError(
            f"--from: {parameter.name} is {np.exp(centre):.4g}, and must be above 0 and within "
            f"{np.exp(low):.4g} to {np.exp(high):.4g} to start a fit"
        )
    return dataclasses.replace(parameter, centre=centre, width=width)
