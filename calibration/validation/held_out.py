"""Refits without a group of rows, and the errors of their predictions of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.fit.forward import Forward
from calibration.fit.parameters import Array, Design, design, priors_of
from calibration.fit.solver import Fit, solve
from calibration.fit.table import Table
from calibration.validation.conformal import conformal_halfwidth
from calibration.validation.group_spreads import (
    FOLDS,
    crossed_multiples,
    folds,
    groups_of,
    multiples,
    spreads,
)
from calibration.validation.half_widths import by_scenario, left_out_errors
from calibration.validation.intervals import interval_parts
from calibration.validation.predictions import interval_halfwidths
from sweep.engines.calibration_file import Calibration
from sweep.engines.versions import version_order


def splits(table: Table, leave_out: str) -> Iterator[tuple[str, Array, Array]]:
    """Name, rows to fit and rows to predict of each split.

    `row` makes ten folds by configuration, so that all versions of a configuration are in one fold;
    `half` predicts each half of the configurations of served runs from the other, see `half_of`;
    `architecture` leaves out all models of the same sizes, `family` all of one `model_type`;
    `version` predicts each version of an engine from earlier ones, and from the other engines.
    """
    indices = np.arange(len(table.rows))
    if leave_out == "row":
        fold = folds(table.labels("configuration"))
        for number in range(FOLDS):
            yield f"fold {number + 1}", indices[fold != number], indices[fold == number]
        return
    if leave_out == "half":
        halves = table.labels("half")
        for name in ("odd", "even"):
            if np.any(halves == name):
                yield name, indices[halves != name], indices[halves == name]
        return
    if leave_out == "version":
        yield from _later_versions(table)
        return
    labels = table.labels(leave_out)
    for name in np.unique(labels):
        if np.all(labels == name):
            continue
        yield str(name), indices[labels != name], indices[labels == name]


def _later_versions(table: Table) -> Iterator[tuple[str, Array, Array]]:
    """Splits by versions of each engine; those of the other engines are fitted."""
    indices = np.arange(len(table.rows))
    engines = np.asarray([row.engine for row in table.rows])
    versions = np.asarray([row.engine_version for row in table.rows])
    several = len(np.unique(engines)) > 1
    for engine in np.unique(engines).tolist():
        own = engines == engine
        order = sorted(set(versions[own]), key=version_order)
        for number, version in enumerate(order[1:], 1):
            later = own & np.isin(versions, order[number:])
            name = f"{engine} {version}" if several else version
            yield name, indices[~later], indices[own & (versions == version)]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of rows by fits that had not seen them.

    Attributes:
        errors: Logarithm of predicted over measured of each row, NaN where none was made.
        halfwidths: Half of the 90 % interval of each logarithm, NaN where there is none. [1]
    """

    errors: Array
    halfwidths: Array

    @property
    def covered(self) -> Array:
        """Whether the interval of each row contains its figure."""
        inside: Array = np.abs(self.errors) <= self.halfwidths
        return inside


class Refits:
    """Fits of some of the rows of a table, which share the compiled kernels and the points.

    Each without a group starts from the centres of the priors.

    Attributes:
        table: The rows.
        forward: Their kernels.
        layout: The parameters.
        start_from: The calibration whose factors are the priors and whose intervals are kept.
        usable: Indices of the rows that have a figure.
    """

    def __init__(
        self,
        table: Table,
        forward: Forward,
        layout: Design | None = None,
        start_from: Calibration | None = None,
    ) -> None:
        """Fit nothing yet; parameters are those of the traits of the rows if not given."""
        self.table, self.forward, self.start_from = table, forward, start_from
        self.layout = layout or design(table.traits, priors=priors_of(table.figures))
        self.usable = np.flatnonzero(np.isfinite(table.measured))

    def fit(self, indices: Array, *, starts: int = 1) -> Fit:
        """Fit the rows at some indices.

        Args:
            indices: Indices of the rows.
            starts: Points to start from: the priors' centres, and draws from the priors. [count]
        """
        table = self.table
        return solve(
            self.forward,
            self.layout,
            table.measured,
            indices,
            table.weights,
            starts=starts,
            kinds=table.kinds,
            expected=table.expected_noise,
        )

    def without(
        self, leave_out: str, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[str, Array, Fit]]:
        """Name, rows to predict and fit of each split that leaves rows to fit.

        Args:
            leave_out: Kind of group, see `splits`.
            progress: Called with the number of splits done and of all.
        """
        every = list(splits(self.table, leave_out))
        for number, (name, fitted, predicted) in enumerate(every):
            if progress is not None:
                progress(number, len(every))
            indices = np.intersect1d(fitted, self.usable)
            if len(indices):
                yield name, predicted, self.fit(indices)
        if progress is not None:
            progress(len(every), len(every))


def held_out(
    refits: Refits, leave_out: str, progress: Callable[[int, int], None] | None = None
) -> HeldOut:
    """Predict every row by a fit, with intervals, that did not see its group.

    A row left out has no residual, and is no part of the noise, of the half-widths or of what
    counts as seen.

    Args:
        refits: Fits of the rows.
        leave_out: Kind of group, see `splits`.
        progress: Called with the number of splits done and of all.
    """
    errors, halfwidths = np.full((2, len(refits.table.rows)), np.nan)
    for _, predicted, fit in refits.without(leave_out, progress):
        errors[predicted] = fit.errors[predicted]
        halfwidths[predicted] = halfwidths_of_unseen(
            refits.table, fit, predicted, refits.start_from
        )
    return HeldOut(errors, halfwidths)


def halfwidths_of_unseen(
    table: Table, fit: Fit, predicted: Array, start_from: Calibration | None = None
) -> Array:
    """Half-widths of rows that a fit has not seen, by calibrations that it would make. [1]

    Each engine has the intervals of its own rows, as in the calibrations of a joint fit; a row of
    an engine without fitted rows has none.

    Args:
        table: The rows.
        fit: The fit.
        predicted: Indices of the rows.
        start_from: The calibration that the fit starts from.
    """
    engines = np.asarray([row.engine for row in table.rows])
    left_out = left_out_errors(fit, table.labels("configuration"))
    found = np.full(len(table.rows), np.nan)
    for engine in np.unique(engines[predicted]).tolist():
        indices = fit.fitted[engines[fit.fitted] == engine]
        if len(indices) == 0:
            continue
        parts = interval_parts(table, fit, left_out, indices, start_from)
        made = Calibration(name=engine, engine=engine, **parts)
        own = engines == engine
        found[own] = interval_halfwidths(table, made)[0][own]
    return found[predicted]


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
    """Whether the 90 % interval of each row contains its figure, where one fit is linearised.

    The half-width and the relative spreads of a row come from held-out errors of the other groups
    of the same split in its scenario: other folds, models, accelerators or versions. These errors
    are compared by spreads that do not know their group either. Folds are exchangeable rows; other
    splits take the quantile over groups, since a new group may be unusual.
    """
    labels = np.full(len(errors), "", dtype=object)
    for name, _, predicted in splits(table, leave_out):
        labels[predicted] = name
    groups, known = groups_of(table), np.isfinite(errors)
    scenarios = np.asarray([row.kind for row in table.rows])
    compared = errors / crossed_multiples(groups, scenarios, errors, labels)
    covered = np.zeros(len(errors), bool)
    for name in dict.fromkeys(labels[known]):
        others = known & (labels != name)
        usual = multiples(spreads(groups, scenarios, np.where(others, errors, np.nan)), groups)
        for where in by_scenario(table).values():
            inside = where[known[where] & (labels[where] == name)]
            judges = where[others[where]] if others[where].any() else where
            of_others = labels[judges] if leave_out != "row" else None
            width = conformal_halfwidth(compared[judges], of_others)
            covered[inside] = np.abs(errors[inside]) <= width * usual[inside]
    return covered
