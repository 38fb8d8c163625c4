"""Errors that two accelerators share, as a fit measures them, on tables made by hand."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import erf

from calibration.fit.noise import NOISE, Data
from calibration.fit.solver import Fit, _Problem
from calibration.fit.table import Table
from calibration.validation.half_widths import left_out_errors
from calibration.validation.quoted_errors import quoted_errors
from calibration.validation.ranged import most_gpus
from calibration.validation.ratio_coverage import ratio_coverage
from calibration.validation.ratios import RatioErrors, pair_spreads, pairs, ratio_errors


def row(hardware: str, model: str = "m", **more: Any) -> SimpleNamespace:
    usual = {"engine": "e", "engine_version": "1", "scenario": "inflight", "isl": 1, "osl": 1}
    usual |= {"kind": "inflight", "configuration": f"{hardware} {model}"}
    usual |= {"metric": "output_throughput", "quality": "ok", "replica_gpus": 1}
    return SimpleNamespace(**{**usual, "hardware": hardware, "model": model, **more})


def table(rows: list[SimpleNamespace]) -> Table:
    def labels(by: str) -> np.ndarray[Any, Any]:
        return np.asarray([getattr(each, by) for each in rows])

    made = SimpleNamespace(
        rows=rows,
        traits=[SimpleNamespace(dtype=getattr(each, "dtype", "half")) for each in rows],
        measured=np.zeros(len(rows)),
        labels=labels,
    )
    return cast("Table", made)


def fit_of(errors: np.ndarray[Any, Any]) -> Fit:
    """A fit that no row influences: leaving rows out changes no error."""
    count = len(errors)
    made = SimpleNamespace(
        errors=errors,
        settled=errors,
        predicted=errors,
        fitted=np.arange(count),
        slopes=csr_array((count, 1)),
        bend=np.zeros((1, 1)),
        weights=np.ones(count),
    )
    return cast("Fit", made)


def test_pairs_answer_the_same_question_at_their_best() -> None:
    rows = [
        row("a"),
        row("a", replica_gpus=2),
        row("b"),
        row("b", isl=2),
        row("b", dtype="fp8"),
        row("b", engine_version="2"),
        row("c", quality="doubtful"),
        row("c", metric="ttft"),
    ]
    # Twice the throughput on two GPUs is the same on each; a little more is better.
    predicted = np.log([1.0, 2.1, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0])
    first, second = pairs(table(rows), predicted, np.arange(len(rows)))
    assert (first.tolist(), second.tolist()) == ([1], [2])


def test_errors_of_a_model_cancel_and_those_of_an_accelerator_remain() -> None:
    rng, count = np.random.default_rng(0), 400
    shared = rng.normal(0, 0.2, count)
    own = rng.normal(0, 0.05, (2, count))
    rows = [row(name, model=f"m{n}") for n in range(count) for name in ("a", "b")]
    errors = (shared + own).T.ravel()
    widths = {"inflight": {"seen": 0.34, "unseen_hardware": 0.5, "unseen_model": 0.5}}
    places = np.arange(len(rows))
    ones = np.ones(len(rows))
    found = ratio_errors(table(rows), fit_of(errors), errors, widths, ones, places).shares
    # A difference of two own errors is normal with √2·0.05, and 90 % are within 1.645 of it.
    assert found["seen"] == pytest.approx(1.645 * 0.05 / 0.34, rel=0.1)
    assert found["unseen_model"] == pytest.approx(0.0, abs=0.05)
    inside = np.abs(own[0] - own[1]) <= found["seen"] * 0.34 * np.sqrt(2)
    assert 0.85 <= inside.mean() <= 0.95


def test_few_pairs_say_nothing() -> None:
    rows = [row("a"), row("b")]
    places, errors = np.arange(2), np.zeros(2)
    assert ratio_errors(table(rows), fit_of(errors), errors, {}, errors, places) == RatioErrors()


def test_an_accelerator_whose_ratios_err_more_has_wider_ones_and_each_is_covered() -> None:
    rng, count = np.random.default_rng(1), 600
    sizes = {"a": 0.05, "b": 0.05, "c": 0.2}
    own = np.stack([rng.normal(0, size, count) for size in sizes.values()])
    machines = np.repeat(list(sizes), count)
    numbers = np.arange(count)
    chosen = [(0, 1), (0, 2), (1, 2)]
    first, second = (
        np.concatenate([pair[side] * count + numbers for pair in chosen]) for side in (0, 1)
    )
    errors, widths = own.ravel(), np.full(3 * count, 0.1)
    differences = np.abs(errors[first] - errors[second])
    found = pair_spreads(machines, (first, second), widths, differences)
    assert found["c"] / found["a"] == pytest.approx(4, rel=0.3)
    assert found["c"] / found["b"] == pytest.approx(4, rel=0.3)
    spread = np.asarray([found[name] for name in machines]) * widths
    within = differences / np.hypot(spread[first], spread[second])
    share = np.quantile(within, 0.9)
    for name in sizes:
        of_name = (machines[first] == name) | (machines[second] == name)
        assert 0.85 <= np.mean(within[of_name] <= share) <= 0.95


def test_an_accelerator_of_few_pairs_keeps_the_usual_width() -> None:
    machines = np.repeat(["a", "b", "c"], 100)
    first, second = np.append(np.arange(100), 0), np.append(np.arange(100, 200), 200)
    differences = np.append(np.full(100, 0.1), 1.0)
    found = pair_spreads(machines, (first, second), np.full(300, 0.1), differences)
    assert 1 < found["c"] < 1.3


def test_spreads_and_shares_do_not_depend_on_the_order_of_rows() -> None:
    rng, count = np.random.default_rng(2), 150
    rows = [row(name, model=f"m{n}") for n in range(count) for name in ("a", "b", "c")]
    errors = rng.normal(0, 0.1, len(rows))
    widths = {"inflight": {"seen": 0.3, "unseen_hardware": 0.5, "unseen_model": 0.5}}
    order = rng.permutation(len(rows))
    one, other = (
        ratio_errors(
            table([rows[k] for k in places]),
            fit_of(errors[places]),
            errors[places],
            widths,
            np.ones(len(rows)),
            np.arange(len(rows)),
        )
        for places in (np.arange(len(rows)), order)
    )
    assert one.shares == pytest.approx(other.shares, abs=2e-3)
    assert one.spreads == pytest.approx(other.spreads, abs=2e-3)


def test_errors_of_a_left_out_group_do_not_depend_on_where_the_search_ended() -> None:
    """A linear model in which one parameter is of group `g` alone, against a fit without it."""
    rng, count = np.random.default_rng(3), 60
    labels = np.where(np.arange(count) < 20, "g", "others")
    matrix = np.column_stack([np.ones(count), rng.normal(size=count), labels == "g"])
    widths = np.asarray([1.0, 1.0, 10.0])
    truth = np.asarray([0.2, -0.1, 0.5])
    measured = matrix @ truth + rng.normal(0, 1e-4, count)

    def least(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        own = matrix[rows] / NOISE
        normal = own.T @ own + np.diag(widths**-2)
        return np.asarray(np.linalg.solve(normal, own.T @ measured[rows] / NOISE))

    class Linear:
        def log_figures(self, values: np.ndarray[Any, Any]) -> Any:
            return (matrix * np.log(values)).sum(axis=1), matrix / values

    layout = SimpleNamespace(
        free=np.ones(3, bool),
        centres=np.zeros(3),
        widths=widths,
        values=lambda vector: np.tile(np.exp(vector), (count, 1)),
        slopes=lambda values, by_factor: csr_array(values * by_factor),
    )
    everything = np.arange(count)
    data = Data(everything, measured, np.ones(count), np.full(count, NOISE), {})
    problem = _Problem(cast("Any", Linear()), cast("Any", layout), measured, data, min)
    known = labels == "g"
    wanted = (matrix @ least(np.flatnonzero(~known)) - measured)[known]
    for distance in (0.0, 1e-3):
        fit = problem.fit_at(least(np.arange(count)) + distance, costs=(), evaluations=1)
        found = left_out_errors(fit, np.where(known, "g", ""))
        np.testing.assert_allclose(found[known], wanted, atol=0.01)


def test_quoted_errors_by_hand() -> None:
    rows = [row("a"), row("a", quality="doubtful"), row("b", replica_gpus=4)]
    errors = np.log([1.1, 9.0, 0.8])
    without = {"model": np.log([1.2, 9.0, 0.6]), "hardware": np.log([1.5, 9.0, 0.5])}
    found = quoted_errors(table(rows), np.arange(3), errors, without)
    assert found["model"]["m"] == {
        "rows": 2,
        "own_configuration_left_out": 0.15,
        "left_out": 0.3,
    }
    assert found["hardware"]["b"]["left_out"] == 0.5
    assert most_gpus(table(rows), {"inflight": {"a": 2.0}}, np.arange(3)) == {
        "inflight": {"a": 2.0, "b": 4.0}
    }


def test_coverage_is_of_pairs_that_gave_no_share(monkeypatch) -> None:
    """Errors of `c` are four times as wide: known by its pairs, unknown where it is left out."""
    rng, count = np.random.default_rng(3), 400
    sizes = {"a": 0.05, "b": 0.05, "c": 0.2}
    rows = [row(name, model=f"m{n}") for n in range(count) for name in sizes]
    shared = rng.normal(0, 0.2, count)
    errors = np.concatenate([[of + rng.normal(0, s) for s in sizes.values()] for of in shared])
    widths = {"inflight": {"seen": 0.34, "unseen_hardware": 0.34, "unseen_model": 0.34}}
    room = "calibration.validation.ratio_coverage"
    parts = {"halfwidths": widths, "spreads": {}}
    monkeypatch.setattr(f"{room}.interval_parts", lambda *_: parts)
    monkeypatch.setattr(f"{room}.groups_of", lambda made: {"model": made.labels("model")})
    found = ratio_coverage(table(rows), fit_of(errors))
    covered = {(each["leave_out"], each["hardware"]): each["covered"] for each in found}
    pairs_of = {(each["leave_out"], each["hardware"]): each["pairs"] for each in found}
    assert pairs_of["question", "all"] == pairs_of["accelerator", "all"] // 2 == 3 * count
    assert pairs_of["question", "c"] == pairs_of["accelerator", "c"] == 2 * count
    for name in ("all", *sizes):
        assert 0.85 <= covered["question", name] <= 0.95
    # Without c, the share is 1.645·√2·0.05 over √2 widths; an error of c alone is 0.2 wide.
    inside = erf(1.645 * np.hypot(0.05, 0.05) / np.hypot(0.05, 0.2) / np.sqrt(2))
    assert covered["accelerator", "c"] == pytest.approx(inside, abs=0.05)
    assert covered["accelerator", "a"] > 0.9


def test_engines_with_few_pairs_are_left_out() -> None:
    errors = np.zeros(2)
    assert ratio_coverage(table([row("a"), row("b")]), fit_of(errors)) == []
