"""Fits: known factors come back, ignorance is admitted, outliers do not pull, files hold it all."""

import dataclasses
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from factories import shipped
from scipy.sparse import csr_array

from calibration.calibrate import calibrate
from calibration.cli.main import cli
from calibration.files import as_text
from calibration.fit import capacity
from calibration.fit.forward import Forward, predict
from calibration.fit.noise import noise_of
from calibration.fit.parameters import Parameter, design
from calibration.fit.priors import PRIORS, Prior
from calibration.fit.solver import Fit, solve
from calibration.fit.table import Table, tabulate
from calibration.fit.verdicts import verdict, verdicts
from calibration.measurements.table import Measurement, read_measurements, without_suspects
from calibration.validation.conformal import conformal_halfwidth
from calibration.validation.half_widths import left_out_errors
from calibration.validation.predictions import predictions
from calibration.validation.quoted_errors import quoted_errors
from calibration.validation.ranged import most_gpus, ranged_numbers
from sweep.decisions.compare import compare
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.kernel.factors import FACTORS, IDEAL
from sweep.runs.run import run

SMALL = {name: dataclasses.replace(prior, deviations={}) for name, prior in PRIORS.items()}


def test_the_noise_is_that_of_the_middle_row_less_what_the_rows_determine() -> None:
    # Half of a normal distribution lies within 0.6745: of 100 rows, 51 within 0.06745 say 0.1, and
    # 49 wild ones nothing. Ten parameters are determined; 20 more rows say 0.06.
    errors = np.where(np.arange(100) < 51, 0.06745, 5.0)
    found = noise_of(errors, np.ones(100), 10.0)
    assert found == pytest.approx(np.sqrt((100 * 0.1**2 + 20 * 0.06**2) / (90 + 20)), rel=1e-12)


def test_an_interval_of_fifteen_rows_is_as_wide_as_the_largest_error() -> None:
    # A new row is within the k-th of n errors with probability k/(n + 1): 0.9 of 16 is 14.4.
    assert conformal_halfwidth(np.arange(1.0, 16.0)) == 15
    # With 19 rows it is the 18th; between rows the quantile is interpolated.
    assert 18 <= conformal_halfwidth(np.arange(1.0, 20.0)) < 19


def test_as_many_clients_as_fit_are_not_doubtful(monkeypatch) -> None:
    row = next(r for r in read_measurements("tensorrt-llm") if r.scenario == "inflight")
    given = {"quality": "ok", "note": ""}
    rows = [row.model_copy(update={"concurrency": n, **given}) for n in (4, 5, 6)]
    monkeypatch.setattr(capacity, "capacities", lambda some, _: np.full(len(some), 5.0))
    found = [each.quality for each in capacity.doubt_overfull(rows, shipped())]
    assert found == ["ok", "ok", "doubtful"]


@pytest.mark.parametrize("parameters", [2, 4], ids=["more rows", "more parameters"])
def test_left_out_errors_of_a_linear_fit_are_those_of_refits(parameters: int) -> None:
    # Groups of three rows with weights of their own, and a prior of width 1 around 0.
    random = np.random.default_rng(3)
    slopes, measured = random.normal(size=(9, parameters)), random.normal(size=9)
    weights, groups = random.uniform(0.5, 2.0, 9), np.repeat(["a", "b", "c"], 3)

    def solved(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = slopes[rows] * weights[rows, None]
        bend = np.linalg.inv(own.T @ own + np.eye(parameters))
        return bend, bend @ own.T @ (weights[rows] * measured[rows])

    bend, found = solved(np.arange(9))
    errors = slopes @ found - measured
    fit = SimpleNamespace(
        errors=errors,
        settled=errors,
        slopes=csr_array(slopes),
        fitted=np.arange(9),
        weights=weights,
        bend=bend,
    )
    without = [slopes @ solved(np.flatnonzero(groups != name))[1] - measured for name in "abc"]
    wanted = np.choose(np.repeat([0, 1, 2], 3), without)
    np.testing.assert_allclose(left_out_errors(fit, groups), wanted, rtol=1e-9)


def test_the_most_gpus_of_an_accelerator_are_those_of_any_row() -> None:
    rows = [
        SimpleNamespace(scenario="inflight", hardware="l4", replica_gpus=gpus) for gpus in (2, 8, 4)
    ]
    found = most_gpus(SimpleNamespace(rows=rows), {"inflight": {"l4": 4.0}}, np.arange(3))
    assert found == {"inflight": {"l4": 8.0}}


def test_the_load_of_a_row_is_its_clients_on_each_gpu() -> None:
    row = {"scenario": "inflight", "request_rate": None, "batch_size": None, "concurrency": 8}
    rows = [SimpleNamespace(**row, isl=100, osl=10, replica_gpus=gpus) for gpus in (1, 4)]
    found = ranged_numbers(SimpleNamespace(rows=rows), held=False)
    assert found["load"].tolist() == [8, 2]
    assert found["concurrency"].tolist() == [8, 8]


def test_quoted_errors_are_those_of_rows_without_doubt() -> None:
    rows = [SimpleNamespace(quality=quality) for quality in ("ok", "doubtful", "ok")]
    several = SimpleNamespace(rows=rows, labels=lambda _: np.asarray(["toy"] * 3))
    errors = np.log([1.1, 3.0, 0.9])
    found = quoted_errors(several, np.arange(3), errors, {"model": errors, "hardware": errors})
    expected = {"rows": 2, "own_configuration_left_out": 0.1, "left_out": 0.1}
    assert found == {"model": {"toy": expected}, "hardware": {"toy": expected}}


def test_a_factor_that_the_rows_moved_is_not_called_undetermined() -> None:
    # All errors are those of the priors; the second factor is two widths from its centre.
    factors = [Parameter(name, "", "", 0.0, 0.5) for name in ("gemm", "attention")]
    fit = SimpleNamespace(
        design=SimpleNamespace(parameters=factors, centres=np.zeros(2), widths=np.full(2, 0.5)),
        covariance=np.diag([0.25, 0.25]),
        vector=np.asarray([0.1, 1.0]),
        at_bound=np.zeros(2, bool),
        slopes=np.ones((3, 2)),
        fitted=np.arange(3),
    )
    assert verdicts(fit) == ["undetermined", "prior-dominated"]


@cache
def table() -> Table:
    """In-flight rows of one family on three accelerators: one kernel, compiled once.

    As many as tests/test_judgement.py fits, rounded as kernels round: it is the same one.
    """
    rows, _ = without_suspects(read_measurements("tensorrt-llm"))
    models = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b")
    machines = ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb")
    kept = [r for r in rows if r.model in models and r.hardware in machines]
    return tabulate([r for r in kept if r.scenario == "inflight"][::3][:320], shipped())


@cache
def forward() -> Forward:
    return Forward(table().groups, FACTORS)


def fit_of(measured: np.ndarray, rows: np.ndarray | None = None, priors=SMALL) -> Fit:
    layout = design(table().traits, priors=priors)
    rows = np.arange(len(measured)) if rows is None else rows
    return solve(forward(), layout, measured, rows, np.ones(len(measured)))


def simulated(seed: int) -> tuple[dict[str, float], np.ndarray]:
    """Known factors, drawn from the priors, and figures with 3 % noise."""
    random = np.random.default_rng(seed)
    layout = design(table().traits, priors=SMALL)
    vector = np.asarray(
        [random.normal(p.centre, 0.7 * p.width) for p in layout.parameters], np.float64
    )
    figures, _ = forward().log_figures(layout.values(vector))
    truth = {p.name: float(v) for p, v in zip(layout.parameters, vector, strict=True)}
    return truth, figures + random.normal(0, 0.03, len(figures))


@pytest.mark.slow
@pytest.mark.parametrize("models", [4, pytest.param(None, marks=pytest.mark.campaign)])
def test_no_ideal_prediction_is_below_a_measured_throughput(models: int | None) -> None:
    """Bounds are bounds: in-flight and static rows of the first models, or all, if not in doubt."""
    rows = [r for r in read_measurements("tensorrt-llm") if r.quality == "ok"]
    kept = set(list(dict.fromkeys(r.model for r in rows))[:models])
    rows = [r for r in rows if r.model in kept]
    found = predict(tabulate(rows, shipped()).groups)
    assert np.isfinite(found).all()
    over = np.asarray([p / r.value for p, r in zip(found, rows, strict=True)])
    throughput = np.asarray([r.metric == "output_throughput" for r in rows])
    assert over[throughput].min() > 1
    assert over[~throughput].max() < 1


@pytest.mark.slow
def test_known_factors_come_back() -> None:
    inside = []
    for seed in range(6):
        truth, measured = simulated(seed)
        fit = fit_of(measured)
        errors = np.sqrt(np.diag(fit.covariance))
        for parameter, value, error in zip(fit.design.parameters, fit.vector, errors, strict=True):
            if verdict(parameter, error) == "determined":
                inside.append(abs(value - truth[parameter.name]) < 1.645 * error)
    assert len(inside) > 30
    assert np.mean(inside) > 0.85


@pytest.mark.slow
def test_what_rows_do_not_tell_is_called_undetermined() -> None:
    # One request at a time reads weights and nothing else binds: no rate of computing shows.
    rows = [
        Measurement(
            id=f"{isl}-{osl}",
            scenario="inflight",
            model="llama-3.1-70b",
            hardware="h100-sxm-80gb",
            tp=4,
            isl=isl,
            osl=osl,
            concurrency=1,
            metric="output_throughput",
            value=30.0,
        )
        for isl in (1, 4, 16)
        for osl in (400, 600, 900)
    ]
    found = calibrate(tabulate(rows, shipped()), name="starved")
    figures = found.calibration.factors
    known = [figures[name].standard_error / PRIORS[name].width for name in figures]
    assert min(known) < 0.97, "the rows say something, of the host's time"
    for name in ("gemm", "attention", "expert_gemm", "pipeline_idle", "ramp"):
        assert figures[name].verdict == "undetermined", name
        assert figures[name].standard_error == pytest.approx(PRIORS[name].width, rel=0.2)


@pytest.mark.slow
def test_a_row_repeated_is_not_sixteen_rows() -> None:
    row = table().rows[0]
    errors = []
    for copies in (1, 16):  # Up to 16 rows are padded to as many: one kernel.
        rows = [row.model_copy(update={"id": f"{row.id} {n}"}) for n in range(copies)]
        mine = calibrate(tabulate(rows, shipped()), name="repeated").calibration
        errors.append(mine.factors["weight_bandwidth"].standard_error)
    assert errors[1] == pytest.approx(errors[0], rel=0.01)


@pytest.mark.slow
def test_wild_rows_move_no_factor_by_more_than_its_error() -> None:
    _, measured = simulated(3)
    random = np.random.default_rng(0)
    wild = measured.copy()
    hit = random.choice(len(wild), len(wild) // 20, replace=False)
    wild[hit] += np.log(3) * random.choice([-1, 1], len(hit))
    plain, pulled = fit_of(measured), fit_of(wild)
    errors = np.sqrt(np.diag(plain.covariance))
    determined = [
        verdict(p, e) == "determined" for p, e in zip(plain.design.parameters, errors, strict=True)
    ]
    moved = np.abs(pulled.vector - plain.vector) / errors
    assert np.median(moved[determined]) < 1
    assert moved[determined].max() < 2


@pytest.mark.slow
def test_the_same_rows_give_the_same_fit_in_any_order() -> None:
    measured = table().measured
    one, again = fit_of(measured), fit_of(measured)
    np.testing.assert_array_equal(one.vector, again.vector)
    turned = fit_of(measured, np.arange(len(measured))[::-1])
    np.testing.assert_allclose(turned.vector, one.vector, atol=1e-6)


@pytest.mark.slow
def test_slopes_are_those_of_finite_differences() -> None:
    values = np.tile(
        [0.7 if getattr(IDEAL, f) == 1 else 0.3 for f in FACTORS], (len(table().rows), 1)
    )
    values[:, [FACTORS.index(f) for f in FACTORS if f.endswith("_s")]] = 1e-5
    values[:, [FACTORS.index(f) for f in ("logit_copies", "reserved_memory_bytes")]] = 1.0
    _, slopes = forward().log_figures(values)
    for name in ("gemm", "weight_bandwidth", "unhidden", "step_overhead_s", "gemm_half_rows"):
        column, step = FACTORS.index(name), 1e-6
        moved = values.copy()
        moved[:, column] *= 1 + step
        up, _ = forward().log_figures(moved)
        moved[:, column] *= (1 - step) / (1 + step)
        down, _ = forward().log_figures(moved)
        numeric = (up - down) / (2 * step * values[:, column])
        np.testing.assert_allclose(slopes[:, column], numeric, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_left_out_errors_are_those_of_refits() -> None:
    # Held against fits that truly did not see the configuration.
    fit = fit_of(table().measured)
    labels = table().labels("configuration")
    linear = left_out_errors(fit, labels)
    for name in np.unique(labels)[::40]:
        kept = np.flatnonzero(labels != name)
        refitted = fit_of(table().measured, kept)
        out = labels == name
        np.testing.assert_allclose(linear[out], refitted.errors[out], atol=0.02)


@pytest.mark.slow
def test_a_fit_survives_its_file(tmp_path: Path) -> None:
    found = calibrate(table(), name="mine").calibration
    path = tmp_path / "mine.yaml"
    path.write_text(as_text(found), encoding="utf-8")
    again = load_calibration(path)
    assert again is not None
    assert again.digest == found.digest
    for trait in table().traits[:20]:
        for name in FACTORS:
            assert again.factor(name, trait) == found.factor(name, trait)


@pytest.mark.slow
def test_six_rows_of_a_new_accelerator_help_and_break_nothing() -> None:
    shipped_fit = load_calibration("tensorrt-llm")
    assert shipped_fit is not None
    rows = [
        Measurement(
            id=f"{isl}-{osl}",
            engine="tensorrt-llm",
            engine_version="1.0.0",
            scenario="inflight",
            model="llama-3.1-8b",
            hardware="h20-96gb",
            weight_dtype="fp8",
            isl=isl,
            osl=osl,
            metric="output_throughput",
            value=1.0,
        )
        for isl, osl in (
            (128, 128),
            (128, 2048),
            (2048, 128),
            (500, 2000),
            (1000, 1000),
            (5000, 500),
        )
    ]
    before = predictions(tabulate(rows, shipped()), shipped_fit)["predicted"]
    # A machine that is a fifth slower than was predicted of it.
    slower = [r.model_copy(update={"value": 0.8 * p}) for r, p in zip(rows, before, strict=True)]
    mine = calibrate(tabulate(slower, shipped()), name="mine", start_from=shipped_fit).calibration
    after = predictions(tabulate(slower, shipped()), mine)["predicted"]
    assert np.abs(after / (0.8 * before) - 1).mean() < 0.1
    assert "h20-96gb" in mine.seen["hardware"]
    # What six in-flight rows of a dense model cannot tell stays as it was.
    for name in ("expert_gemm", "expert_half_rows", "pipeline_idle"):
        assert mine.factors[name].value == pytest.approx(shipped_fit.factors[name].value, rel=0.01)


@pytest.mark.slow
def test_a_sweep_says_what_the_calibration_predicts() -> None:
    mine = load_calibration("tensorrt-llm")
    assert mine is not None
    grid = Grid(
        models=["llama-3.1-8b", "llama-3.1-70b"],
        hardware=["h100-sxm-80gb", "h20-96gb"],
        precision=["fp8"],
        tp=[2],
        isl=[1000],
        osl=[1000],
        variables=["inflight_output_throughput"],
    )
    found = run(grid, dtype="float64", efficiency=mine)
    rows = [
        Measurement(
            id=f"{model} {machine}",
            engine="tensorrt-llm",
            engine_version=mine.engine_version,
            scenario="inflight",
            model=model,
            hardware=machine,
            weight_dtype="fp8",
            tp=2,
            isl=1000,
            osl=1000,
            metric="output_throughput",
        )
        for model in grid.models
        for machine in grid.hardware
    ]
    told = predictions(tabulate(rows, shipped()), mine)
    swept = found.inflight_output_throughput
    np.testing.assert_allclose(swept.values.ravel(), told["predicted"], rtol=1e-6)
    lower = found.inflight_output_throughput_lower
    np.testing.assert_allclose(lower.values.ravel(), told["lower"], rtol=1e-6)
    # Nobody measured an H20: its interval is wider, and the flag says why.
    width = np.log(swept / lower).squeeze()
    assert (width.sel(hardware="h20-96gb") > width.sel(hardware="h100-sxm-80gb")).all()
    assert (found.inflight_extrapolation.sel(hardware="h20-96gb") == 1).all()
    assert found.attrs["efficiency"] == f"tensorrt-llm {mine.digest}"


@pytest.mark.slow
def test_ideal_is_the_default_and_says_so() -> None:
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["h100-sxm-80gb"],
        batch_size=[8],
        isl=[100],
        osl=[100],
        variables=["output_throughput"],
    )
    plain, ideal = run(grid), run(grid, efficiency="ideal")
    assert plain.identical(ideal.assign_attrs(history=plain.attrs["history"]))
    assert plain.attrs["efficiency"] == "ideal"
    assert "output_throughput_lower" not in plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("factors: {gem: {value: 0.7}}", ["gem", "did you mean 'gemm'"]),
        ("factors: {gemm: {value: -1.0}}", ["factors.gemm.value"]),
        ("factors: {gemm: {value: 1.0, valeu: 1.0}}", ["valeu", "unknown key"]),
        ("halfwidths: {inflight: {seen: wide}}", ["halfwidths"]),
    ],
)
def test_bad_efficiency_files_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as refusal:
        load_calibration(path)
    assert all(word in str(refusal.value) for word in ["mine.yaml", *words]), refusal.value


@pytest.mark.slow
def test_a_hand_written_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("factors: {weight_bandwidth: {value: 0.5}}", encoding="utf-8")
    mine = load_calibration(path)
    assert isinstance(mine, Calibration)
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["h100-sxm-80gb"],
        batch_size=[1],
        context_len=[1],
        variables=["decode_step_latency"],
    )
    half = run(grid, efficiency=mine).decode_step_latency.item()
    assert half / run(grid).decode_step_latency.item() == pytest.approx(2, rel=0.02)


@pytest.mark.slow
def test_the_command_fits_shows_predicts_and_draws(tmp_path: Path) -> None:
    columns = "id,engine,engine_version,scenario,model,hardware,tp,isl,osl,metric,value"
    lines = [",".join(str(getattr(r, c)) for c in columns.split(",")) for r in table().rows[::20]]
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join([columns, *lines]), encoding="utf-8")
    fit, out = tmp_path / "fit.nc", tmp_path / "out.csv"
    runner = CliRunner()

    def call(*words: object) -> str:
        result = runner.invoke(cli, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    said = call("fit", mine, "-o", fit, "--from", "tensorrt-llm")
    assert "16 rows" in said
    assert "the rows do not determine" in said
    assert yaml.safe_load((tmp_path / "fit.yaml").read_text())["name"] == "fit"
    assert "weight_bandwidth" in call("show", fit)
    assert "16 rows" in call("predict", fit, mine, "-o", out)
    header = out.read_text().partition("\n")[0].split(",")
    assert {"predicted", "lower", "upper", "flags"} <= set(header)
    call("plot", fit, "-o", tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    assert runner.invoke(cli, ["plot", str(fit), "-o", str(tmp_path / "fit.foo")]).exit_code == 2


def test_a_prior_is_what_it_says() -> None:
    assert all(isinstance(prior, Prior) and prior.width > 0 for prior in PRIORS.values())
    assert set(PRIORS) <= set(FACTORS)


@pytest.mark.slow
def test_two_accelerators_are_compared_by_what_they_are_predicted_to_deliver() -> None:
    mine = load_calibration("tensorrt-llm")
    assert mine is not None
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["h100-sxm-80gb", "h200-sxm-141gb", "l40s"],
        precision=["fp8"],
        batch_size=[8, 16],
        isl=[512, 1024],
        osl=[128],
        variables=["output_throughput"],
    )
    found = run(grid, efficiency=mine)

    def said(*pair: str) -> str:
        chosen = {"model": "llama-3.1-8b", "variable": "output_throughput"}
        return compare(found, pair, **chosen, chosen={}).sentence()

    # Four times the bandwidth is beyond any doubt; the same machine against itself never is.
    assert "output_throughput by tensorrt-llm: h100-sxm-80gb wins everywhere" in said(
        "h100-sxm-80gb", "l40s"
    )
    assert "beyond their 90 % intervals" in said("h100-sxm-80gb", "l40s")
    assert "their 90 % intervals overlap" in said("h100-sxm-80gb", "h100-sxm-80gb")
