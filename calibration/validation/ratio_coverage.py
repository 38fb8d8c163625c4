"""Coverage of the intervals of ratios, by pairs of runs whose shares come from other pairs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.group_spreads import crossed_multiples, folds, groups_of, multiples
from calibration.validation.half_widths import certain, left_out_errors
from calibration.validation.intervals import interval_parts
from calibration.validation.ratios import FEWEST_PAIRS, RatioErrors, pairs, question, ratio_errors


class Outcomes(NamedTuple):
    """Pairs of one engine whose ratios were predicted without what they judge.

    Attributes:
        hardware: Accelerators of each pair, shape (2, pairs); the first is new if one is.
        inside: Whether the interval of the ratio contains the measured one.
    """

    hardware: Array
    inside: Array


def ratio_coverage(table: Table, fit: Fit) -> list[dict[str, Any]]:
    """Coverage of 90 % intervals of ratios by engine, by what is left out and by accelerator.

    Where the question is left out, both runs are predicted without their configurations, and shares
    come from the other half of the questions. Where an accelerator is left out, its run is
    predicted without any of its runs, and shares come from pairs of others. All fits are one,
    linearised at its optimum. Engines with fewer than `FEWEST_PAIRS` pairs have no shares of their
    own and are left out.

    Args:
        table: The rows.
        fit: Fit of all rows.

    Returns:
        One row for each accelerator, and one for `all`, with `pairs` and `covered`.
    """
    engines = np.asarray([row.engine for row in table.rows])
    found = []
    for engine in np.unique(engines).tolist():
        indices = np.flatnonzero(engines == engine)
        if len(pairs(table, fit.predicted, indices)[0]) < FEWEST_PAIRS:
            continue
        judged = _Engine(table, fit, indices)
        for what, outcomes in (
            ("question", judged.without_their_question()),
            ("accelerator", judged.without_an_accelerator()),
        ):
            named = {"engine": engine, "leave_out": what}
            found += [
                named | row for row in _by_hardware(list(outcomes), new=what == "accelerator")
            ]
    return found


def _by_hardware(outcomes: list[Outcomes], *, new: bool) -> Iterator[dict[str, Any]]:
    hardware = np.concatenate([each.hardware for each in outcomes], axis=1)
    inside = np.concatenate([each.inside for each in outcomes])
    judged = hardware[:1] if new else hardware
    for name in (*np.unique(judged).tolist(), "all"):
        where = (judged == name).any(0) | (name == "all")
        yield {
            "hardware": name,
            "pairs": int(where.sum()),
            "covered": float(inside[where].mean()),
        }


class _Engine:
    """Errors and half-widths of the rows of one engine."""

    def __init__(self, table: Table, fit: Fit, indices: Array) -> None:
        self._table, self._fit, self._places = table, fit, indices
        self._machines = table.labels("hardware")
        self._known = left_out_errors(fit, table.labels("configuration"))
        self._new = left_out_errors(fit, self._machines)
        parts = interval_parts(table, fit, self._known, indices)
        self._halfwidths, groups = parts["halfwidths"], groups_of(table)
        self._usual = multiples(parts["spreads"], groups)
        own = {by: labels[indices] for by, labels in groups.items()}
        kinds = np.asarray([table.rows[index].kind for index in indices])
        sure = np.isin(indices, certain(table, indices))
        errors = np.where(sure, self._known[indices], np.nan)
        # An accelerator that no row has is an unknown group to the spreads.
        self._usual_if_new = np.ones(len(table.rows))
        self._usual_if_new[indices] = crossed_multiples(own, kinds, errors, self._machines[indices])

    def without_their_question(self) -> Iterator[Outcomes]:
        """Pairs of each half of the questions, by shares of the other half."""
        questions = np.asarray([repr(question(self._table, index)) for index in self._places])
        half = folds(questions) % 2
        for number in (0, 1):
            first, second = pairs(self._table, self._fit.predicted, self._places[half == number])
            found = self._shares(self._places[half != number])
            widths = [self._seen(rows, found) for rows in (first, second)]
            yield self._outcomes(first, second, self._known[first], np.hypot(*widths))

    def without_an_accelerator(self) -> Iterator[Outcomes]:
        """Pairs with each accelerator, by shares of pairs of the others."""
        own = self._machines[self._places]
        every = np.stack(pairs(self._table, self._fit.predicted, self._places))
        for name in np.unique(own):
            having = every[:, (self._machines[every] == name).any(0)]
            if not having.size:
                continue
            swapped = self._machines[having[0]] != name
            first, second = np.where(swapped, having[::-1], having)
            found = self._shares(self._places[own != name])
            widths = self._unseen(first, found), self._seen(second, found)
            yield self._outcomes(first, second, self._new[first], np.hypot(*widths))

    def _shares(self, indices: Array) -> RatioErrors:
        return ratio_errors(
            self._table, self._fit, self._known, self._halfwidths, self._usual, indices
        )

    def _outcomes(self, first: Array, second: Array, errors: Array, widths: Array) -> Outcomes:
        """Pairs by the errors of the first rows; those of the second leave their own out."""
        inside = np.abs(errors - self._known[second]) <= widths
        return Outcomes(np.stack([self._machines[first], self._machines[second]]), inside)

    def _seen(self, rows: Array, found: RatioErrors) -> Array:
        spreads = np.asarray([found.spreads.get(str(n), 1.0) for n in self._machines[rows]])
        usual = self._widths(rows, "seen") * self._usual[rows]
        return np.asarray(found.shares.get("seen", 1.0) * spreads * usual)

    def _unseen(self, rows: Array, found: RatioErrors) -> Array:
        seen, wide = (self._widths(rows, what) for what in ("seen", "unseen_hardware"))
        added = np.sqrt(np.maximum(wide**2 - seen**2, 0.0))
        parts = (("seen", seen), ("unseen_hardware", added))
        shares = [found.shares.get(what, 1.0) * part for what, part in parts]
        return np.asarray(np.hypot(*shares) * self._usual_if_new[rows])

    def _widths(self, rows: Array, what: str) -> Array:
        kinds = [self._table.rows[row].scenario for row in rows]
        return np.asarray([self._halfwidths[kind][what] for kind in kinds])
