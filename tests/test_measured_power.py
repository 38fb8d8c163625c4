"""Measured power: the factors of the power model are fitted to it, and intervals follow."""

from typing import Any

import jax
import numpy as np
import pytest
from factories import shipped
from pydantic import ValidationError

from calibration.calibrate import calibrate
from calibration.fit.forward import Forward
from calibration.fit.parameters import design, priors_of
from calibration.fit.priors import POWER_BOUNDS, POWER_PRIORS
from calibration.fit.table import tabulate
from calibration.measurements.measurement import Measurement
from calibration.measurements.table import read_measurements
from sweep.engines.calibration_file import load_calibration
from sweep.engines.prediction_interval import beside_halfwidths, usual_halfwidths
from sweep.evaluation.intervals import Arrivals, Drawn, power_multiple, within_rated
from sweep.grid.grid import Grid
from sweep.kernel.factors import FACTORS
from sweep.runs.run import run
from sweep.schema.intervals import ASSUMED, ENERGY, POWER

IDLE, BANDWIDTH = 0.2, 0.55
"""Shares with which the figures below are made. [1]"""


def row(**columns: Any) -> Measurement:
    given = {"scenario": "inflight", "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb"}
    return Measurement(**given | {"isl": 1000, "osl": 500, "metric": "power"} | columns)


def test_power_is_of_servers() -> None:
    assert row(concurrency=8, unit="W").kind == POWER
    assert row(concurrency=8, metric="energy_per_output_token", unit="J").kind == POWER
    with pytest.raises(ValidationError, match="power is of inflight rows, not of static_batch"):
        row(scenario="static_batch", batch_size=8)
    with pytest.raises(ValidationError, match="unit: must be W for power"):
        row(unit="kW")


def test_the_factors_of_power_are_fitted_where_it_is_measured_alone() -> None:
    assert not set(POWER_PRIORS) & set(priors_of({"inflight", "first_token"}))
    assert set(POWER_PRIORS) < set(priors_of({"inflight", POWER}))
    assert set(POWER_PRIORS) == set(POWER_BOUNDS)
    for name, prior in POWER_PRIORS.items():
        low, high = POWER_BOUNDS[name]
        assert name in FACTORS
        assert low < prior.typical < high


@pytest.fixture(scope="module")
def fitted():
    """A fit of figures that known shares make, with errors of 2 %."""
    # Hosts leave the memory idle for much of the time that a small model takes.
    rows = [
        row(id=f"{model}-{n}-{metric}", model=model, concurrency=n, metric=metric, value=1.0)
        for model in ("qwen3-0.6b", "qwen3-8b")
        for n in (1, 2, 4, 8, 16, 32, 64, 128)
        for metric in ("power", "energy_per_output_token")
    ]
    table = tabulate(rows, shipped())
    layout = design(table.traits, priors=priors_of(table.figures))
    made = layout.centres.copy()
    names = [parameter.name for parameter in layout.parameters]
    made[names.index("idle_power")] = np.log(IDLE)
    made[names.index("bandwidth_power")] = np.log(BANDWIDTH)
    # With slopes, as the fit has them: one kernel.
    figures, _ = Forward(table.groups, FACTORS).log_figures(layout.values(made))
    noise = np.random.default_rng(7).normal(0, 0.02, len(rows))
    measured = [
        one.model_copy(update={"value": float(np.exp(figure))})
        for one, figure in zip(rows, figures + noise, strict=True)
    ]
    free = ["idle_power[]", "bandwidth_power[]"]
    return calibrate(tabulate(measured, shipped()), name="mine", free=free, starts=1).calibration


@pytest.mark.slow
def test_known_shares_are_found_with_their_errors(fitted) -> None:
    for name, made in (("idle_power", IDLE), ("bandwidth_power", BANDWIDTH)):
        figure = fitted.factors[name]
        assert figure.verdict == "determined"
        assert 0 < figure.standard_error < POWER_PRIORS[name].width / 2
        assert abs(np.log(figure.value / made)) < 3 * figure.standard_error


@pytest.mark.slow
def test_measured_power_has_an_interval_of_its_own(fitted) -> None:
    assert fitted.halfwidths[POWER]["seen"] < ASSUMED[POWER] / 2
    assert "inflight" not in fitted.halfwidths
    narrow = beside_halfwidths(fitted.halfwidths, ["inflight_power"])["inflight_power"]
    assert narrow[0] == fitted.halfwidths[POWER]["seen"]


@pytest.mark.slow
def test_power_that_was_not_measured_has_an_assumed_interval() -> None:
    names = ["inflight_power", "inflight_energy_per_output_token", "inflight_output_throughput"]
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["h100-sxm-80gb", "l20"],
        precision=["fp8"],
        isl=[1000],
        osl=[1000],
        concurrency=[64],
        variables=names,
    )
    both = run(grid, calibration="tensorrt-llm", dtype="float64").squeeze()
    small, rated = both.sel(hardware="l20"), shipped().hardware("l20").tdp_w
    assert float(small["inflight_power"]) * np.exp(ASSUMED[POWER]) > rated
    assert float(small["inflight_power_upper"]) == pytest.approx(rated)
    found = both.sel(hardware="h100-sxm-80gb")
    widths = {}
    for name in names:
        value, low, high = (float(found[f"{name}{end}"]) for end in ("", "_lower", "_upper"))
        widths[name] = np.log(high / value)
        assert np.log(value / low) == pytest.approx(widths[name], rel=1e-6)
    power, energy, throughput = (widths[name] for name in names)
    assert power == pytest.approx(ASSUMED[POWER], rel=1e-6)
    # The energy of a token is power over throughput: both errors, in squares.
    assert energy == pytest.approx(np.hypot(throughput, power), rel=1e-6)
    assert "assumed half-width of 0.35" in found["inflight_power_lower"].attrs["comment"]


def test_intervals_of_power_by_hand() -> None:
    drawn = Drawn(np.array([500.0, 500.0, 500.0, 700.0]), np.array([700.0, 1000.0, np.nan, 700.0]))
    up, down = np.exp(ASSUMED[POWER]), np.exp(-ASSUMED[POWER])
    with jax.enable_x64(True):
        np.testing.assert_allclose(within_rated(up, drawn), [1.4, up, up, 1.0])
        np.testing.assert_allclose(within_rated(down, drawn), down)
        # A token takes the time and the power, both with their errors.
        both = np.exp(np.hypot(np.log(1.1), np.log(1.4)))
        assert power_multiple(ENERGY, 1.1, 1.4, None) == pytest.approx(both)
        assert power_multiple(ENERGY, 1 / 1.1, 1 / 1.4, None) == pytest.approx(1 / both)
        assert power_multiple(ENERGY, 1.1, 1.0, None) == pytest.approx(1.1)
        assert power_multiple(POWER, 1.1, 1.4, None) == 1.4
        # A rate that the server keeps up with is served, however slow it is.
        for utilisation, expected in ((0.9, 1.4), (1.0, both)):
            arrivals = Arrivals(utilisation, 0.1)
            assert power_multiple(ENERGY, 1.1, 1.4, arrivals) == pytest.approx(expected)


def test_half_widths_by_hand() -> None:
    known = {"inflight": {"seen": 0.3}, POWER: {"seen": 0.4, "unseen_hardware": 0.5}}
    energy = ["inflight_energy_per_output_token"]
    assert usual_halfwidths(known, energy)[energy[0]][0] == pytest.approx(0.3)
    both = beside_halfwidths(known, energy)[energy[0]]
    assert both[:2] == pytest.approx([0.4, 0.5])
    # Where nothing was measured the same is assumed of every accelerator.
    assert set(beside_halfwidths({}, energy)[energy[0]]) == {ASSUMED[POWER]}
    assert "inflight_tpot" not in beside_halfwidths(known, ["inflight_tpot"])


def test_a_table_of_the_user_may_state_power(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "scenario,model,hardware,concurrency,isl,osl,metric,value,unit\n"
        "inflight,llama-3.1-8b,h100-sxm-80gb,64,1000,1000,power,480,W\n"
        "inflight,llama-3.1-8b,h100-sxm-80gb,64,1000,1000,energy_per_output_token,0.11,J\n"
    )
    rows = read_measurements(path, catalog=shipped())
    assert [one.kind for one in rows] == [POWER, POWER]
    assert load_calibration("tensorrt-llm").halfwidths.get(POWER) is None
