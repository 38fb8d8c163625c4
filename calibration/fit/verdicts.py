"""Verdicts on a fit: which factors the rows determine, alone or in combination, and which not.

The fit itself is in `solver`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.fit.parameters import Array, Parameter
from sweep.kernel.factors import FACTORS

if TYPE_CHECKING:
    from calibration.fit.solver import Fit

DETERMINED, UNDETERMINED = 0.5, 0.9
"""Error of a parameter, relative to the width of its prior, below which the rows determine it and
from which they leave it undetermined. [1]"""
SENSITIVE = 0.01
"""Derivative of the logarithm of a figure by that of a factor, below which the row does not
constrain the factor: re-runs differ by more, for any change that the prior permits. [1]"""
LOADING = 0.3
"""Loading from which a factor counts as part of a direction. [1]"""
NAMED = 3
"""Highest number of outliers listed by name. [count]"""
LEAST_SHARE = 0.05
"""Share of the information about a factor below which a kind of row is not listed. [1]"""
RESOURCES: dict[str, tuple[str, ...]] = {
    "memory": ("weight_bandwidth", "kv_bandwidth", "activation_bandwidth"),
    "compute": ("gemm", "attention", "vector_attention"),
    "communication": ("link_bandwidth", "exchange_overhead_s"),
    "overhead": ("operator_overhead_s", "step_overhead_s", "sequence_overhead_s"),
}
"""Factors whose derivatives add up to the share of time spent waiting for a resource."""


def verdicts(fit: "Fit") -> list[str]:
    """Verdict on each parameter.

    A parameter that was not free is `fixed`; one that no row is sensitive to is `undetermined`;
    one that ended at a bound is `at bound`, and its error means little. The others are
    `determined`, `prior-dominated` or `undetermined`, by their error relative to the width of
    their prior; one that the rows moved from its centre by more than that width is at least
    `prior-dominated`.
    """
    errors = np.sqrt(np.diag(fit.covariance))
    silent = sensitive_rows(fit) == 0
    moved = np.abs(fit.vector - fit.design.centres) > fit.design.widths
    return [
        _verdict(parameter, error, sensitive=not mute, at_bound=bool(stuck), moved=bool(far))
        for parameter, error, mute, stuck, far in zip(
            fit.design.parameters, errors, silent, fit.at_bound, moved, strict=True
        )
    ]


def _verdict(
    parameter: Parameter, error: float, *, sensitive: bool, at_bound: bool, moved: bool
) -> str:
    if not parameter.free:
        return "fixed"
    if not sensitive:
        return "undetermined"
    if at_bound:
        return "at bound"
    word = verdict(parameter, error)
    return "prior-dominated" if moved and word == "undetermined" else word


def verdict(parameter: Parameter, error: float) -> str:
    """Verdict on a free parameter by its error, relative to the width of its prior."""
    share = error / parameter.width
    if share < DETERMINED:
        return "determined"
    return "prior-dominated" if share < UNDETERMINED else "undetermined"


def sensitive_rows(fit: "Fit") -> Array:
    """Number of fitted rows that are sensitive to each parameter. [count]"""
    slopes = abs(fit.slopes[fit.fitted])
    found: Array = np.asarray((slopes >= SENSITIVE).sum(axis=0))
    return found


def drivers(fit: "Fit", kinds: Array) -> dict[str, dict[str, float]]:
    """Share of what the rows say about each factor that each kind of row says, most first. [1]

    The information of a row about a factor is the square of its weighed derivative by the
    factor's logarithm; its sum is what narrows the factor's prior. Kinds below a twentieth, and
    factors that no row is sensitive to, are left out.

    Args:
        fit: The fit.
        kinds: Kind of each row, fitted or not.
    """
    weighed = fit.sensitivities[fit.fitted] * fit.weights[:, None]
    information = np.where(np.isfinite(weighed), weighed, 0.0) ** 2
    of_kinds = kinds[fit.fitted]
    names = np.unique(of_kinds)
    sums = np.stack([information[of_kinds == name].sum(axis=0) for name in names])
    found = {}
    for parameter in fit.design.parameters:
        whole = sums[:, FACTORS.index(parameter.factor)]
        if parameter.trait or not whole.sum() > 0:
            continue
        shares = whole / whole.sum()
        order = [kind for kind in np.argsort(-shares) if shares[kind] >= LEAST_SHARE]
        found[parameter.factor] = {str(names[i]): round(float(shares[i]), 2) for i in order}
    return found


def regimes(fit: "Fit") -> Array:
    """Index in `RESOURCES` of the resource that each row waits for longest."""
    shares = [
        np.abs(fit.sensitivities[:, [FACTORS.index(name) for name in names]]).sum(axis=1)
        for names in RESOURCES.values()
    ]
    longest: Array = np.argmax(shares, axis=0).astype(np.int8)
    return longest


def rows_by_regime(fit: "Fit") -> dict[str, int]:
    """Number of fitted rows that wait longest for each resource. [count]"""
    binding = regimes(fit)[fit.fitted]
    return {name: int(np.sum(binding == index)) for index, name in enumerate(RESOURCES)}


def directions(fit: "Fit") -> tuple[list[str], Array, Array]:
    """Combinations of the pooled factors, from the least to the best constrained by the rows.

    The combinations are singular vectors of the derivatives, in units of the noise and of the
    widths of the priors, after projecting out what the deviations explain as well. A singular value
    s leaves 1/(1 + s²) of the variance of the prior.

    Returns:
        Names of the free pooled factors, singular values, and loadings, one row per direction.
    """
    pooled = [
        index
        for index, parameter in enumerate(fit.design.parameters)
        if parameter.free and not parameter.trait
    ]
    names = [fit.design.parameters[index].name for index in pooled]
    if not names:
        return names, np.empty(0), np.empty((0, 0))
    widths = fit.design.widths[pooled]
    left = fit.bend[np.ix_(pooled, pooled)] / np.outer(widths, widths)
    shares, vectors = np.linalg.eigh((left + left.T) / 2)
    shares, vectors = shares[::-1], vectors[:, ::-1]
    strongest = np.argmax(np.abs(vectors), axis=0)
    signs = np.sign(vectors[strongest, np.arange(len(names))])
    singular = np.sqrt(np.clip(1 / np.clip(shares, 1e-12, None) - 1, 0, None))
    return names, singular, (vectors * signs).T


def constrained_together(fit: "Fit") -> list[list[str]]:
    """Groups of pooled factors of which the rows constrain a combination, but no member alone."""
    names, singular, loadings = directions(fit)
    said = {
        parameter.name: word
        for parameter, word in zip(fit.design.parameters, verdicts(fit), strict=True)
    }
    groups: list[set[str]] = []
    for strength, loading in zip(singular[::-1], loadings[::-1], strict=True):
        if 1 / np.sqrt(1 + strength**2) >= DETERMINED:
            continue
        members = {
            name
            for name, share in zip(names, np.abs(loading), strict=True)
            if share >= LOADING and said[name] in ("prior-dominated", "undetermined")
        }
        if len(members) > 1 and not any(members <= group for group in groups):
            groups = [group for group in groups if not group < members] + [members]
    return [sorted(group, key=names.index) for group in groups]


def sentences(factors: dict[str, Any], provenance: dict[str, Any]) -> list[str]:
    """Summary of a fit in sentences.

    Args:
        factors: Figure of each pooled factor.
        provenance: Provenance of the calibration, of which `rows_waiting_longest_for`,
            `told_only_together` and `rows_set_aside` are read if present.
    """
    said = [_of_verdicts(factors)]
    bound = [name for name, figure in factors.items() if figure.verdict == "at bound"]
    if bound:
        said.append(f"at a physical bound: {', '.join(bound)}")
    said += [
        f"the data constrain only a combination of {_listed(group)}"
        for group in provenance.get("told_only_together", [])
    ]
    said += _of_set_aside([str(name) for name in provenance.get("rows_set_aside", [])])
    waits = provenance.get("rows_waiting_longest_for", {})
    if waits:
        counts = ", ".join(f"{name} in {count}" for name, count in waits.items())
        said.append(f"rows wait longest for {counts}")
    return said


def _of_set_aside(names: list[str]) -> list[str]:
    if not names:
        return []
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"excluded as outliers (more than 10 × the noise): {', '.join(names[:NAMED])}{rest}"]


def _of_verdicts(factors: dict[str, Any]) -> str:
    if all(figure.verdict == "fixed" for figure in factors.values()):
        return "no pooled factor was free"
    silent = [name for name, figure in factors.items() if figure.verdict == "undetermined"]
    if not silent:
        return "the rows constrain every pooled factor"
    return f"the rows do not determine {', '.join(silent)}: the value is essentially the prior"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
