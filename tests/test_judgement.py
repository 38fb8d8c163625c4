"""What a fit says of its own knowledge holds: errors, verdicts, bounds, intervals, flags."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner
from factories import shipped
from scipy.optimize import least_squares

from calibration.calibrate import calibrate
from calibration.cli.main import cli
from calibration.files import as_text, save
from calibration.fit.damped import damped_least_squares
from calibration.fit.forward import Forward
from calibration.fit.noise import EXPECTED_ROWS, NOISE, Data, noise_of, of_kinds
from calibration.fit.parameters import Design, chosen, design, split_patterns
from calibration.fit.priors import BOUNDS, PRIORS
from calibration.fit.solver import NEAR, THERE, Fit, solve
from calibration.fit.table import Table, tabulate
from calibration.fit.verdicts import (
    constrained_together,
    directions,
    regimes,
    rows_by_regime,
    sentences,
    verdicts,
)
from calibration.measurements.table import Measurement, read_measurements, without_suspects
from calibration.validation.accuracy_report import Judged, as_markdown, figures, kinds
from calibration.validation.conformal import conformal_halfwidth, independent_rows
from calibration.validation.group_spreads import (
    FOLDS,
    crossed_multiples,
    folds,
    multiples,
    spreads,
    widened,
)
from calibration.validation.half_widths import halfwidths, ranges
from calibration.validation.held_out import rank_correlation, splits, summary
from calibration.validation.predictions import predictions
from sweep.engines.calibration_checks import SPREADS
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.engines.prediction_interval import (
    PER_DOUBLING,
    UNMEASURED,
    WIDEST,
    Subjects,
    bands,
    beyond_bits,
    halfwidth,
    unseen_bits,
)
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.kernel.factors import FACTORS
from sweep.runs.check_results import check_dataset
from sweep.runs.run import run
from sweep.schema.intervals import BEYOND, CALIBRATED, UNSEEN

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


def simulated(seed: int, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """A truth drawn from the priors, within their bounds, and figures with noise."""
    random = np.random.default_rng(seed)
    low, high = pooled().bounds
    truth = np.clip(random.normal(pooled().centres, pooled().widths), low + 0.05, high - 0.05)
    figures_, _ = forward().log_figures(pooled().values(truth))
    return truth, figures_ + random.normal(0, noise, len(figures_))


def row(**changes: object) -> Measurement:
    given = {
        "engine": "tensorrt-llm",
        "engine_version": "1.0.0",
        "scenario": "inflight",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "isl": 1000,
        "osl": 1000,
        "metric": "output_throughput",
    }
    return Measurement(**(given | changes))


# Errors and verdicts.


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_intervals_of_determined_factors_hold_as_often_as_they_say(noise: float) -> None:
    inside = []
    for seed in range(20):
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
def test_fifty_rows_narrow_an_interval_that_fifty_copies_do_not() -> None:
    first, *others = table().rows[:51]
    copies = [first.model_copy(update={"id": f"copy {n}"}) for n in range(50)]
    given = tabulate([*others, *copies], shipped())
    kernel, layout = Forward(given.groups, FACTORS), design(given.traits, priors=POOLED)

    def error(rows: range, weights: np.ndarray) -> float:
        fit = solve(kernel, layout, given.measured, rows, weights)
        return float(np.sqrt(fit.covariance[place, place]))

    place = list(POOLED).index("gemm")
    one = error(range(50, 51), np.ones(100))
    assert error(range(50, 100), given.weights) == pytest.approx(one, rel=0.01)
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
def test_what_is_wildly_off_is_named_and_pulls_no_more() -> None:
    plain, wild = fit_of(table().measured), table().measured.copy()
    hit = [3, 50, 77]
    wild[hit] += np.log(20)
    pulled = fit_of(wild)
    assert set(hit) <= set(pulled.set_aside) <= set(hit) | set(plain.set_aside)
    assert (pulled.weights[hit] == 0).all() and (pulled.weights > 0).sum() > 0.95 * len(wild)
    left_out = fit_of(wild, np.setdiff1d(np.arange(len(wild)), pulled.set_aside))
    moved = np.abs(pulled.vector - left_out.vector) / np.sqrt(np.diag(left_out.covariance))
    # A step that gains less than `THERE` of the cost ends a fit: half a squared error is the cost.
    assert moved.max() < np.sqrt(2 * THERE * min(left_out.costs))
    said = sentences({}, {"rows_set_aside": [f"row {n}" for n in range(5)]})
    assert "excluded as outliers (more than 10 × the noise): row 0, row 1, row 2 and 2 more" in said


@pytest.mark.slow
def test_a_fit_goes_on_where_lapack_finds_no_singular_values() -> None:
    plain, solvers = fit_of(table().measured), []

    def fails(*given: object, tr_solver: str, **how: object) -> object:
        solvers.append(tr_solver)
        if tr_solver == "exact":
            raise np.linalg.LinAlgError("SVD did not converge")
        return least_squares(*given, tr_solver=tr_solver, **how)

    again = fit_of(table().measured, minimiser=fails)
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
    assert len(fit.costs) == 3
    plain = (fit.errors / NOISE)[fit.fitted]
    departures = (fit.vector - pooled().centres) / pooled().widths
    # Half the sum of the pseudo-Huber losses and of the squared departures from the priors.
    cost = np.sum(np.sqrt(1 + plain**2) - 1) + np.sum(departures**2) / 2
    # Of starts they are told as each was left, and the best is followed further.
    assert min(fit.costs) * (1 - NEAR) < cost <= min(fit.costs)


# Intervals, ranges, flags.


def test_ranks_are_told_from_sizes() -> None:
    measured = np.log([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(np.asarray([0.5, 0.5, 0.5, 0.6]), measured) == pytest.approx(1)
    assert rank_correlation(-2 * measured, measured) == pytest.approx(-1)
    assert "spearman" not in summary(np.zeros(4), np.zeros(4))


def test_half_the_width_holds_nine_in_ten() -> None:
    assert conformal_halfwidth(np.linspace(-0.99, 1.0, 200)) == pytest.approx(0.905, abs=0.01)
    assert conformal_halfwidth(np.asarray([np.nan])) == np.inf


@pytest.mark.parametrize(
    ("count", "width"),
    [
        # Nine tenths of eleven are ten of ten rows, nine tenths of twenty eighteen of nineteen.
        (10, 10.0),
        (19, 1 + 18 * 18 / 19),
        # Nine tenths of thirty-two are 28.8: 29 of 31.
        (31, 1 + 30 * 29 / 31),
        (3, 3.0),
    ],
)
def test_one_more_row_than_was_seen_is_within_the_width(count: int, width: float) -> None:
    errors = np.arange(1.0, count + 1)
    assert conformal_halfwidth(-errors) == pytest.approx(width)
    # Of that many groups of ten rows each, alike within: the same of groups.
    labels = np.repeat(np.arange(count), 10)
    assert conformal_halfwidth(np.repeat(errors, 10), labels) == pytest.approx(width)


def test_groups_are_worth_as_many_rows_as_their_rows_are_independent() -> None:
    alike = [np.full(10, value) for value in (0.0, 1.0, 1.0, 0.0)]
    assert independent_rows(alike) == pytest.approx(4)
    # Each group has the same rows: groups differ less than by chance.
    assert independent_rows([np.arange(10.0)] * 4) == pytest.approx(40)
    # Two groups of two: means 1/4 and 3/4, 1/4 between and 1/8 within, so that ρ is a third and
    # each is worth 2 / (1 + 1/3) rows.
    pair = [np.asarray([0.0, 0.5]), np.asarray([0.5, 1.0])]
    assert independent_rows(pair) == pytest.approx(2 * 2 / (1 + 1 / 3))
    # Of groups of 10 rows and of 1, all independent, that of 1 row has half of the weight.
    assert independent_rows([np.arange(10.0), np.asarray([4.5])]) == pytest.approx(4 / 1.1)


@pytest.mark.parametrize("count", [9, 14, 30])
def test_nine_of_ten_rows_of_a_new_group_are_within_the_width(count: int) -> None:
    random, rows, inside = np.random.default_rng(1), 20, []
    labels = np.repeat(np.arange(count), rows)
    for _ in range(300):
        bias, deviation = random.normal(0, 0.5, count + 1), np.exp(random.normal(0, 0.5, count + 1))
        errors = random.normal(bias[:, None], deviation[:, None], (count + 1, rows))
        width = conformal_halfwidth(errors[:-1].ravel(), labels)
        inside.append(np.mean(np.abs(errors[-1]) <= width))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.025)


def test_intervals_hold_as_often_in_groups_of_wide_errors_as_in_others() -> None:
    random = np.random.default_rng(0)
    groups = {
        "hardware": random.choice(["calm", "wild"], 4000, p=[0.9, 0.1]),
        "model": random.choice(["dense", "sparse"], 4000),
    }
    true = np.where(groups["hardware"] == "wild", 3.0, 1.0) * np.where(
        groups["model"] == "sparse", 2.0, 1.0
    )
    errors = random.normal(0, 0.05 * true)
    found = spreads(groups, np.full(4000, "inflight"), errors)
    by_machine, by_model = found["hardware"], found["model"]
    assert by_machine["wild"] / by_machine["calm"] == pytest.approx(3, rel=0.2)
    assert by_model["sparse"] / by_model["dense"] == pytest.approx(2, rel=0.1)
    usual = multiples(found, groups)
    inside = np.abs(errors) <= conformal_halfwidth(errors / usual) * usual
    for labels in groups.values():
        for name in np.unique(labels):
            assert np.mean(inside[labels == name]) == pytest.approx(0.9, abs=0.04), name


def test_a_group_of_few_rows_is_as_wide_as_the_rest() -> None:
    groups = {"hardware": np.asarray(["many"] * 500 + ["one"])}
    errors = np.append(np.full(500, 0.05), 5.0)
    found = spreads(groups, np.full(501, "inflight"), errors)["hardware"]
    assert found["many"] == pytest.approx(1, abs=0.2)
    # One row counts for at most five of the twenty-one that it is reckoned with.
    assert found["one"] < 1.25


def test_a_spread_is_pulled_to_one_by_twenty_rows() -> None:
    groups = {"hardware": np.repeat(["calm", "wild"], [10, 30])}
    errors = np.append(np.full(10, 0.1), np.full(30, -0.3))
    # A mean of 0.25: the ten have 0.4 of it, the thirty 1.2.
    found = spreads(groups, np.full(40, "inflight"), errors)["hardware"]
    assert found == {"calm": round((4 + 20) / 30, 3), "wild": round((36 + 20) / 50, 3)}
    # Rows without an error count for nothing.
    more = {"hardware": np.append(groups["hardware"], ["wild"] * 5)}
    again = spreads(more, np.full(45, "inflight"), np.append(errors, np.full(5, np.nan)))
    assert again["hardware"] == found


def test_a_crossed_spread_is_that_of_the_other_labels() -> None:
    groups = {"hardware": np.repeat(["calm", "wild"], 40), "model": np.tile(["a", "b"], 40)}
    errors = np.where(groups["hardware"] == "wild", 0.3, 0.1)
    kinds = np.full(80, "inflight")
    found = crossed_multiples(groups, kinds, errors, groups["hardware"])
    # Neither accelerator is known without its own rows, and the models do not differ.
    assert found == pytest.approx(1, abs=0.01)
    by_model = crossed_multiples(groups, kinds, errors, groups["model"])
    of_others = spreads(groups, kinds, np.where(groups["model"] == "a", np.nan, errors))
    assert by_model[0] == of_others["hardware"]["calm"] < 0.8
    alone = crossed_multiples(groups, kinds, errors, np.full(80, "one"))
    assert alone == pytest.approx(1)


def test_intervals_hold_for_new_rows_where_groups_are_many_and_small() -> None:
    inside: dict[str, list[float]] = {"known": [], "crossed": []}
    for seed in range(60):
        random = np.random.default_rng(seed)
        groups = {name: random.integers(0, 12, 160).astype(str) for name in "abc"}
        errors, kinds = random.normal(0, 0.1, 160), np.full(160, "inflight")
        seen, new = np.arange(160) < 80, np.arange(160) >= 80
        usual = multiples(spreads(groups, kinds, np.where(seen, errors, np.nan)), groups)
        own = {name: labels[seen] for name, labels in groups.items()}
        crossed = crossed_multiples(own, kinds[seen], errors[seen], folds(np.arange(80)))
        for how, judged in (("known", usual[seen]), ("crossed", crossed)):
            width = conformal_halfwidth(errors[seen] / judged) * usual[new]
            inside[how].append(float(np.mean(np.abs(errors[new]) <= width)))
    assert np.mean(inside["crossed"]) == pytest.approx(0.9, abs=0.02)
    assert np.mean(inside["known"]) < np.mean(inside["crossed"]) - 0.02


def test_folds_keep_rows_of_one_label_together() -> None:
    labels = np.repeat([f"run {number}" for number in range(40)], 3)
    found = folds(labels)
    assert np.bincount(found).tolist() == [12] * FOLDS
    assert all(len(np.unique(found[labels == name])) == 1 for name in labels)


def test_ranges_are_those_of_the_rows() -> None:
    given = [
        row(id="a", isl=100, osl=10, tp=2, concurrency=7),
        row(id="b", isl=900, osl=20, concurrency=3),
        row(id="c", scenario="static_batch", batch_size=64),
    ]
    found = ranges(tabulate(given, shipped()), {"inflight": {"isl": [50, 200]}})
    assert found["inflight"] == {
        "isl": [50, 900],
        "osl": [10, 20],
        "gpus": [1, 2],
        "concurrency": [3, 7],
        # Three on one GPU, seven on two.
        "load": [3, 3.5],
    }
    assert found["static_batch"]["batch_size"] == [64, 64]


def calibration(**changes: object) -> Calibration:
    given: dict[str, object] = {
        "name": "mine",
        "factors": {"gemm": {"value": 0.7}},
        "halfwidths": {
            "static_batch": {"seen": 0.1, "beyond_batch": 0.2, "unseen_family": 0.3},
            "first_token": {"seen": 0.4},
            "inflight": {"seen": 0.05, "beyond_length": 0.13},
        },
        "seen": {
            "model": ["llama-3.1-8b"],
            "hardware": ["h100-sxm-80gb"],
            "dtype": ["half"],
            "family": ["llama"],
        },
        "ranges": {
            "static_batch": {"batch_size": [1, 64], "isl": [1, 2000], "gpus": [1, 2]},
            "inflight": {"concurrency": [8, 512], "osl": [10, 2000]},
        },
    }
    return Calibration(**(given | changes))


def test_intervals_widen_with_what_is_new() -> None:
    widths = calibration().halfwidths
    assert halfwidth(widths, ("static_batch",), 0) == 0.1
    assert halfwidth(widths, ("static_batch",), BEYOND["beyond_batch"]) == pytest.approx(0.2)
    # In squares: 0.1² + (0.2² − 0.1²) + (0.15² − 0.1²), the last for what no row measures.
    both = BEYOND["beyond_batch"] | BEYOND["beyond_gpus"]
    assert UNMEASURED == 1.5
    assert halfwidth(widths, ("static_batch",), both) == pytest.approx(np.sqrt(0.0525))
    # A model of a new family is new for one reason, not for two.
    family = UNSEEN["unseen_family"]
    assert halfwidth(widths, ("static_batch",), family | UNSEEN["unseen_model"]) == pytest.approx(
        0.3
    )
    assert halfwidth(widths, ("inflight", "first_token"), 0) == 0.4
    assert np.isnan(halfwidth({}, ("inflight",), 0))


def swept(efficiency: Calibration) -> xr.Dataset:
    grid = Grid(
        models=["llama-3.1-8b", "qwen2-7b"],
        hardware=["h100-sxm-80gb"],
        precision=["fp16"],
        tp=[1, 4],
        batch_size=[8, 128],
        concurrency=[1, 64],
        isl=[100, 4000],
        osl=[500, 4000],
        variables=list(CALIBRATED),
    )
    return run(grid, efficiency=efficiency)


@pytest.mark.slow
def test_a_sweep_flags_what_lies_beyond_the_rows() -> None:
    found = swept(calibration())
    seen = found.sel(model="llama-3.1-8b", tp=1)
    static = seen.extrapolation.squeeze(drop=True)
    assert static.dims == ("batch_size", "isl", "osl")
    assert static.sel(osl=500).values.tolist() == [[0, 32], [16, 48]]
    assert (found.extrapolation.sel(tp=4) & BEYOND["beyond_gpus"] > 0).all()
    new = found.extrapolation.sel(model="qwen2-7b")
    assert (new & 10 == UNSEEN["unseen_model"] | UNSEEN["unseen_family"]).all()
    inflight = seen.inflight_extrapolation.squeeze(drop=True)
    assert inflight.dims == ("concurrency", "isl", "osl")
    # One request open is fewer than any row held.
    assert inflight.sel(isl=100).values.tolist() == [[16, 48], [0, 32]]
    assert "osl" not in found.ttft_extrapolation.dims
    width = np.log(found.tpot_upper / found.tpot).sel(model="llama-3.1-8b", tp=1, isl=100)
    np.testing.assert_allclose(width.sel(batch_size=8), 0.1, rtol=1e-4)
    # A new batch size has twice the width, and 128 is one doubling beyond 64: √(1 + 0.55²) of that.
    beyond = 0.2 * np.hypot(1, PER_DOUBLING)
    np.testing.assert_allclose(width.sel(batch_size=128), beyond, rtol=1e-4)
    assert check_dataset(found) == []


@pytest.mark.slow
def test_intervals_are_wider_where_errors_are() -> None:
    kinds_of = {"hardware": {"h100-sxm-80gb": 2.0}, "model": {"qwen2-7b": 1.5}}
    plain, spread = swept(calibration()), swept(calibration(spreads=kinds_of))
    over = np.log(spread.tpot_upper / spread.tpot) / np.log(plain.tpot_upper / plain.tpot)
    np.testing.assert_allclose(over.sel(model="llama-3.1-8b"), 2, rtol=1e-3)
    np.testing.assert_allclose(over.sel(model="qwen2-7b"), 3, rtol=1e-3)
    told = predictions(tabulate([row(id="a", osl=500)], shipped()), calibration(spreads=kinds_of))
    assert np.log(told["upper"] / told["predicted"]).item() == pytest.approx(0.1)


@pytest.mark.slow
def test_every_interval_brackets_its_variable() -> None:
    found = swept(calibration())
    for name in CALIBRATED:
        whole = found[name]
        lower, upper = found[f"{name}_lower"], found[f"{name}_upper"]
        inside = (lower < whole) & (whole < upper)
        # Prompts that find room do not wait, and their interval is a point.
        at_once = (whole == 0) & (upper == 0) & (name == "inflight_queue_time")
        assert (inside | at_once | whole.isnull()).all(), name
        assert f"{name}_lower" in whole.attrs["ancillary_variables"]


@pytest.mark.slow
def test_a_row_and_a_sweep_get_the_same_flags() -> None:
    rows = [row(id=f"{open_}", concurrency=open_, isl=4000, osl=500) for open_ in (1, 64)]
    told = predictions(tabulate(rows, shipped()), calibration())
    assert told["flags"].tolist() == ["beyond_batch", ""]
    found = swept(calibration()).sel(model="llama-3.1-8b", tp=1, isl=4000, osl=500)
    lower = found.inflight_output_throughput_lower.values.ravel()
    np.testing.assert_allclose(lower, told["lower"], rtol=1e-3)


def test_an_older_calibration_flags_no_range_and_no_family() -> None:
    mine = calibration(ranges={}, seen={"model": [], "hardware": ["h"], "dtype": ["half"]})
    one = Subjects(*map(np.asarray, ("m", "f", "none", "h", "half", "0.21.0")))
    assert unseen_bits(mine.seen, one) == UNSEEN["unseen_model"]
    assert beyond_bits({}, {"batch_size": np.asarray(1e9)}) == 0
    assert load_calibration("tensorrt-llm") is not None


# Files and the command.


def test_a_report_tells_kinds_of_runs_apart() -> None:
    given = [
        row(id="a", value=1.0),
        row(id="b", value=2.0, engine_version="0.10.0"),
        row(id="c", value=2.0, model="mixtral-8x7b", hardware="h200-sxm-141gb", tp=2),
        row(id="d", value=2.0, scenario="static_batch", batch_size=8, quality="doubtful"),
    ]
    rows = tabulate(given, shipped())
    assert kinds(rows).tolist() == [
        "in flight, dense models",
        "in flight, version 0.10",
        "in flight, mixtures of experts",
        "static batches",
    ]
    judged = Judged("model", np.log([1.1, 0.9, 1.2, 5.0]), np.asarray([True, True, False, False]))
    found = {figure["group"]: figure for figure in figures(rows, judged, rows.labels("model"))}
    # Half of 10 % and 10 %; what is doubtful judges nothing.
    assert found["llama-3.1-8b"]["rows"] == 2
    assert found["llama-3.1-8b"]["mape"] == pytest.approx(0.1)
    assert found["mixtral-8x7b"]["coverage"] == 0
    text = as_markdown(rows, [judged], "llm-calibrate validate mine.csv")
    assert "| mixtral-8x7b | 1 | 20.0 % |" in text
    assert "llm-calibrate validate mine.csv" in text


@pytest.mark.parametrize(
    ("leave_out", "groups"),
    [
        ("family", {"llama": [0, 1, 2], "mistral": [3]}),
        (
            "architecture",
            {"llama-3.1-8b": [0], "llama-3-70b, llama-3.3-70b": [1, 2], "mistral-7b-v0.1": [3]},
        ),
    ],
)
def test_a_family_is_left_out_in_all_sizes_and_an_architecture_in_all_releases(
    leave_out, groups
) -> None:
    models = ("llama-3.1-8b", "llama-3-70b", "llama-3.3-70b", "mistral-7b-v0.1")
    given = tabulate([row(id=name, model=name) for name in models], shipped())
    found = {name: places.tolist() for name, _, places in splits(given, leave_out)}
    assert found == groups


def test_an_interval_of_what_is_new_holds_for_nine_of_ten_rows_of_a_group() -> None:
    # Errors of nought to 1, 2, 3 and 4 in groups of 99, one of 1,000 and one too small to count.
    sizes = {"a": (1, 99), "b": (2, 99), "c": (3, 99), "d": (4, 99), "e": (3, 1000), "f": (9, 9)}
    errors = np.concatenate([np.linspace(0, top, count) for top, count in sizes.values()])
    labels = np.concatenate([[name] * count for name, (_, count) in sizes.items()])
    # A sixth group may lie anywhere among five: none of them stands for nine of ten.
    assert conformal_halfwidth(errors, labels) == pytest.approx(0.9 * 4, rel=0.02)
    assert conformal_halfwidth(errors[-9:], labels[-9:]) == 9
    # Of nineteen, each counts the same: x contains all of the groups up to x and x/k of group k.
    many = np.concatenate([np.linspace(0, top, 99) for top in range(1, 20)])
    of_many = np.repeat(np.arange(19), 99)
    width = conformal_halfwidth(many, of_many)
    assert np.mean([min(width / top, 1) for top in range(1, 20)]) == pytest.approx(0.9, abs=0.01)
    # So does a group of many rows.
    more = np.concatenate([many, np.linspace(0, 19, 9999)])
    of_more = np.concatenate([of_many, np.full(9999, 18)])
    assert conformal_halfwidth(more, of_more) == pytest.approx(width, rel=0.02)


def test_halves_of_served_configurations_have_all_metrics_of_each() -> None:
    metrics = ("tpot", "ttft", "output_throughput")
    given = tabulate(
        [
            *(
                row(id=f"{clients} {metric}", concurrency=clients, metric=metric)
                for clients in range(1, 41)
                for metric in metrics
            ),
            *(row(id=f"saturated {isl}", isl=isl) for isl in range(100, 120)),
        ],
        shipped(),
    )
    (odd, without_odd, of_odd), (even, _, of_even) = splits(given, "half")
    assert (odd, even) == ("odd", "even")
    assert sorted([*of_odd, *of_even]) == list(range(120))
    assert sorted([*without_odd, *of_odd]) == list(range(140))
    runs = [given.rows[place].concurrency for place in of_odd]
    assert all(runs.count(clients) == len(metrics) for clients in runs)
    assert 10 <= len(set(runs)) <= 30
    # A run is in its half whatever other rows a table has.
    alone = tabulate([given.rows[of_odd[0]]], shipped())
    assert alone.labels("half").tolist() == ["odd"]
    assert list(splits(tabulate([given.rows[-1]], shipped()), "half")) == []


def test_versions_are_predicted_from_those_before() -> None:
    given = [row(id=version, engine_version=version) for version in ("1.0.0", "0.9.0", "0.10.0")]
    found = [
        (name, fitted.tolist(), predicted.tolist())
        for name, fitted, predicted in splits(tabulate(given, shipped()), "version")
    ]
    assert found == [("0.10.0", [1], [2]), ("1.0.0", [1, 2], [0])]


@pytest.mark.slow
def test_the_command_frees_reports_and_draws(tmp_path: Path) -> None:
    columns = (
        "id,engine,engine_version,scenario,model,hardware,tp,weight_dtype,isl,osl,metric,value"
    )
    lines = [",".join(str(getattr(r, c)) for c in columns.split(",")) for r in table().rows[:40]]
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
    assert len(twin["provenance"]["costs_of_starts"]) == 3
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


@pytest.mark.slow
def test_deviations_alone_can_be_fitted(tmp_path: Path) -> None:
    # As the README has it for a new accelerator: no pooled factor is free.
    free = ["weight_bandwidth[hardware=*]"]
    found = calibrate(table(), name="mine", start_from=shipped_fit(), free=free, starts=1)
    save(found, tmp_path / "mine.nc", force=False)
    with xr.open_dataset(tmp_path / "mine.nc") as opened:
        assert opened.sizes["factor"] == opened.sizes["direction"] == 0
    said = sentences(found.calibration.factors, found.calibration.provenance)
    assert said[0] == "no pooled factor was free"


def shipped_fit() -> Calibration:
    found = load_calibration("tensorrt-llm")
    assert found is not None
    return found


def test_a_fit_with_ranges_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(as_text(calibration()), encoding="utf-8")
    again = load_calibration(path)
    assert again is not None
    assert again.digest == calibration().digest


@pytest.mark.slow
def test_a_row_that_is_not_of_the_calibration_says_so() -> None:
    mine = calibration(engine="tensorrt-llm")
    given = {"concurrency": 64, "osl": 500, "engine": "tensorrt-llm", "engine_version": "1.0.0"}
    changes = [
        {},
        {"engine": "vllm"},
        {"engine_version": ""},
        {"engine_version": "nightly"},
        {"model": "llama-3.1-70b", "precision": "fp16"},
    ]
    rows = [row(**given | change | {"id": str(n)}) for n, change in enumerate(changes)]
    told = predictions(tabulate(rows, shipped()), mine)
    assert told["flags"].tolist() == [
        "",
        "unseen_hardware unseen_model unseen_dtype unseen_family other_engine",
        "unknown_version",
        "unknown_version",
        "unseen_model infeasible",
    ]
    width = np.log(told["upper"] / told["predicted"]).to_numpy()
    assert width[0] == pytest.approx(0.05)
    # Four times as much as no row measures: 0.05²·(1 + 3·1.25) for three reasons, of which a new
    # family is one with its models.
    assert width[1] == pytest.approx(0.05 * np.sqrt(1 + 3 * 1.25))
    np.testing.assert_allclose(width[2:4], 0.05 * UNMEASURED)


def test_a_fit_from_a_calibration_widens_what_its_rows_exceed() -> None:
    known = calibration(spreads={"version": {"mine 1": 2.0}})
    groups = {"version": np.repeat(["mine 1", "mine 2", "mine 3"], 20)}
    errors = np.concatenate([np.full(20, 0.05), np.full(20, -0.2), np.full(20, 0.9)])
    scenarios = np.repeat(["inflight", "inflight", "unjudged"], 20)
    found = widened(known, groups, scenarios, errors)["version"]
    # Errors of half of 0.05·2 leave it; four times 0.05 makes it four; nothing to compare with.
    assert found == {"mine 1": 2.0, "mine 2": 4.0}


def test_errors_of_mistyped_figures_make_no_interval_that_a_file_cannot_have() -> None:
    known = calibration(spreads={"version": {"mine 1": 2.0}})
    groups = {"version": np.asarray(["mine 1"])}
    found = widened(known, groups, np.asarray(["inflight"]), np.asarray([700.0]))
    assert found["version"] == {"mine 1": SPREADS[1]}
    fit = fit_of(table().measured)
    far = dataclasses.replace(fit, errors=fit.errors + 30.0, settled=fit.settled + 30.0)
    widths = halfwidths(table(), far)["inflight"]
    assert widths["seen"] == WIDEST
    assert max(widths.values()) == WIDEST


def test_bands_of_requests_and_gpus() -> None:
    nothing = np.nan
    found = bands(
        {
            "batch_size": np.asarray([8.0, 9.0, nothing, nothing]),
            "concurrency": np.asarray([nothing, nothing, 65.0, nothing]),
            "gpus": np.asarray([1.0, 2.0, 3.0, 8.0]),
        }
    )
    assert found["requests"].tolist() == ["to 8", "to 64", "above 64", "full"]
    assert found["gpus"].tolist() == ["to 1", "to 2", "to 4", "above 4"]
    # A static batch, and a server without a limit.
    assert bands({"batch_size": np.asarray(64.0)})["requests"] == "to 64"
    assert bands({"gpus": np.asarray(1.0)})["requests"] == "full"


@pytest.mark.slow
def test_an_interval_is_as_wide_as_its_band() -> None:
    spreads_of = {"requests": {"to 8": 2.0}, "gpus": {"above 4": 1.5}}
    mine = calibration(spreads=spreads_of, ranges={}, engine="tensorrt-llm")
    given = {"osl": 500, "engine_version": "1.0.0"}
    loads = [(8, 1), (64, 1), (8, 8), (64, 8)]
    rows = [row(id=f"{c} {tp}", concurrency=c, tp=tp, **given) for c, tp in loads]
    told = predictions(tabulate(rows, shipped()), mine)
    width = np.log(told["upper"] / told["predicted"])
    np.testing.assert_allclose(width, 0.05 * np.asarray([2.0, 1.0, 3.0, 1.5]))


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
