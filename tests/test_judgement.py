"""What a fit says of its own knowledge holds: errors, verdicts, bounds, noise."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner
from factories import shipped
from measured_rows import row
from scipy.optimize import least_squares

from calibration.calibrate import STARTS, calibrate
from calibration.cli.main import cli
from calibration.files import save
from calibration.fit.damped import damped_least_squares
from calibration.fit.forward import Forward
from calibration.fit.noise import EXPECTED_ROWS, NOISE, Data, noise_of, of_kinds
from calibration.fit.parameters import Design, chosen, design, split_patterns
from calibration.fit.priors import BOUNDS, PRIORS
from calibration.fit.solver import ALIKE, NEAR, THERE, Fit, solve
from calibration.fit.table import Table, tabulate
from calibration.fit.verdicts import (
    constrained_together,
    directions,
    regimes,
    rows_by_regime,
    sentences,
    verdicts,
)
from calibration.measurements.table import read_measurements, without_suspects
from calibration.validation.half_widths import halfwidths
from sweep.engines.calibration_file import load_calibration
from sweep.engines.prediction_interval import WIDEST
from sweep.errors import ResultError, SpecError
from sweep.kernel.factors import FACTORS

POOLED = {name: dataclasses.replace(prior, deviations={}) for name, prior in PRIORS.items()}


COMPUTES = ("gemm", "attention", "gemm_half_rows")


@cache
def table() -> Table:
    """In-flight rows of dense Llamas on three accelerators: one kernel."""
    rows, _ = without_suspects(read_measurements("tensorrt-llm"))
    models = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b")
    machines = ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb")
    kept = [
        row
        for row in rows
        if row.model in models and row.hardware in machines and row.engine_version >= "0.11"
    ]
    return tabulate([row for row in kept if row.scenario == "inflight"][::3], shipped())


@cache
def forward() -> Forward:
    return Forward(table().groups, FACTORS)


@cache
def pooled() -> Design:
    return design(table().traits, priors=POOLED)


def fit_of(measured: np.ndarray, rows: np.ndarray | None = None, **changes: object) -> Fit:
    rows = np.arange(len(measured)) if rows is None else rows
    layout = changes.pop("layout", pooled())
    return solve(forward(), layout, measured, rows, np.ones(len(measured)), **changes)


@pytest.fixture
def to_the_minimum(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Options of fits that end at a minimum, not where a step gains less than `THERE`.

    Measured rows are not for tests of where a search ends: with the kernel's regimes and errors of
    6 % their cost may have two minima of nearly the same depth, 0.2 standard errors apart.
    """
    monkeypatch.setattr("calibration.fit.solver.THERE", THERE * 1e-4)
    return {"max_evaluations": 400}


def simulated(seed: int, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """A truth drawn from the priors, within their bounds, and figures with noise."""
    random = np.random.default_rng(seed)
    low, high = pooled().bounds
    truth = np.clip(random.normal(pooled().centres, pooled().widths), low + 0.05, high - 0.05)
    figures_, _ = forward().log_figures(pooled().values(truth))
    return truth, figures_ + random.normal(0, noise, len(figures_))


# Errors and verdicts.


@pytest.mark.slow
@pytest.mark.parametrize("noise", [pytest.param(0.03, marks=pytest.mark.campaign), 0.1])
def test_intervals_of_determined_factors_hold_as_often_as_they_say(noise: float) -> None:
    inside = []
    for seed in range(22):
        truth, measured = simulated(seed, noise)
        fit = fit_of(measured)
        assert fit.noise == pytest.approx(noise, rel=0.25)
        told = np.asarray([word == "determined" for word in verdicts(fit)])
        error = np.sqrt(np.diag(fit.covariance))
        inside += list(np.abs(fit.vector - truth)[told] < 1.645 * error[told])
    assert len(inside) > 100
    assert 0.8 < np.mean(inside) < 0.98


@cache
def one_by_one() -> tuple[Table, Forward]:
    """One request at a time reads the weights in every step, and nothing else binds."""
    rows = [
        row(
            model="llama-3.1-70b",
            tp=4,
            concurrency=1,
            isl=isl,
            osl=osl,
            value=75.0,
            id=f"{isl} {osl}",
        )
        for isl in (1, 4, 16)
        for osl in (400, 600, 900)
    ]
    given = tabulate(rows, shipped())
    return given, Forward(given.groups, FACTORS)


@pytest.mark.slow
def test_rows_bound_by_memory_say_nothing_of_computing() -> None:
    given, kernel = one_by_one()
    fit = solve(kernel, design(given.traits), given.measured, range(9), given.weights)
    assert rows_by_regime(fit)["memory"] == 9
    words = dict(zip(fit.design.parameters, verdicts(fit), strict=True))
    errors = dict(zip(fit.design.parameters, np.sqrt(np.diag(fit.covariance)), strict=True))
    for parameter in fit.design.parameters:
        if parameter.factor in COMPUTES:
            assert words[parameter] == "undetermined", parameter.name
            assert errors[parameter] == pytest.approx(parameter.width, rel=0.05)


@pytest.mark.slow
def test_a_factor_no_row_feels_is_undetermined_however_small_its_error() -> None:
    fit = fit_of(table().measured)
    mute = dataclasses.replace(fit, slopes=fit.slopes * 1e-6, covariance=fit.covariance * 1e-6)
    assert set(verdicts(mute)) == {"undetermined"}


@pytest.mark.slow
def test_fifty_rows_narrow_an_interval_that_more_copies_do_not() -> None:
    first, *others = table().rows[:51]
    count = len(table().rows)  # One kernel computes tables of one length.
    copies = [first.model_copy(update={"id": f"copy {n}"}) for n in range(50, count)]
    assert len(copies) >= 50
    given = tabulate([*others, *copies], shipped())
    kernel, layout = Forward(given.groups, FACTORS), design(given.traits, priors=POOLED)

    def error(rows: range, weights: np.ndarray) -> float:
        fit = solve(kernel, layout, given.measured, rows, weights)
        return float(np.sqrt(fit.covariance[place, place]))

    place = list(POOLED).index("gemm")
    one = error(range(50, 51), np.ones(count))
    assert error(range(50, count), given.weights) == pytest.approx(one, rel=0.01)
    assert error(range(50), given.weights) < 0.9 * one


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_wild_rows_move_no_determined_parameter_by_more_than_its_error(seed: int) -> None:
    random, wild = np.random.default_rng(seed), table().measured.copy()
    hit = random.choice(len(wild), len(wild) // 20, replace=False)
    wild[hit] += np.log(3) * random.choice([-1, 1], len(hit))
    plain, pulled = (fit_of(measured) for measured in (table().measured, wild))
    told = np.asarray([word == "determined" for word in verdicts(plain)])
    moved = np.abs(pulled.vector - plain.vector) / np.sqrt(np.diag(plain.covariance) + 1e-300)
    assert told.sum() > 5
    assert moved[told].max() < 1
    assert set(pulled.set_aside) >= set(hit[np.abs(plain.errors[hit]) < 0.3])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_is_wildly_off_is_named_and_pulls_no_more(
    seed: int, to_the_minimum: dict[str, int]
) -> None:
    _, figures_ = simulated(seed, 0.01)
    plain, wild = fit_of(figures_), figures_.copy()
    hit = [3, 50, 77]
    wild[hit] += np.log(20)
    pulled = fit_of(wild, **to_the_minimum)
    assert set(hit) <= set(pulled.set_aside) <= set(hit) | set(plain.set_aside)
    assert (pulled.weights[hit] == 0).all() and (pulled.weights > 0).sum() > 0.95 * len(wild)
    others = np.setdiff1d(np.arange(len(wild)), pulled.set_aside)
    left_out = fit_of(wild, others, **to_the_minimum)
    moved = np.abs(pulled.vector - left_out.vector) / np.sqrt(np.diag(left_out.covariance))
    # A step that gains less than `THERE` of the cost ends a fit: half a squared error is the cost.
    assert moved.max() < np.sqrt(2 * THERE * min(left_out.costs))
    said = sentences({}, {"rows_set_aside": [f"row {n}" for n in range(5)]})
    assert "excluded as outliers (more than 10 × the noise): row 0, row 1, row 2 and 2 more" in said


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_fit_goes_on_where_lapack_finds_no_singular_values(
    seed: int, to_the_minimum: dict[str, int]
) -> None:
    _, figures_ = simulated(seed, 0.01)
    plain, solvers = fit_of(figures_, **to_the_minimum), []

    def fails(*given: object, tr_solver: str, **how: object) -> object:
        solvers.append(tr_solver)
        if tr_solver == "exact":
            raise np.linalg.LinAlgError("SVD did not converge")
        return least_squares(*given, tr_solver=tr_solver, **how)

    again = fit_of(figures_, minimiser=fails, **to_the_minimum)
    assert solvers[:2] == ["exact", "lsmr"]
    np.testing.assert_allclose(again.vector, plain.vector, atol=0.02)


def test_noise_loses_one_row_for_each_parameter_that_the_rows_determine() -> None:
    # Of forty good rows the twentieth smallest error is that of half a normal distribution of 0.1.
    errors = np.concatenate([np.zeros(19), [0.06745], np.full(20, -1.0)])[::-1]
    squares = 40 * 0.1**2 + EXPECTED_ROWS * NOISE**2
    found = noise_of(errors, np.ones(40), 10.0)
    assert found == pytest.approx(np.sqrt(squares / (40 - 10 + 20)))
    # More parameters than rows leave only what is expected beforehand.
    assert noise_of(errors, np.ones(40), 50.0) == pytest.approx(np.sqrt(squares / 20))
    # Rows that count half each: the same middle, of half as many.
    half = 20 * 0.1**2 + EXPECTED_ROWS * NOISE**2
    assert noise_of(errors, np.full(40, 0.5), 0.0) == pytest.approx(np.sqrt(half / 40))


def test_each_kind_of_figure_has_the_noise_of_its_own_rows() -> None:
    # The twentieth smallest of forty errors is half of a normal distribution's, of 0.1 and 0.4.
    errors = np.concatenate([np.zeros(19), [0.06745], np.full(20, -1.0)])
    kinds = np.repeat(["throughput", "first token"], 40)
    expected = np.repeat([NOISE, 0.2], 40)
    places = np.arange(80)
    data = Data(places, np.zeros(80), np.ones(80), expected, of_kinds(kinds, places))
    found = data.noises(np.concatenate([errors, 4 * errors]), np.full(80, 0.25))
    # Ten parameters are shared out by leverage: each kind loses ten rows.
    for name, noise, usual in (("throughput", 0.1, NOISE), ("first token", 0.4, 0.2)):
        squares = 40 * noise**2 + EXPECTED_ROWS * usual**2
        assert found[name] == pytest.approx(np.sqrt(squares / (40 - 10 + 20)))
    # For the usual noise, rows of twice the usual error count a quarter each.
    rough = Data(places[:40], np.zeros(40), np.ones(40), np.full(40, 2 * NOISE), {})
    squares = 10 * 0.1**2 + EXPECTED_ROWS * NOISE**2
    assert rough.noise(errors, np.zeros(40)) == pytest.approx(np.sqrt(squares / (10 + 20)))
    np.testing.assert_array_equal(
        data.of_rows(found), np.repeat([found["throughput"], found["first token"]], 40)
    )


@pytest.mark.slow
def test_a_row_is_an_outlier_by_the_noise_of_its_kind() -> None:
    random, count = np.random.default_rng(2), len(table().measured)
    kinds = np.where(np.arange(count) % 2, "late", "steady")
    noise = np.where(kinds == "late", 0.2, 0.03)
    _, measured = simulated(1, 0.0)
    measured = measured + random.normal(0, noise)
    measured[[10, 11]] += 1.0
    fit = fit_of(measured, kinds=kinds, expected=noise)
    assert fit.noises["steady"] == pytest.approx(0.03, rel=0.3)
    assert fit.noises["late"] == pytest.approx(0.2, rel=0.3)
    # Five times the noise of one kind, thirty times that of the other.
    assert set(fit.set_aside) == {10}
    steady, late = (fit.weights[(kinds == name) & (fit.weights > 0)] for name in ("steady", "late"))
    assert np.median(steady) / np.median(late) == pytest.approx(0.2 / 0.03, rel=0.1)


@pytest.mark.slow
def test_the_noise_of_a_fit_counts_the_parameters_that_its_rows_determine() -> None:
    fit = fit_of(table().measured)
    assert fit.effective_parameters > 5
    expected = noise_of(fit.errors, np.ones(len(fit.errors)), fit.effective_parameters)
    assert fit.noise == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_same_rows_give_the_same_fit_in_any_order() -> None:
    one, again = fit_of(table().measured, starts=2), fit_of(table().measured, starts=2)
    np.testing.assert_array_equal(one.vector, again.vector)
    np.testing.assert_array_equal(one.covariance, again.covariance)
    turned = fit_of(table().measured, np.arange(len(table().rows))[::-1], starts=2)
    np.testing.assert_allclose(turned.vector, one.vector, atol=1e-6)
    np.testing.assert_allclose(turned.covariance, one.covariance, atol=1e-6)


@pytest.mark.slow
def test_what_rows_tell_only_together_is_said() -> None:
    # Decoding one by one: weights over bandwidth and software, and nothing tells the two apart.
    given, kernel = one_by_one()
    priors = {
        "software": dataclasses.replace(POOLED["software"], width=0.2),
        "weight_bandwidth": dataclasses.replace(POOLED["weight_bandwidth"], width=0.2),
    }
    layout = design(given.traits, priors=priors)
    fit = solve(kernel, layout, given.measured, range(9), given.weights)
    assert constrained_together(fit) == [["software", "weight_bandwidth"]]
    names, singular, loadings = directions(fit)
    assert names == ["software", "weight_bandwidth"]
    # The rows tell their product, and next to nothing of their ratio.
    assert singular[1] > 10 > 1 > singular[0]
    np.testing.assert_allclose(np.abs(loadings), np.sqrt(0.5), atol=0.1)
    assert loadings[0, 0] * loadings[0, 1] < 0 < loadings[1, 0] * loadings[1, 1]


@pytest.mark.slow
def test_regimes_are_those_of_the_slopes() -> None:
    fit = fit_of(table().measured)
    assert sum(rows_by_regime(fit).values()) == len(table().rows)
    only = np.zeros_like(fit.sensitivities)
    only[:, FACTORS.index("link_bandwidth")] = 0.5
    assert set(regimes(dataclasses.replace(fit, sensitivities=only))) == {2}


@pytest.mark.slow
def test_errors_of_mistyped_figures_make_no_width_that_a_file_cannot_have() -> None:
    fit = fit_of(table().measured)
    far = dataclasses.replace(fit, errors=fit.errors + 30.0, settled=fit.settled + 30.0)
    widths = halfwidths(table(), far)["inflight"]
    assert widths["seen"] == WIDEST
    assert max(widths.values()) == WIDEST


# Which parameters, within which bounds.


@pytest.mark.slow
def test_only_free_parameters_move() -> None:
    layout = design(table().traits, free=["weight_bandwidth[hardware=*]", "gemm"])
    fit = fit_of(table().measured, layout=layout)
    moved = {
        p.name for p, value in zip(layout.parameters, fit.vector, strict=True) if value != p.centre
    }
    free = {p.name for p in layout.parameters if p.free}
    assert moved == free
    assert {name.partition("[")[0] for name in free} == {"weight_bandwidth", "gemm"}
    assert {"gemm", "gemm[dtype=fp8]", "weight_bandwidth[hardware=h100-sxm-80gb]"} <= free
    assert "weight_bandwidth" not in free
    words = dict(zip([p.name for p in layout.parameters], verdicts(fit), strict=True))
    assert words["weight_bandwidth"] == words["kv_bandwidth[era=cpp]"] == "fixed"
    assert words["gemm"] != "fixed"


def test_patterns_name_parameters() -> None:
    parameters = design(table().traits).parameters
    assert chosen(["gemm[]"], parameters) == {"gemm"}
    assert chosen(["*"], parameters) == {p.name for p in parameters}
    assert split_patterns(["gemm,ramp", "vector_attention[attention=cpp, 8 to 1]"]) == [
        "gemm",
        "ramp",
        "vector_attention[attention=cpp, 8 to 1]",
    ]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("gem", "--free: 'gem' is no factor; did you mean 'gemm'?"),
        ("logit_copies", "is a setting of the engine and is not fitted"),
        ("gemm[hardware=h100]", "did you mean 'gemm[hardware=h100-sxm-80gb]'"),
        ("ramp[era=cpp]", "it has no deviations"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        design(table().traits, free=[pattern])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_pattern_is_not_every_pattern() -> None:
    assert split_patterns([]) == []
    with pytest.raises(SpecError, match="names no factor"):
        split_patterns([" ,"])


@pytest.mark.slow
def test_a_factor_stops_at_its_bound_and_says_so() -> None:
    # Ten times as fast as the roofline: only shares above 1 could explain it.
    fit = fit_of(table().measured + np.log(10), max_evaluations=40)
    low, high = pooled().bounds
    assert (fit.vector >= low).all() and (fit.vector <= high).all()
    words = dict(zip(POOLED, verdicts(fit), strict=True))
    assert words["weight_bandwidth"] == "at bound"
    ends = dict(zip(POOLED, fit.vector, strict=True))
    assert np.exp(ends["weight_bandwidth"]) == pytest.approx(
        BOUNDS["weight_bandwidth"][1], rel=2e-3
    )


def test_every_prior_lies_within_its_bounds() -> None:
    assert set(BOUNDS) == set(PRIORS)
    for name, prior in PRIORS.items():
        low, high = BOUNDS[name]
        assert low < prior.typical < high


def test_a_prior_beyond_the_bounds_is_refused() -> None:
    for value in (0.0, 2.0):
        with pytest.raises(SpecError, match=r"--calibration: gemm is .*within 0.02 to 1.5"):
            centre = np.log(value) if value else -np.inf
            design(table().traits, centres={"gemm": (centre, 0.1)})


@pytest.mark.slow
def test_the_best_start_is_kept() -> None:
    fit = fit_of(table().measured, starts=3)
    assert len(fit.costs) == 3 + len(ALIKE)
    plain = (fit.errors / NOISE)[fit.fitted]
    departures = (fit.vector - pooled().centres) / pooled().widths
    # Half the sum of the pseudo-Huber losses and of the squared departures from the priors.
    cost = np.sum(np.sqrt(1 + plain**2) - 1) + np.sum(departures**2) / 2
    # Of starts they are told as each was left, and the best is followed further.
    assert min(fit.costs) * (1 - NEAR) < cost <= min(fit.costs)


# The command.


@pytest.mark.slow
def test_the_command_frees_reports_and_draws(tmp_path: Path) -> None:
    columns = (
        "id,engine,engine_version,scenario,model,hardware,tp,weight_dtype,isl,osl,metric,value"
    )
    lines = [",".join(str(getattr(r, c)) for c in columns.split(",")) for r in table().rows[::20]]
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join([columns, *lines]), encoding="utf-8")

    def call(*words: object) -> str:
        result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    fit, report = tmp_path / "fit.nc", tmp_path / "accuracy.md"
    said = call("fit", mine, "-o", fit, "--from", "tensorrt-llm", "--free", "gemm,ramp")
    assert "rows wait longest for memory in" in said
    twin = yaml.safe_load((tmp_path / "fit.yaml").read_text())
    assert twin["factors"]["attention"]["verdict"] == "fixed"
    before = load_calibration("tensorrt-llm")
    assert before is not None
    assert twin["factors"]["attention"]["value"] == before.factors["attention"].value
    assert len(twin["provenance"]["costs_of_starts"]) == STARTS
    assert "fixed" in call("show", fit)
    with xr.open_dataset(fit) as opened:
        assert opened.loading.dims == ("direction", "factor")
        assert opened.factor.values.tolist() == ["gemm", "ramp"]
        assert set(opened.hardware.values) <= set(twin["seen"]["hardware"])
    call("plot", fit, "-o", tmp_path / "fit.png", "--by", "model")
    shown = call("validate", mine, "--leave-out", "hardware", "-o", report, "--json")
    found = json.loads(shown[shown.index("[") :])
    assert [split["leave_out"] for split in found] == ["hardware"]
    assert {"mape", "spearman", "coverage"} <= set(found[0]["groups"][-1])
    assert "## Accelerators left out" in report.read_text()


def test_a_report_is_replaced_only_if_asked(tmp_path: Path) -> None:
    report = tmp_path / "accuracy.md"
    report.write_text("mine")
    with pytest.raises(ResultError, match="--force"):
        CliRunner().invoke(cli, ["validate", "rows.csv", "-o", str(report)], catch_exceptions=False)


@pytest.mark.slow
def test_deviations_alone_can_be_fitted(tmp_path: Path) -> None:
    # As the README has it for a new accelerator: no pooled factor is free.
    free = ["weight_bandwidth[hardware=*]"]
    found = calibrate(
        table(), name="mine", start_from=load_calibration("tensorrt-llm"), free=free, starts=1
    )
    save(found, tmp_path / "mine.nc", force=False)
    with xr.open_dataset(tmp_path / "mine.nc") as opened:
        assert opened.sizes["factor"] == opened.sizes["direction"] == 0
    said = sentences(found.calibration.factors, found.calibration.provenance)
    assert said[0] == "no pooled factor was free"


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -2.0)])
def test_damped_steps_find_the_minimum_that_scipy_finds(start: tuple[float, float]) -> None:
    """Rosenbrock's valley, with weak priors as a fit has them."""

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.asarray([10 * (x[1] - x[0] ** 2), 1 - x[0], 0.01 * x[0], 0.01 * x[1]])

    def jacobian(x: np.ndarray) -> np.ndarray:
        return np.asarray([[-20 * x[0], 10], [-1, 0], [0.01, 0], [0, 0.01]])

    options = {"ftol": 1e-12, "xtol": 1e-12, "max_nfev": 500}
    for bounds in ((-np.inf, np.inf), ([-5, -5], [5, 0.5])):
        found = damped_least_squares(
            residuals,
            np.asarray([start[0], min(start[1], 0.4)]),
            jacobian,
            bounds=bounds,
            **options,
        )
        again = least_squares(residuals, [0.5, 0.4], jacobian, bounds=bounds, **options)
        np.testing.assert_allclose(found.x, again.x, rtol=1e-4)
        assert found.cost == pytest.approx(again.cost, rel=1e-8)
        # Steps that reduce the cost as foretold are damped less: 25 evaluations, and not 60.
        assert found.nfev < 40


@pytest.mark.slow
def test_the_best_start_is_left_with_each_of_factors_alike_set_back() -> None:
    """A made-up search moves every parameter by 0.1, and ends lowest in its last minimum."""
    begun: list[np.ndarray] = []

    def moved(residuals: object, start: np.ndarray, *_: object, **__: object) -> SimpleNamespace:
        begun.append(start)
        return SimpleNamespace(x=start + 0.1, cost=10.0 - len(begun), nfev=1)

    fit = fit_of(table().measured, minimiser=moved)
    free, centres = fit.design.free, fit.design.centres
    factors = np.asarray([each.factor for each in fit.design.parameters])[free]
    np.testing.assert_allclose(begun[0], centres[free])
    expected = centres[free] + 0.1
    for start, name in zip(begun[1:3], ALIKE, strict=True):
        expected = np.where(factors == name, centres[free], expected)
        np.testing.assert_allclose(start, expected)
        expected = expected + 0.1
    # The search goes on from the lowest, without outliers.
    np.testing.assert_allclose(begun[3], expected)
    assert fit.costs == (9.0, 8.0, 7.0)
