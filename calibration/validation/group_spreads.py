"""Relative error spread by accelerator, model, expert type, version, requests and GPUs."""

from collections.abc import Mapping

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.table import Table
from calibration.validation.conformal import conformal_halfwidth
from calibration.validation.ranged import ranged_numbers
from sweep.engines.calibration_checks import SPREADS
from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import bands

HELD = 20.0
"""Rows of mean error added to each group, which pull small groups towards 1. [count]"""
ROUNDS = 30
"""Passes through all groupings. [count]"""
FOLDS = 10
"""Parts into which configurations are divided. [count]"""
CAP = 5.0
"""Highest multiple of the expected error that one row counts with. [1]"""

Spreads = Mapping[str, Mapping[str, float]]


def groups_of(table: Table) -> dict[str, Array]:
    """Labels of each row by accelerator, model, expert type, version, requests and GPUs."""
    numbers = ranged_numbers(table, held=False)
    return {
        **bands({name: numbers[name] for name in ("batch_size", "concurrency", "gpus")}),
        "hardware": table.labels("hardware"),
        "model": table.labels("model"),
        "experts": table.labels("experts"),
        "version": np.asarray([trait.version for trait in table.traits]),
    }


def spreads(
    groups: Mapping[str, Array], kinds: Array, errors: Array
) -> dict[str, dict[str, float]]:
    """Mean absolute error of each group relative to its kind, as a product over groupings.

    Each grouping is updated in turn until they agree (raking). Groups of few rows remain near 1.

    Args:
        groups: Labels of each row, by grouping.
        kinds: Kind of each row, within which errors are compared.
        errors: Logarithmic errors of rows that a fit had not seen, NaN where there are none.
    """
    known = np.flatnonzero(np.isfinite(errors))
    sizes, kind_of = np.abs(errors[known]), kinds[known]
    relative = np.ones(len(known))
    for kind in np.unique(kind_of):
        mean = sizes[kind_of == kind].mean()
        relative[kind_of == kind] = sizes[kind_of == kind] / mean if mean > 0 else 1.0
    indices = {by: np.unique(labels[known], return_inverse=True) for by, labels in groups.items()}
    found = {by: np.ones(len(names)) for by, (names, _) in indices.items()}
    product = np.ones(len(known))
    for _ in range(ROUNDS):
        for by, (names, index) in indices.items():
            own = found[by][index]
            # Relative to all other groupings.
            excess = np.minimum(relative * own / product, CAP)
            summed = np.bincount(index, excess, len(names))
            found[by] = (summed + HELD) / (np.bincount(index, minlength=len(names)) + HELD)
            product = product * found[by][index] / own
    return {
        by: {str(name): round(float(v), 3) for name, v in zip(names, found[by], strict=True)}
        for by, (names, _) in indices.items()
    }


def crossed_multiples(
    groups: Mapping[str, Array], kinds: Array, errors: Array, labels: Array
) -> Array:
    """Error spread of each row relative to the default, by spreads of the rows of other labels. [1]

    Spreads follow the errors that they come from, most where rows are few: a quantile of errors
    over spreads that know them is too small for errors that they do not know. So a row is judged
    as one of its label will be, by spreads without it [1]; its label is then an unknown group.

    Args:
        groups: Labels of each row, by grouping.
        kinds: Kind of each row, within which errors are compared.
        errors: Logarithmic errors of rows that a fit had not seen, NaN where there are none.
        labels: Label of each row.

    References:
        [1] Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence
            74, 2015.
    """
    found = np.ones(len(errors))
    for name in np.unique(labels):
        own = labels == name
        others = np.where(own, np.nan, errors)
        if np.isfinite(others).any():
            found[own] = multiples(spreads(groups, kinds, others), groups)[own]
    return found


def folds(labels: Array) -> Array:
    """Number of the fold that each row is in; rows of one label are in one. [count]"""
    names, label = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    numbers: Array = (np.argsort(order) % FOLDS)[label]
    return numbers


def widened(
    known: Calibration, groups: Mapping[str, Array], scenarios: Array, errors: Array
) -> dict[str, dict[str, float]]:
    """Spreads of `known`, with versions as wide as rows that it has not seen demand.

    A fit that starts from a calibration keeps its half-widths. Where the errors of the new rows
    exceed these, the spread of their version grows until it contains 90 % of them; of fewer than
    ten rows, all, but never beyond `SPREADS`. It never shrinks: a few rows that agree say little.

    Args:
        known: The calibration that the fit starts from.
        groups: Labels of each row, by grouping.
        scenarios: Scenario of each row.
        errors: Logarithmic errors of the rows, each predicted by a fit without its configuration.
    """
    found = {by: dict(levels) for by, levels in known.spreads.items()}
    seen = {scenario: widths["seen"] for scenario, widths in known.halfwidths.items()}
    judged = np.isin(scenarios, list(seen)) & np.isfinite(errors)
    if not judged.any():
        return found
    expected = multiples(known.spreads, groups)
    expected = expected * np.asarray([seen.get(str(name), 1.0) for name in scenarios])
    versions = found.setdefault("version", {})
    for name in np.unique(groups["version"][judged]):
        where = judged & (groups["version"] == name)
        excess = conformal_halfwidth(errors[where] / expected[where])
        spread = versions.get(str(name), 1.0) * max(excess, 1.0)
        versions[str(name)] = round(min(spread, SPREADS[1]), 3)
    return found


def multiples(found: Spreads, groups: Mapping[str, Array]) -> Array:
    """Error spread of each row relative to the default; 1 for an unknown group. [1]

    Args:
        found: Spreads by grouping and group.
        groups: Labels of each row, by grouping.
    """
    product = np.ones(len(next(iter(groups.values()))))
    for by, labels in groups.items():
        known = found.get(by, {})
        product = product * np.asarray([known.get(str(label), 1.0) for label in labels])
    return product
