"""Refits without a group of rows: nothing of the group reaches them, and they share the kernels."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner
from factories import shipped

from calibration.calibrate import calibrate
from calibration.cli.main import cli
from calibration.cli.options import read_table
from calibration.fit.forward import Forward
from calibration.fit.parameters import Design, design
from calibration.fit.solver import Fit, _possible
from calibration.fit.table import Table, tabulate
from calibration.measurements.table import Measurement, read_measurements, without_suspects
from calibration.validation.half_widths import left_out_errors
from calibration.validation.held_out import Refits, halfwidths_of_unseen, held_out, splits
from calibration.validation.order import order
from sweep.errors import SpecError
from sweep.kernel.factors import FACTORS

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b")
MACHINES = ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb")
COLUMNS = "id,engine,engine_version,scenario,model,hardware,tp,weight_dtype,isl,osl,metric,value"


@cache
def table() -> Table:
    """In-flight rows of dense Llamas on three accelerators: one kernel."""
    rows, _ = without_suspects(read_measurements("tensorrt-llm"))
    kept = [row for row in rows if row.model in MODELS and row.hardware in MACHINES]
    kept = [row for row in kept if row.scenario == "inflight" and row.engine_version >= "0.11"]
    return tabulate(kept[::12], shipped())


@cache
def forward() -> Forward:
    return Forward(table().groups, FACTORS)


def without(machine: str, given: Table) -> tuple[Fit, np.ndarray]:
    """A fit of all rows but those of an accelerator, and the indices of these."""
    rows = np.flatnonzero(given.labels("hardware") == machine)
    kept = np.setdiff1d(np.arange(len(given.rows)), rows)
    return Refits(given, forward()).fit(kept), rows


@pytest.mark.slow
def test_rows_left_out_of_a_shared_kernel_are_as_good_as_absent() -> None:
    fit, rows = without("h200-sxm-141gb", table())
    absent = set(rows.tolist())
    fewer = tabulate([r for i, r in enumerate(table().rows) if i not in absent], shipped())
    kernel = Forward(fewer.groups, FACTORS)
    places = np.arange(len(fewer.rows))
    alone = Refits(fewer, kernel).fit(places)
    found = dict(zip((p.name for p in fit.design.parameters), fit.vector, strict=True))
    for parameter, value in zip(alone.design.parameters, alone.vector, strict=True):
        assert found.pop(parameter.name) == pytest.approx(value, abs=1e-6), parameter.name
    # Levels that only the rows left out have remain at the centres of their priors.
    assert all(value == 0 for value in found.values())
    assert fit.noise == pytest.approx(alone.noise, rel=1e-6)


@pytest.mark.slow
def test_what_was_measured_of_the_rows_left_out_changes_neither_prediction_nor_interval() -> None:
    fit, rows = without("a100-sxm-80gb", table())
    other = table().measured.copy()
    other[rows] += np.linspace(-2, 2, len(rows))
    changed = dataclasses.replace(table(), measured=other)
    again, _ = without("a100-sxm-80gb", changed)
    np.testing.assert_array_equal(again.predicted, fit.predicted)
    widths = halfwidths_of_unseen(table(), fit, rows)
    np.testing.assert_array_equal(halfwidths_of_unseen(changed, again, rows), widths)
    assert np.isfinite(widths).all()
    # An accelerator that no row has is no surer than those that were seen.
    seen = halfwidths_of_unseen(table(), fit, fit.fitted)
    assert np.median(widths) >= np.median(seen)


@pytest.mark.slow
def test_each_accelerator_is_predicted_by_the_fit_without_it() -> None:
    found = held_out(Refits(table(), forward()), "hardware")
    fit, rows = without("h100-sxm-80gb", table())
    np.testing.assert_allclose(found.errors[rows], fit.errors[rows], atol=1e-9)
    np.testing.assert_allclose(found.halfwidths[rows], halfwidths_of_unseen(table(), fit, rows))
    inside = np.abs(found.errors) <= found.halfwidths
    np.testing.assert_array_equal(found.covered, inside)


@pytest.mark.slow
def test_one_fit_to_linearise_is_the_one_that_is_kept_as_a_calibration(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    lines = [",".join(str(getattr(r, name)) for name in COLUMNS.split(",")) for r in table().rows]
    mine.write_text("\n".join([COLUMNS, *lines]), encoding="utf-8")
    given, _ = read_table([str(mine)], "", (), ())
    kept = calibrate(given, name="mine").calibration.provenance
    # The best of its starts is not the first, which refits have.
    assert min(kept["costs_of_starts"]) < kept["costs_of_starts"][0]
    words = ["validate", str(mine), "--linearised", "--leave-out", "row", "--json"]
    said = CliRunner().invoke(cli, words, catch_exceptions=False).output
    (found,) = json.loads(said[said.index("[") :])
    expected = kept["errors_without_own_configuration"]["inflight"]
    for name in ("mape", "median"):
        assert found["groups"][-1][name] == pytest.approx(expected[name], abs=1e-4), name


@pytest.mark.slow
def test_errors_without_a_group_are_the_same_by_rows_and_by_parameters() -> None:
    fit, _ = without("h200-sxm-141gb", table())
    rows = len(fit.fitted)
    assert rows > 20
    # With one parameter a group has more rows than parameters, with a parameter a row fewer.
    slopes, labels = fit.slopes.toarray(), np.full(len(table().rows), "all")
    for count in (1, 5, slopes.shape[1]):
        own = slopes[fit.fitted][:, :count]
        curvature = (own * fit.weights[:, None] ** 2).T @ own + 0.5 * np.eye(count)
        bend = np.linalg.inv(curvature)
        few = dataclasses.replace(fit, slopes=_sparse(slopes[:, :count]), bend=bend)
        # The measurements of a group move its own predictions by H, and theirs cancel.
        influence = own @ bend @ own.T * fit.weights**2
        expected = np.linalg.solve(np.eye(rows) - influence, fit.settled[fit.fitted])
        got = left_out_errors(few, labels)[fit.fitted]
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)


def _sparse(dense: np.ndarray) -> object:
    from scipy.sparse import csr_array

    return csr_array(dense)


@pytest.mark.slow
def test_derivatives_by_parameters_are_those_of_small_steps() -> None:
    layout = design(table().traits)
    here, step = layout.centres, 1e-5
    values = layout.values(here)
    _, by_factor = forward().log_figures(values)
    slopes = layout.slopes(values, by_factor).toarray()
    random = np.random.default_rng(0)
    for place in random.choice(len(here), 12, replace=False):
        ends = []
        for sign in (1, -1):
            moved = here.copy()
            moved[place] += sign * step
            ends.append(forward().log_figures(layout.values(moved))[0])
        expected = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(slopes[:, place], expected, rtol=1e-4, atol=1e-6)


def row(engine: str, version: str) -> Measurement:
    return Measurement(
        id=f"{engine} {version}",
        engine=engine,
        engine_version=version,
        scenario="inflight",
        model="llama-3.1-8b",
        hardware="h100-sxm-80gb",
        isl=1000,
        osl=1000,
        metric="output_throughput",
    )


def test_versions_of_an_engine_are_predicted_with_all_of_the_others() -> None:
    names = [("tensorrt-llm", "0.10.0"), ("vllm", "0.9.0"), ("tensorrt-llm", "0.9.0")]
    names += [("vllm", "0.10.0"), ("vllm", "0.19.0"), ("sglang", "0.5.0")]
    given = tabulate([row(*name) for name in names], shipped())
    found = {name: (a.tolist(), b.tolist()) for name, a, b in splits(given, "version")}
    assert found == {
        "tensorrt-llm 0.10.0": ([1, 2, 3, 4, 5], [0]),
        "vllm 0.10.0": ([0, 1, 2, 5], [3]),
        "vllm 0.19.0": ([0, 1, 2, 3, 5], [4]),
    }


def test_the_faster_accelerator_is_named_or_not_by_hand() -> None:
    machines = ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb")
    rows = [
        row("tensorrt-llm", "1.0.0").model_copy(update={"id": name, "hardware": name})
        for name in machines
    ]
    rows.append(rows[0].model_copy(update={"id": "alone", "isl": 7}))
    given = dataclasses.replace(
        tabulate(rows, shipped()), measured=np.log([100.0, 105.0, 50.0, 999.0])
    )
    everything = np.arange(4)
    # 100 and 105 are within a tenth, and the last row has another length: two pairs remain.
    assert order(given, np.zeros(4), everything) == (2, 1.0)
    # Predicted are 100, 105 and 102: the A100 is ahead of the first and behind the second.
    wrong = np.asarray([0.0, 0.0, np.log(102 / 50), 0.0])
    assert order(given, wrong, everything) == (2, 0.5)
    assert order(given, wrong, everything[:2])[0] == 0


def test_rows_without_a_finite_figure_are_left_out_of_a_fit() -> None:
    figures = np.asarray([0.0, -np.inf, 1.0, 2.0])
    slopes = np.asarray([[1.0], [1.0], [np.nan], [1.0]])
    kernel = cast("Forward", SimpleNamespace(log_figures=lambda values: (figures, slopes)))
    layout = cast("Design", SimpleNamespace(values=lambda vector: vector, centres=np.zeros(1)))
    assert _possible(kernel, layout, np.asarray([0, 1, 2, 3])).tolist() == [0, 3]
    assert _possible(kernel, layout, np.asarray([2, 3])).tolist() == [3]
    with pytest.raises(SpecError, match="no row has a finite figure"):
        _possible(kernel, layout, np.asarray([1, 2]))
