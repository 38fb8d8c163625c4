"""Intervals hold as often as they say: spreads, ranges, flags, groups that are left out."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from factories import shipped
from measured_rows import row

from calibration.files import as_text
from calibration.fit.table import tabulate
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
from calibration.validation.half_widths import ranges
from calibration.validation.held_out import (
    interval_coverage,
    rank_correlation,
    splits,
    summary,
)
from calibration.validation.predictions import predictions
from sweep.engines.calibration_checks import SPREADS
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.engines.prediction_interval import (
    PER_DOUBLING,
    UNMEASURED,
    Subjects,
    bands,
    beyond_bits,
    halfwidth,
    unseen_bits,
)
from sweep.grid.grid import Grid
from sweep.runs.check_results import check_dataset
from sweep.runs.run import run
from sweep.schema.intervals import BEYOND, CALIBRATED, OF_WAITS, UNSEEN


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


def test_first_tokens_of_clients_stand_in_for_those_of_static_batches() -> None:
    """Wider ones, and a batch of prompts is compared with clients that send theirs at once."""
    widths = {"inflight": {"seen": 0.05}, "inflight_ttft": {"seen": 0.3, "beyond_batch": 0.5}}
    assert halfwidth(widths, ("first_token",), 0) == 0.3
    assert halfwidth(widths | {"first_token": {"seen": 0.2}}, ("first_token",), 0) == 0.2
    assert np.isnan(halfwidth({"inflight": {"seen": 0.05}}, ("first_token",), 0))
    clients = {"inflight": {"concurrency": [8, 512]}, "inflight_ttft": {"concurrency": [8, 512]}}
    known = calibration(halfwidths=widths, ranges=clients)
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["h100-sxm-80gb"],
        precision=["fp16"],
        batch_size=[1, 512, 1024],
        isl=[100],
        osl=[8],
        variables=["ttft"],
    )
    found = run(grid, calibration=known).squeeze()
    assert found.ttft_extrapolation.values.tolist() == [0, 0, BEYOND["beyond_batch"]]
    beyond = 0.5 * np.hypot(1, PER_DOUBLING)
    width = np.log(found.ttft_upper / found.ttft).values
    assert width == pytest.approx([0.3, 0.3, beyond], rel=1e-4)


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
def test_a_variable_of_which_a_calibration_has_no_interval_passes_the_check() -> None:
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["mi300x"],
        batch_size=[1],
        isl=[128],
        osl=[64],
        variables=["ttft", "tpot"],
    )
    found = run(grid, calibration="vllm-rocm")
    assert not {"first_token", "inflight_ttft"} & set(load_calibration("vllm-rocm").halfwidths)
    assert found.ttft.notnull().all() and found.ttft_lower.isnull().all()
    assert found.tpot_lower.notnull().all()
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
        # A server with clients that fill it is not busier than all of the time.
        full = (name == "inflight_utilisation") & (lower < whole) & (whole == 1) & (upper == 1)
        assert (inside | at_once | full | whole.isnull()).all(), name
        assert f"{name}_lower" in whole.attrs["ancillary_variables"]
    for end, other in (("lower", "upper"), ("upper", "lower")):
        wrong = found[f"tpot_{end}"].copy(data=found[f"tpot_{other}"].values)
        (problem,) = check_dataset(found.assign({f"tpot_{end}": wrong}))
        assert problem.startswith(f"variable tpot_{end} is ")


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
    versions = figures(rows, judged, np.asarray(["0.10.0", "0.9.0", "0.9.0", "0.9.0"]))
    assert [figure["group"] for figure in versions] == ["0.9.0", "0.10.0"]
    text = as_markdown(rows, [judged], "llm-calibrate validate mine.csv")
    assert "| mixtral-8x7b | 1 | 20.0 % |" in text
    assert "llm-calibrate validate mine.csv" in text


def test_versions_are_covered_alike_whatever_their_errors() -> None:
    models = ("llama-3.1-8b", "mistral-7b-v0.1", "llama-3-70b")
    given = [
        row(id=f"{model} {version} {n}", model=model, engine_version=version, tp=8, concurrency=n)
        for model in models
        for version in ("0.19.0", "0.20.0")
        for n in range(1, 11)
    ]
    # Ten errors from 1 % to 10 % in one version, from 3 % to 30 % in the other.
    errors = np.tile(np.outer([1.0, 3.0], np.linspace(0.01, 0.1, 10)).ravel(), len(models))
    covered = interval_coverage(tabulate(given, shipped()), errors, "model")
    shares = covered.reshape(len(models), 2, 10).mean(axis=(0, 2))
    np.testing.assert_allclose(shares, 0.9, atol=0.11)


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
    # Nine of ten rows in nine of ten groups take more, and are 98 % of the rows of a new one.
    assert np.mean([min(0.9 * 18 / top, 1) for top in range(1, 20)]) > 0.98
    assert 0.6 * 19 < width < 0.9 * 18
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


def test_errors_of_mistyped_figures_make_no_spread_that_a_file_cannot_have() -> None:
    known = calibration(spreads={"version": {"mine 1": 2.0}})
    groups = {"version": np.asarray(["mine 1"])}
    found = widened(known, groups, np.asarray(["inflight"]), np.asarray([700.0]))
    assert found["version"] == {"mine 1": SPREADS[1]}


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


def test_a_wait_is_judged_as_the_time_that_it_is_part_of() -> None:
    assert {CALIBRATED[name].scenarios for name in OF_WAITS} == {
        CALIBRATED["inflight_ttft"].scenarios
    }
