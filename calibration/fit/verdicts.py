"""What the rows of a fit say of each factor, of factors together, and nothing of.

What a fit found is the business of `solver`; here it is judged.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.fit.parameters import Array, Parameter
from sweep.kernel.factors import FACTORS

if TYPE_CHECKING:
    from calibration.fit.solver import Fit

DETERMINED, UNDETERMINED = 0.5, 0.9
"""Error of a parameter over the width of its prior, below which the rows determine it and above
which they say next to nothing. [1]"""
SENSITIVE = 0.01
"""Change of a row's figure with a factor, logarithm by logarithm, below which the row says nothing
of the factor: less than a re-run differs by, for any change that a prior allows. [1]"""
LOADING = 0.3
"""Share of a direction from which on a factor counts as part of it. [1]"""

NAMED = 3
"""Rows that are named where there may be many. [count]"""
RESOURCES: dict[str, tuple[str, ...]] = {
    "memory": ("weight_bandwidth", "kv_bandwidth", "activation_bandwidth"),
    "compute": ("gemm", "attention", "vector_attention"),
    "communication": ("link_bandwidth", "exchange_overhead_s"),
    "overhead": ("operator_overhead_s", "step_overhead_s", "sequence_overhead_s"),
}
"""Factors whose slopes add up to the share of a figure's time that a resource is waited for."""


def verdicts(fit: "Fit") -> list[str]:
    """What the rows say of each parameter.

    A parameter that was not free is `fixed`; one that no row is sensitive to is `undetermined`;
    one that ended at the edge of its physical range is `at bound`, and its error says little. Of
    the others, the share of the prior's width that is left says which: `determined`,
    `prior-dominated` or `undetermined`.
    """
    errors = np.sqrt(np.diag(fit.covariance))
    silent = sensitive_rows(fit) == 0
    return [
        _verdict(parameter, error, told=not mute, at_bound=bool(stuck))
        for parameter, error, mute, stuck in zip(
            fit.design.parameters, errors, silent, fit.at_bound, strict=True
        )
    ]


def _verdict(parameter: Parameter, error: float, *, told: bool, at_bound: bool) -> str:
    if not parameter.free:
        return "fixed"
    if not told:
        return "undetermined"
    return "at bound" if at_bound else verdict(parameter, error)


def verdict(parameter: Parameter, error: float) -> str:
    """What an error says of a free parameter, by how much narrower than its prior it became."""
    share = error / parameter.width
    if share < DETERMINED:
        return "determined"
    return "prior-dominated" if share < UNDETERMINED else "undetermined"


def sensitive_rows(fit: "Fit") -> Array:
    """Fitted rows that say something of each parameter. [count]"""
    slopes = np.abs(fit.slopes[fit.fitted].toarray())
    found: Array = (slopes >= SENSITIVE).sum(axis=0)
    return found


def regimes(fit: "Fit") -> Array:
    """The resource of `RESOURCES` that each row waits for longest, by its place."""
    shares = [
        np.abs(fit.sensitivities[:, [FACTORS.index(name) for name in names]]).sum(axis=1)
        for names in RESOURCES.values()
    ]
    longest: Array = np.argmax(shares, axis=0).astype(np.int8)
    return longest


def rows_by_regime(fit: "Fit") -> dict[str, int]:
    """Fitted rows that wait longest for each resource. [count]"""
    places = regimes(fit)[fit.fitted]
    return {name: int(np.sum(places == place)) for place, name in enumerate(RESOURCES)}


def directions(fit: "Fit") -> tuple[list[str], Array, Array]:
    """Combinations of the pooled factors, from what the rows tell least to what they tell best.

    With the slopes in units of the noise and of the widths of the priors, and the part that the
    deviations explain as well taken out, the singular vectors are combinations that the rows tell
    apart; a singular value s leaves 1/(1 + s²) of the prior's variance.

    Returns:
        Names of the free pooled factors, singular values, and loadings, one row per direction.
    """
    pooled = [
        place
        for place, parameter in enumerate(fit.design.parameters)
        if parameter.free and not parameter.trait
    ]
    names = [fit.design.parameters[place].name for place in pooled]
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


def told_together(fit: "Fit") -> list[list[str]]:
    """Groups of pooled factors of which the rows tell a combination, but no member alone."""
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
    """What a fit's rows say, and do not, in words.

    Args:
        factors: Figure of each pooled factor.
        provenance: Of the fit; its `rows_waiting_longest_for`, `told_only_together` and
            `rows_set_aside` are read if there.
    """
    said = [_of_verdicts(factors)]
    bound = [name for name, figure in factors.items() if figure.verdict == "at bound"]
    if bound:
        said.append(f"at the edge of what is physical: {', '.join(bound)}")
    said += [
        f"the rows tell {_listed(group)} only together"
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
    return [f"set aside as wildly off: {', '.join(names[:NAMED])}{rest}"]


def _of_verdicts(factors: dict[str, Any]) -> str:
    if all(figure.verdict == "fixed" for figure in factors.values()):
        return "no pooled factor was free"
    silent = [name for name, figure in factors.items() if figure.verdict == "undetermined"]
    if not silent:
        return "the rows say something of every pooled factor"
    return (
        f"the rows do not determine {', '.join(silent)}: what stands there is little but the prior"
    )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
