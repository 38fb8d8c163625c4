"""Refits without a group of rows, and the errors of their predictions of it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from calibration.fit.forward import Forward
from calibration.fit.parameters import Array, Design, design
from calibration.fit.solver import Fit, solve
from calibration.fit.table import Table
from calibration.validation.conformal import conformal_halfwidth
from calibration.validation.group_spreads import groups_of, multiples, spreads
from calibration.validation.half_widths import by_scenario
from sweep.engines.versions import version_of

FOLDS = 10


def splits(table: Table, leave_out: str) -> Iterator[tuple[str, Array, Array]]:
    """Name, rows to fit and rows to predict of each split.

    `row` makes ten folds by configuration, so that all versions of a configuration are in one fold;
    `architecture` leaves out all models of the same sizes, `family` all of one `model_type`;
    `version` predicts each version from earlier ones.
    """
    places = np.arange(len(table.rows))
    if leave_out == "row":
        labels = table.labels("configuration")
        names = np.unique(labels)
        order = np.random.default_rng(0).permutation(len(names))
        fold = dict(zip(names[order], np.arange(len(names)) % FOLDS, strict=True))
        folds = np.asarray([fold[label] for label in labels])
        for number in range(FOLDS):
            yield f"fold {number + 1}", places[folds != number], places[folds == number]
        return
    labels = table.labels(leave_out)
    if leave_out == "version":
        versions = sorted(set(labels), key=version_of)
        for version in versions[1:]:
            earlier = np.asarray([version_of(label) < version_of(version) for label in labels])
            yield version, places[earlier], places[labels == version]
        return
    for name in np.unique(labels):
        if np.all(labels == name):
            continue
        yield str(name), places[labels != name], places[labels == name]


def held_out_errors(
    table: Table,
    leave_out: str,
    forward: Forward,
    layout: Design | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Logarithmic error of every row under a fit that did not see it; NaN without such a fit.

    Each fit has one start, the centres of the priors: others change few predictions, and there are
    dozens of fits.
    """
    layout = layout or design(table.traits)
    errors = np.full(len(table.rows), np.nan)
    usable = np.flatnonzero(np.isfinite(table.measured))
    all_splits = list(splits(table, leave_out))
    for number, (_, fitted, predicted) in enumerate(all_splits):
        if progress is not None:
            progress(number, len(all_splits))
        kept = np.intersect1d(fitted, usable)
        if len(kept) == 0:
            continue
        fit = fit_rows(table, forward, kept, layout)
        errors[predicted] = fit.errors[predicted]
    if progress is not None:
        progress(len(all_splits), len(all_splits))
    return errors


def fit_all(table: Table, forward: Forward) -> Fit:
    """Fit all rows of `table`, from the centres of the priors."""
    return fit_rows(table, forward, np.flatnonzero(np.isfinite(table.measured)))


def fit_rows(table: Table, forward: Forward, places: Array, layout: Design | None = None) -> Fit:
    """Fit the rows of `table` at some indices, from the centres of the priors."""
    return solve(
        forward,
        layout or design(table.traits),
        table.measured,
        places,
        table.weights,
        kinds=table.kinds,
        expected=table.expected_noise,
    )


def summary(errors: Array, measured: Array | None = None) -> dict[str, Any]:
    """Figures of merit of predictions.

    Args:
        errors: Logarithms of predicted over measured.
        measured: Logarithms of the measured figures, for the rank correlation.
    """
    known = errors[np.isfinite(errors)]
    if len(known) == 0:
        return {"rows": 0}
    relative = np.abs(np.expm1(known))
    found: dict[str, Any] = {
        "rows": len(known),
        "mape": float(relative.mean()),
        "median": float(np.median(relative)),
        "p90": float(np.quantile(relative, 0.9)),
        "bias": float(np.expm1(np.median(known))),
    }
    if measured is not None:
        rank = rank_correlation(errors, measured)
        found |= {"spearman": rank} if np.isfinite(rank) else {}
    return found


def rank_correlation(errors: Array, measured: Array) -> float:
    """Spearman's rank correlation of predicted and measured figures. [1]

    NaN for fewer than three rows, or if all are equal.
    """
    from scipy.stats import spearmanr

    known = np.isfinite(errors) & np.isfinite(measured)
    given = measured[known]
    if len(given) < 3 or np.ptp(given) == 0 or np.ptp(given + errors[known]) == 0:
        return float("nan")
    return float(spearmanr(given, given + errors[known]).statistic)


def interval_coverage(table: Table, errors: Array, leave_out: str) -> Array:
    """Whether the 90 % interval of each row contains its figure.

    The half-width and the relative spreads of a row come from held-out errors of the other groups
    of the same split in its scenario: other folds, models, accelerators or versions. Folds are
    exchangeable rows; other splits take the quantile over groups, since a new group may be unusual.
    """
    labels = np.full(len(errors), "", dtype=object)
    for name, _, predicted in splits(table, leave_out):
        labels[predicted] = name
    groups, known = groups_of(table), np.isfinite(errors)
    scenarios = np.asarray([row.kind for row in table.rows])
    covered = np.zeros(len(errors), bool)
    for name in dict.fromkeys(labels[known]):
        others = np.where(labels != name, errors, np.nan)
        usual = multiples(spreads(groups, scenarios, others), groups)
        for where in by_scenario(table).values():
            inside = where[known[where] & (labels[where] == name)]
            judges = (others if np.isfinite(others[where]).any() else errors)[where] / usual[where]
            of_others = labels[where] if leave_out != "row" else None
            width = conformal_halfwidth(judges, of_others)
            covered[inside] = np.abs(errors[inside]) <= width * usual[inside]
    return covered
