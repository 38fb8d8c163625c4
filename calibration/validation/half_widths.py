"""Half-widths of intervals, from errors of rows that a fit had not seen, and ranges of the rows."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.conformal import conformal_halfwidth
from calibration.validation.group_spreads import folds
from calibration.validation.ranged import ranged_numbers
from sweep.engines.prediction_interval import RANGED, WIDEST

END = 0.1
"""Share of the rows of a scenario, at least, that represents values outside the range. [1]"""
UNSEEN_LABELS = {
    "unseen_hardware": "hardware",
    "unseen_model": "model",
    "unseen_family": "family",
}
"""Groups to leave out of a fit to measure its errors on unseen ones."""

Ranges = dict[str, dict[str, list[float]]]


def left_out_errors(fit: Fit, labels: Array) -> Array:
    """Logarithmic errors of the rows of each group, had the fit not seen the group.

    Linearised at the minimum: with H the influence of the measurements of a group on its own
    predictions, its errors become (I − H)⁻¹ times themselves. That is up to thousands of times a
    part of them which is 0 at the minimum itself, where a whole accelerator or model is left out;
    so they start from the errors there, not from those where the search ended. Rows with an empty
    label keep their errors.
    """
    errors = fit.errors.copy()
    slopes = fit.slopes[fit.fitted]
    names, group = np.unique(labels[fit.fitted], return_inverse=True)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=len(names)))
    for name, members in zip(names, np.split(order, ends[:-1]), strict=True):
        if name == "":
            continue
        indices = fit.fitted[members]
        own, weights = slopes[members].toarray(), fit.weights[members] ** 2
        errors[indices] = _without(own, fit.bend, weights, fit.settled[indices])
    return errors


def _without(slopes: Array, bend: Array, weights: Array, errors: Array) -> Array:
    """Errors of a group of rows, had the fit not seen it.

    With slopes S, weights W and the inverse B of the second derivatives, H = S B Sᵀ W. Of more rows
    than parameters, (I − H)⁻¹ = I + S (I − B Sᵀ W S)⁻¹ B Sᵀ W [1] takes the smaller matrix.

    Args:
        slopes: Derivatives by the parameters, shape (rows, parameters).
        bend: Inverse of the second derivatives of the cost of the fit.
        weights: Weight of the squared error of each row. [1]
        errors: Logarithmic errors of the rows at the minimum of the fit. [1]

    References:
        [1] Woodbury, "Inverting modified matrices", Princeton University, 1950.
    """
    rows, parameters = slopes.shape
    if rows <= parameters:
        influence = slopes @ bend @ slopes.T * weights
        return np.asarray(np.linalg.solve(np.eye(rows) - influence, errors))
    gain = bend @ (slopes.T * weights)
    moved = np.linalg.solve(np.eye(parameters) - gain @ slopes, gain @ errors)
    return np.asarray(errors + slopes @ moved)


def by_scenario(table: Table, indices: Array | None = None) -> dict[str, Array]:
    """Indices of the rows of each scenario, or kind; of those at `indices` if given."""
    kept = np.arange(len(table.rows)) if indices is None else indices
    scenarios = np.asarray([table.rows[index].kind for index in kept])
    return {str(name): kept[scenarios == name] for name in np.unique(scenarios)}


def certain(table: Table, indices: Array) -> Array:
    """Those of the rows at `indices` that are not in doubt; all if all are."""
    kept = np.asarray([index for index in indices if table.rows[index].quality == "ok"], int)
    return kept if len(kept) else indices


def halfwidths(
    table: Table,
    fit: Fit,
    known: Mapping[str, Mapping[str, float]] | None = None,
    usual_of: Callable[[Array], Array] | None = None,
    *,
    indices: Array | None = None,
) -> dict[str, dict[str, float]]:
    """Half-widths by scenario and kind of novelty that contain 90 % of the rows left out.

    `seen` leaves out the configuration of a row, `unseen_model` its model, and so on. Values
    outside a range are represented by the tenth of the rows at either end of it, predicted from the
    others in the linearised fit, whose errors are a tenth smaller than those of refits, at worst a
    quarter. The distance from the range makes no difference: of the shipped rows, prompts of two to
    ten times the longest other were predicted no worse than the rest. Unseen cases never get
    narrower intervals than seen ones, and none are wider than `WIDEST`. Doubtful rows do not count.

    Args:
        table: The rows.
        fit: Fit of all rows.
        known: Half-widths by scenario that are kept.
        usual_of: Error spread of each row relative to the default, by what is known without rows of
            its label; half-widths are for a spread of 1.
        indices: Indices of the rows that count; all if not given.
    """
    found = {scenario: dict(widths) for scenario, widths in (known or {}).items()}
    of = usual_of or (lambda labels: np.ones(len(labels)))
    configurations = table.labels("configuration")
    usual = of(folds(configurations))
    whole = {"seen": left_out_errors(fit, configurations) / usual}
    of_groups: dict[str, Array] = {}
    for what, label in UNSEEN_LABELS.items():
        labels = table.labels(label)
        if len(np.unique(labels)) > 1:
            whole[what] = left_out_errors(fit, labels) / of(labels)
            of_groups[what] = labels
    numbers = ranged_numbers(table, held=True)
    for scenario, every in by_scenario(table, indices).items():
        if scenario in found:
            continue
        where = certain(table, every)
        errors = {what: values[where] for what, values in whole.items()}
        for what in dict.fromkeys(RANGED.values()):
            beyond = [
                (left_out_errors(fit, labels) / usual)[labels == "end"]
                for name, values in numbers.items()
                if RANGED[name] == what
                for labels in _ends(values, where)
            ]
            if beyond:
                errors[what] = np.concatenate(beyond)
        widths = {
            what: conformal_halfwidth(values, of_groups[what][where] if what in of_groups else None)
            for what, values in errors.items()
        }
        found[scenario] = {
            what: round(min(max(width, widths["seen"]), WIDEST), 4)
            for what, width in widths.items()
            if np.isfinite(width)
        }
    return found


def _ends(values: Array, where: Array) -> Iterator[Array]:
    """Labels that mark as `end` the rows at one end of a range, for each end.

    The outermost values that make up a tenth of the rows. An end is skipped if it has more than
    half of the rows, or if its value is 1, below which there is nothing.
    """
    given = values[where]
    known = np.sort(given[np.isfinite(given)])
    if len(known) == 0 or known[0] == known[-1]:
        return
    count = int(np.ceil(END * len(known)))
    for outer in (
        values >= known[-count],
        (values <= known[count - 1]) if known[0] > 1 else np.zeros(len(values), bool),
    ):
        inside = np.zeros(len(values), bool)
        inside[where] = outer[where]
        if 0 < inside.sum() <= len(known) / 2:
            yield np.where(inside, "end", "")


def ranges(
    table: Table, known: Mapping[str, Mapping[str, list[float]]], *, indices: Array | None = None
) -> Ranges:
    """Lowest and highest of the numbers in the rows, extended by the ranges in `known`."""
    numbers = ranged_numbers(table, held=True)
    found: Ranges = {scenario: dict(spans) for scenario, spans in known.items()}
    for scenario, where in by_scenario(table, indices).items():
        spans = found.setdefault(scenario, {})
        for name, values in numbers.items():
            inside = values[where][np.isfinite(values[where])]
            if len(inside):
                low, high = spans.get(name, [np.inf, 0.0])
                spans[name] = [min(low, float(inside.min())), max(high, float(inside.max()))]
    return found
