"""How wide intervals must be: errors of rows that a fit had not seen, and the ranges it saw."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from calibration.fit.forward import predict
from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.group_spreads import Spreads, groups_of, multiples
from sweep.engines.prediction_interval import INTERVAL, RANGED

END = 0.1
"""Share of the rows of a scenario, at least, that stand for what lies beyond the others. [1]"""
ENOUGH = 10
"""Rows that a group needs to say how far 90 % of them reach. [count]"""
UNSEEN_LABELS = {
    "unseen_hardware": "hardware",
    "unseen_model": "model",
    "unseen_family": "family",
}
"""What must be left out of a fit to know how far off it is where it is new."""

Ranges = dict[str, dict[str, list[float]]]


def left_out_errors(fit: Fit, labels: Array) -> Array:
    """Logarithmic errors of the rows of each group, had the fit not seen the group.

    By the straight lines through the optimum: with H the influence of a group's measurements on
    its own predictions, its errors grow to (I − H)⁻¹ of what they are. Rows whose label is empty
    stay as they are.
    """
    errors = fit.errors.copy()
    slopes = fit.slopes[fit.fitted].toarray()
    groups = labels[fit.fitted]
    for name in np.unique(groups):
        if name == "":
            continue
        members = np.flatnonzero(groups == name)
        own = slopes[members]
        influence = own @ fit.bend @ own.T * fit.weights[members] ** 2
        places = fit.fitted[members]
        errors[places] = np.linalg.solve(np.eye(len(members)) - influence, fit.errors[places])
    return errors


def by_scenario(table: Table) -> dict[str, Array]:
    """Places of the rows of each scenario."""
    scenarios = np.asarray([row.scenario for row in table.rows])
    return {str(name): np.flatnonzero(scenarios == name) for name in np.unique(scenarios)}


def conformal_halfwidth(errors: Array, labels: Array | None = None) -> float:
    """Half-width that would have held 90 % of rows with these errors; infinite for no rows.

    The quantile of the absolute errors, one further than the share of n + 1 rows. Of groups it
    would have held 90 % in nine of ten, counted likewise: what is new is one more group.

    Args:
        errors: Logarithmic errors, NaN where there are none.
        labels: The group of each row; groups of too few rows do not count, unless all are.
    """
    sizes = np.abs(errors[np.isfinite(errors)])
    if len(sizes) == 0:
        return np.inf
    if labels is not None:
        of_sizes = labels[np.isfinite(errors)]
        groups = [sizes[of_sizes == name] for name in np.unique(of_sizes)]
        widths = [conformal_halfwidth(group) for group in groups if len(group) >= ENOUGH]
        sizes = np.asarray(widths) if widths else sizes
    share = min(np.ceil((len(sizes) + 1) * INTERVAL) / len(sizes), 1.0)
    return float(np.quantile(sizes, share))


def halfwidths(
    table: Table,
    fit: Fit,
    known: Mapping[str, Mapping[str, float]] | None = None,
    spread: Spreads | None = None,
) -> dict[str, dict[str, float]]:
    """Half-widths that would have held 90 % of the rows, each predicted without its own kind.

    `seen` leaves its configuration out, `unseen_model` its model, and so on. For what lies beyond a
    range of numbers stand the tenth of the rows at either end of it, predicted from the others, by
    straight lines that fall short of true refits by a tenth, at worst by a quarter.
    How far beyond makes no difference: of the shipped rows, prompts of two to ten times the
    longest other were predicted no worse than the rest. Nothing new is held to be surer than the
    seen.

    Args:
        table: The rows.
        fit: What was found with all of them.
        known: Half-widths by scenario that stay as they are.
        spread: How much wider errors are by group; half-widths are of a group of 1.
    """
    found = {scenario: dict(widths) for scenario, widths in (known or {}).items()}
    groups = groups_of(table)
    usual = multiples(spread or {}, groups)
    whole = {"seen": left_out_errors(fit, table.labels("configuration")) / usual}
    of_groups: dict[str, Array] = {}
    for what, label in UNSEEN_LABELS.items():
        labels = table.labels(label)
        if len(np.unique(labels)) > 1:
            whole[what] = left_out_errors(fit, labels) / usual
            of_groups[what] = labels
    numbers = ranged_numbers(table, held=True)
    for scenario, where in by_scenario(table).items():
        if scenario in found:
            continue
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
            what: round(max(width, widths["seen"]), 4)
            for what, width in widths.items()
            if np.isfinite(width)
        }
    return found


def _ends(values: Array, where: Array) -> Iterator[Array]:
    """Labels that mark as `end` the rows at one end of a range, for each end.

    As many of the outermost values as make up a tenth of the rows; none where that is half of
    them, or where nothing can lie beyond because the end is a single one.
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


def ranged_numbers(table: Table, *, held: bool) -> dict[str, Array]:
    """The numbers of `RANGED` of every row, NaN where it has none. [count]

    Args:
        table: The rows.
        held: Whether the requests in flight are those the kernel holds, or those a row states.
    """

    def column(name: str) -> Array:
        values = [getattr(row, name) for row in table.rows]
        return np.asarray([np.nan if value is None else value for value in values], float)

    inflight = np.asarray([row.scenario == "inflight" for row in table.rows])
    gpus = np.asarray([row.replica_gpus for row in table.rows], float)
    return {
        "batch_size": np.where(inflight, np.nan, column("batch_size")),
        "concurrency": np.where(inflight, _held(table) if held else column("concurrency"), np.nan),
        "isl": column("isl"),
        "osl": np.asarray([np.nan if r.scenario == "first_token" else r.osl for r in table.rows]),
        "gpus": gpus,
    }


def _held(table: Table) -> Array:
    groups = [dataclasses.replace(g, variable="inflight_concurrency") for g in table.groups]
    return np.round(predict(groups))


def ranges(table: Table, known: Mapping[str, Mapping[str, list[float]]]) -> Ranges:
    """Lowest and highest of the numbers that the rows hold, together with those `known`."""
    numbers = ranged_numbers(table, held=True)
    found: Ranges = {scenario: dict(spans) for scenario, spans in known.items()}
    for scenario, where in by_scenario(table).items():
        spans = found.setdefault(scenario, {})
        for name, values in numbers.items():
            inside = values[where][np.isfinite(values[where])]
            if len(inside):
                low, high = spans.get(name, [np.inf, 0.0])
                spans[name] = [min(low, float(inside.min())), max(high, float(inside.max()))]
    return found
