"""Shares of a half-width that remain in the ratio of two accelerators.

Two predictions for one model, engine and lengths share errors, which cancel in their ratio. Pairs
of published runs say how much remains: of the errors that each run would have had if its
configuration, its accelerator or its model had been left out of the fit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.group_spreads import CAP, HELD, ROUNDS
from calibration.validation.half_widths import left_out_errors
from sweep.engines.prediction_interval import INTERVAL

FEWEST_PAIRS = 100
"""Pairs from which shares are computed. [count]"""

Pairs = tuple[Array, Array]
"""Indices of the first and of the second row of each pair."""


@dataclass(frozen=True)
class RatioErrors:
    """Shares of half-widths that remain in ratios.

    Attributes:
        shares: Of the usual half-width, and of what a new accelerator or model adds to it. [1]
        spreads: Width of the usual part of each accelerator, relative to the default. [1]
    """

    shares: dict[str, float] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)


def ratio_errors(
    table: Table,
    fit: Fit,
    left_out: Array,
    halfwidths: Mapping[str, Mapping[str, float]],
    spread: Array,
    indices: Array,
) -> RatioErrors:
    """Shares of half-widths that remain in ratios, by what is new, and their spread.

    A share is the smallest with which the interval of the ratio contains 90 % of the pairs. Parts
    add up in squares. Empty for too few pairs.

    Args:
        table: The rows.
        fit: Fit of all rows.
        left_out: Logarithmic error of each row, had its configuration been left out. [1]
        halfwidths: Half-widths by scenario and kind of novelty. [1]
        spread: Relative error spread of each row. [1]
        indices: Indices of the rows that count.
    """
    first, second = pairs(table, fit.predicted, indices)
    if len(first) < FEWEST_PAIRS:
        return RatioErrors()
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

    machines = table.labels("hardware")
    differences = np.abs(left_out[first] - left_out[second])
    spreads = pair_spreads(machines, (first, second), widths("seen"), differences)
    own = widths("seen") * np.asarray([spreads.get(str(name), 1.0) for name in machines])
    usual = np.hypot(*(own[rows] for rows in both))
    found = {"seen": _quantile(np.tile(differences, 2) / usual)}
    for what, label in (("unseen_hardware", "hardware"), ("unseen_model", "model")):
        errors, added = left_out_errors(fit, table.labels(label)), widths(what)
        # Of two accelerators one is new, without a spread of its own; a model is new to both.
        other, alone = (left_out, True) if label == "hardware" else (errors, False)
        parts = added[both[0]] if alone else np.hypot(added[both[0]], added[both[1]])
        within = np.hypot(widths("seen")[both[0]], own[both[1]]) if alone else usual
        beyond = np.sqrt(
            np.maximum((errors[both[0]] - other[both[1]]) ** 2 - (found["seen"] * within) ** 2, 0.0)
        )
        some = parts > 0
        found[what] = _quantile(beyond[some] / parts[some])
    return RatioErrors({what: round(share, 3) for what, share in found.items()}, spreads)


def pair_spreads(
    machines: Array, pair: Pairs, widths: Array, differences: Array
) -> dict[str, float]:
    """Width of ratios with each accelerator relative to the default, as `spreads` for single runs.

    Each accelerator is updated in turn until the mean difference of its pairs is what its own width
    and those of the others demand. Accelerators of few pairs remain near 1.

    Args:
        machines: Accelerator of each row.
        pair: Rows of each pair.
        widths: Usual half-width of each row. [1]
        differences: Size of the logarithmic error of the ratio of each pair. [1]
    """
    names, codes = np.unique(machines[np.concatenate(pair)], return_inverse=True)
    first, second = np.split(codes, 2)
    found = np.ones(len(names))
    own = [widths[rows] for rows in pair]
    known = np.isfinite(differences) & np.isfinite(own[0]) & np.isfinite(own[1])
    usual = np.mean(differences[known] / np.hypot(own[0][known], own[1][known]))
    for _ in range(ROUNDS if usual > 0 else 0):
        for code in range(len(names)):
            here = known & ((first == code) | (second == code))
            expected = np.hypot(found[first] * own[0], found[second] * own[1])[here] * usual
            excess = np.minimum(differences[here] / expected, CAP)
            # The pairs that are added ask for a width of 1.
            found[code] *= (excess.sum() + HELD / found[code]) / (here.sum() + HELD)
    return {str(name): round(float(v), 3) for name, v in zip(names, found, strict=True)}


def _quantile(sizes: Array) -> float:
    known = sizes[np.isfinite(sizes)]
    return float(np.quantile(known, INTERVAL)) if len(known) else 1.0


def pairs(table: Table, predicted: Array, indices: Array) -> Pairs:
    """Pairs of runs on two accelerators that answer the same question.

    They have one engine and version, model, type of weights and lengths. Of each accelerator the
    run with the highest predicted throughput of a GPU counts, as in a recommendation.

    Args:
        table: The rows.
        predicted: Logarithm of the prediction of each row.
        indices: Indices of the rows that count.
    """
    best: dict[tuple[object, ...], dict[str, int]] = defaultdict(dict)
    per_gpu = predicted - np.log([row.replica_gpus for row in table.rows])
    for index in _throughputs(table, indices):
        asked, name = question(table, index), table.rows[index].hardware
        known = best[asked].get(name)
        if known is None or per_gpu[index] > per_gpu[known]:
            best[asked][name] = index
    found = [pair for each in best.values() for pair in combinations(each.values(), 2)]
    first, second = np.asarray(found, int).reshape(-1, 2).T
    return first, second


def question(table: Table, index: int) -> tuple[object, ...]:
    """Everything that two runs must have in common for their accelerators to be compared."""
    row = table.rows[index]
    return (
        *(row.engine, row.engine_version, row.scenario, row.model, row.isl, row.osl),
        table.traits[index].dtype,
    )


def _throughputs(table: Table, indices: Array) -> Iterator[int]:
    for index in indices:
        row = table.rows[index]
        measured = np.isfinite(table.measured[index])
        if row.metric == "output_throughput" and row.quality == "ok" and measured:
            yield int(index)
