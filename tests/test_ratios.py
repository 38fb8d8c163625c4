"""Errors that two accelerators share, as a fit measures them, on tables made by hand."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.sparse import csr_array

from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.quoted_errors import quoted_errors
from calibration.validation.ranged import most_gpus
from calibration.validation.ratios import pairs, ratio_shares


def row(hardware: str, model: str = "m", **more: Any) -> SimpleNamespace:
    usual = {"engine": "e", "engine_version": "1", "scenario": "inflight", "isl": 1, "osl": 1}
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
    found = ratio_shares(table(rows), fit_of(errors), errors, widths, ones, places)
    # A difference of two own errors is normal with √2·0.05, and 90 % are within 1.645 of it.
    assert found["seen"] == pytest.approx(1.645 * 0.05 / 0.34, rel=0.1)
    assert found["unseen_model"] == pytest.approx(0.0, abs=0.05)
    inside = np.abs(own[0] - own[1]) <= found["seen"] * 0.34 * np.sqrt(2)
    assert 0.85 <= inside.mean() <= 0.95


def test_few_pairs_say_nothing() -> None:
    rows = [row("a"), row("b")]
    places, errors = np.arange(2), np.zeros(2)
    assert ratio_shares(table(rows), fit_of(errors), errors, {}, errors, places) == {}


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
