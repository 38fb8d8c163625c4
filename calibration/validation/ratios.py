"""Shares of a half-width that remain in the ratio of two accelerators.

Two predictions for one model, engine and lengths share errors, which cancel in their ratio. Pairs
of published runs say how much remains: of the errors that each run would have had if its
configuration, its accelerator or its model had been left out of the fit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.half_widths import left_out_errors
from sweep.engines.prediction_interval import INTERVAL

FEWEST_PAIRS = 100
"""Pairs from which shares are computed. [count]"""

Pairs = tuple[Array, Array]
"""Indices of the first and of the second row of each pair."""


def ratio_shares(
    table: Table,
    fit: Fit,
    left_out: Array,
    halfwidths: Mapping[str, Mapping[str, float]],
    spread: Array,
    places: Array,
) -> dict[str, float]:
    """Shares of the usual half-width, and of what a new accelerator or model adds to it. [1]

    A share is the smallest with which the interval of the ratio contains 90 % of the pairs. Parts
    add up in squares. Empty for too few pairs.

    Args:
        table: The rows.
        fit: Fit of all rows.
        left_out: Logarithmic error of each row, had its configuration been left out. [1]
        halfwidths: Half-widths by scenario and kind of novelty. [1]
        spread: Relative error spread of each row. [1]
        places: Indices of the rows that count.
    """
    first, second = pairs(table, fit.predicted, places)
    if len(first) < FEWEST_PAIRS:
        return {}
    both = np.concatenate([first, second]), np.concatenate([second, first])
    scenarios = [row.scenario for row in table.rows]

    def widths(what: str) -> Array:
        known = [halfwidths.get(name, {}) for name in scenarios]
        seen: Array = np.asarray([each.get("seen", np.nan) for each in known]) * spread
        if what == "seen":
            return seen
        wide = np.asarray([each.get(what, np.nan) for each in known]) * spread
        added: Array = np.sqrt(np.maximum(wide**2 - seen**2, 0.0))
        return added

    usual = np.hypot(*(widths("seen")[rows] for rows in both))
    found = {"seen": _quantile(np.abs(left_out[both[0]] - left_out[both[1]]) / usual)}
    for what, label in (("unseen_hardware", "hardware"), ("unseen_model", "model")):
        errors, added = left_out_errors(fit, table.labels(label)), widths(what)
        # Of two accelerators one is new, a model is new to both.
        other, alone = (left_out, True) if label == "hardware" else (errors, False)
        parts = added[both[0]] if alone else np.hypot(added[both[0]], added[both[1]])
        differences = errors[both[0]] - other[both[1]]
        beyond = np.sqrt(np.maximum(differences**2 - (found["seen"] * usual) ** 2, 0.0))
        some = parts > 0
        found[what] = _quantile(beyond[some] / parts[some])
    return {what: round(share, 3) for what, share in found.items()}


def _quantile(sizes: Array) -> float:
    known = sizes[np.isfinite(sizes)]
    return float(np.quantile(known, INTERVAL)) if len(known) else 1.0


def pairs(table: Table, predicted: Array, places: Array) -> Pairs:
    """Pairs of runs on two accelerators that answer the same question.

    They have one engine and version, model, type of weights and lengths. Of each accelerator the
    run with the highest predicted throughput of a GPU counts, as in a recommendation.

    Args:
        table: The rows.
        predicted: Logarithm of the prediction of each row.
        places: Indices of the rows that count.
    """
    best: dict[tuple[object, ...], dict[str, int]] = defaultdict(dict)
    per_gpu = predicted - np.log([row.replica_gpus for row in table.rows])
    for place in _throughputs(table, places):
        row = table.rows[place]
        question = (
            *(row.engine, row.engine_version, row.scenario, row.model, row.isl, row.osl),
            table.traits[place].dtype,
        )
        known = best[question].get(row.hardware)
        if known is None or per_gpu[place] > per_gpu[known]:
            best[question][row.hardware] = int(place)
    found = [pair for each in best.values() for pair in combinations(each.values(), 2)]
    first, second = np.asarray(found, int).reshape(-1, 2).T
    return first, second


def _throughputs(table: Table, places: Array) -> Iterator[int]:
    for place in places:
        row = table.rows[place]
        measured = np.isfinite(table.measured[place])
        if row.metric == "output_throughput" and row.quality == "ok" and measured:
            yield int(place)
