"""Deployments ranked under limits: as brute force ranks them, and nothing left out in silence."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import model, shipped

import sweep
from sweep.cli.catalog_tables import figure_rows
from sweep.decisions import recommend_text as advice
from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployment_table import read_deployments
from sweep.decisions.deployments import INFLIGHT, Deployments, Offer
from sweep.decisions.figures.front import flagged, front_figure
from sweep.decisions.figures.rooflines import roofline_figure
from sweep.decisions.figures.style import save_figure
from sweep.decisions.load_search import refined
from sweep.decisions.machines_on_offer import solid_hardware
from sweep.decisions.prices import parse_prices, price_of, read_prices
from sweep.decisions.ratio_interval import ratio, ratio_halfwidth
from sweep.decisions.recommend import Demand, Limits, Recommendation, pareto_front, recommend
from sweep.decisions.recommend_notes import notes, quoted_errors
from sweep.decisions.replicas import loads_of, replica_counts
from sweep.decisions.specs_by_name import SpecsByName
from sweep.decisions.throughput_elasticities import throughput_elasticities
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.errors import SpecError
from sweep.schema.intervals import EXTRAPOLATION
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import parse

MODEL, ISL, OSL = "llama-3.1-8b", 512, 128
MACHINES = ("l20", "rtx-4090", "h100-sxm-80gb")
PRECISIONS = ("fp16", "fp8")
PRICES = {"l20": 0.9, "rtx-4090": 0.4, "h100-sxm-80gb": 2.5}
OFFER = Offer(MACHINES, PRECISIONS, tp=(1, 2), pp=(1,))
POWER = {name: shipped().hardware(name).tdp_w or math.nan for name in MACHINES}


MOST = 2048


def offered(demand: Demand) -> Deployments:
    """Deployments swept for a demand."""
    return sweep_deployments(
        MODEL,
        OFFER,
        isl=ISL,
        osl=OSL,
        concurrency=demand.concurrency,
        catalog=shipped(),
        calibration=load_calibration("tensorrt-llm"),
        replicas=demand.replicas,
        limits=demand.limits,
    )


@pytest.fixture(scope="module")
def deployments() -> Deployments:
    return offered(Demand())


@pytest.fixture(scope="module")
def swept():
    """The same deployments at every load, as a sweep that knows nothing of recommendations."""
    return sweep.run(
        sweep.Grid(
            models=[MODEL],
            hardware=list(MACHINES),
            precision=list(PRECISIONS),
            tp=[1, 2],
            concurrency=list(range(1, MOST + 1)),
            isl=[ISL],
            osl=[OSL],
            variables=[
                "inflight_output_throughput",
                "inflight_ttft",
                "inflight_tpot",
                "inflight_concurrency",
            ],
        ),
        efficiency="tensorrt-llm",
    )


def found(deployments: Deployments, demand: Demand, **more: Any) -> Recommendation:
    return recommend(deployments, demand, prices=PRICES, **more)


def shared(one: dict[str, np.ndarray], total: int, count: int) -> tuple[float, float, float, int]:
    """Throughput, latencies and busiest load of so many replicas, added up one by one."""
    loads = [total // count + (number < total % count) for number in range(count)]
    if any(one["concurrency"][load - 1] < load for load in {*loads}):
        return math.nan, math.nan, math.nan, 0
    throughput = sum(float(one["output_throughput"][load - 1]) for load in loads)
    ttft, tpot = (max(float(one[name][load - 1]) for load in loads) for name in ("ttft", "tpot"))
    return throughput, ttft, tpot, max(loads)


def choices(one: dict[str, np.ndarray], demand: Demand):
    """Replicas, their throughput, latencies and the load of the busiest, by brute force."""
    if demand.concurrency is not None:
        for count in [demand.replicas] if demand.replicas else range(1, demand.concurrency + 1):
            yield count, *shared(one, demand.concurrency, count)
        return
    for load in range(1, MOST + 1):
        rate, ttft, tpot = (
            float(one[name][load - 1]) for name in ("output_throughput", "ttft", "tpot")
        )
        if math.isnan(rate) or one["concurrency"][load - 1] < load:  # Some would wait for a slot.
            continue
        wanted = demand.requests_per_s
        count = demand.replicas or (1 if wanted is None else math.ceil(wanted * OSL / rate))
        yield count, count * rate, ttft, tpot, load


def by_brute_force(swept, demand: Demand) -> dict[tuple[str, str], tuple[float, int, int, int]]:
    """Score, width, replicas and load of the best of each accelerator and precision."""
    best: dict[tuple[str, str], tuple[float, ...]] = {}
    limits, wanted = demand.limits, demand.requests_per_s
    for machine in MACHINES:
        for recipe in PRECISIONS:
            for tp in (1, 2):
                at = swept.squeeze().sel(hardware=machine, precision=recipe, tp=tp)
                one = {
                    name.removeprefix("inflight_"): at[name].values.astype(float)
                    for name in at.data_vars
                }
                for count, rate, ttft, tpot, load in choices(one, demand):
                    gpus = count * tp
                    price = gpus * PRICES[machine]
                    if not (
                        rate > 0
                        and ttft <= (limits.max_ttft or math.inf)
                        and tpot <= (limits.max_tpot or math.inf)
                        and gpus <= (limits.max_gpus or math.inf)
                        and price <= (limits.max_price_per_hour or math.inf)
                        and rate >= (wanted or 0) * OSL * (1 - 1e-9)
                    ):
                        continue
                    delivered = rate if wanted is None else wanted * OSL
                    score = {
                        "gpu": delivered / gpus,
                        "dollar": delivered / price * 3600,
                        "watt": delivered / (gpus * POWER[machine]),
                    }[demand.by]
                    key = (machine, recipe)
                    value = (score, rate / gpus, -gpus, tp, count, load)
                    if key not in best or value[:3] > best[key][:3]:
                        best[key] = value
    return {key: (value[0], *map(int, value[3:])) for key, value in best.items()}


DEMANDS = [
    Demand(),
    Demand(by="dollar"),
    Demand(by="watt", limits=Limits(max_tpot=0.03)),
    Demand(Limits(max_ttft=0.3, max_tpot=0.02)),
    Demand(Limits(max_price_per_hour=3.0), requests_per_s=30.0),
    Demand(Limits(max_gpus=6), by="dollar", requests_per_s=60.0),
    Demand(concurrency=256),
    Demand(Limits(max_tpot=0.025), concurrency=100),
    Demand(Limits(max_gpus=4), by="dollar", concurrency=300),
    Demand(concurrency=97, replicas=3),
    Demand(concurrency=64, requests_per_s=8.0),
    Demand(Limits(max_ttft=0.2), requests_per_s=10.0, replicas=4),
]


@pytest.mark.parametrize("demand", DEMANDS)
def test_it_ranks_as_a_search_by_brute_force(swept, demand: Demand) -> None:
    """Over replicas, layouts and loads; a load near a limit may be a little off its best."""
    wanted = by_brute_force(swept, demand)
    ranked = found(offered(demand), demand).ranked
    mine = {
        (row["hardware"], row["precision"]): (row["score"], row["tp"], row["replicas"])
        for row in ranked.to_dict("records")
    }
    assert set(mine) == set(wanted)
    assert wanted
    near = 2e-3 if demand.concurrency is None else 1e-5
    for key, (score, tp, count, _) in wanted.items():
        assert mine[key] == (pytest.approx(score, rel=near), tp, count)
    assert ranked["score"].is_monotonic_decreasing


LIMITS = [
    (Limits(max_ttft=0.1), "ttft", 0.1),
    (Limits(max_tpot=0.01), "tpot", 0.01),
    (Limits(max_gpus=3), "total_gpus", 3),
    (Limits(max_price_per_hour=2.0), "price", 2.0),
]


@pytest.mark.parametrize(("limits", "column", "most"), LIMITS)
def test_every_limit_is_respected_and_excludes_something(deployments, limits, column, most) -> None:
    free = found(deployments, Demand(requests_per_s=20.0))
    bound = found(deployments, Demand(limits, requests_per_s=20.0))
    assert bound.allowed[column].max() <= most
    assert 0 < len(bound.allowed) < len(free.allowed)
    for frame in (bound.ranked, bound.front):
        assert (frame[column] <= most).all()


def test_a_replica_must_hold_the_requests_asked_for() -> None:
    held = [500.0, 281.0]
    asked = table(asked=[500, 500], held=held, hardware=["l20", "h20-96gb"])
    answer = recommend(asked, Demand(concurrency=500, replicas=1))
    assert answer.ranked["hardware"].tolist() == ["l20"]
    assert "1 × h20-96gb in fp16 (tp 1) at 281 requests: it holds 281 of 500 requests" in (
        advice.sentence(answer)
    )


def test_a_load_is_split_over_replicas_by_hand() -> None:
    # Nine requests on two replicas: four at one and five at the other, 400 and 450 tokens/s.
    loads = {"asked": [4, 5, 9], "held": [4.0, 5.0, 9.0], "throughput": [400.0, 450.0, 600.0]}
    ends = {"lower": [300.0, 350.0, 500.0], "upper": [500.0, 550.0, 700.0]}
    both = table(**loads, **ends, ttft=[0.4, 0.5, 0.9], tpot=[0.01, 0.02, 0.03])
    row = recommend(both, Demand(concurrency=9)).ranked.iloc[0]
    assert (row["replicas"], row["held"], row["ttft"], row["tpot"]) == (1, 9, 0.9, 0.03)
    row = recommend(both, Demand(Limits(max_ttft=0.6), concurrency=9)).ranked.iloc[0]
    assert (row["replicas"], row["held"], row["ttft"], row["tpot"]) == (2, 5, 0.5, 0.02)
    assert row["score"] == pytest.approx(425.0)
    assert (row["score_lower"], row["score_upper"]) == (pytest.approx(325.0), pytest.approx(525.0))
    text = advice.described({str(key): value for key, value in row.items()})
    assert text == "2 × h20-96gb in fp16 (tp 1 each) at 5 requests each"


def test_more_replicas_than_requests_are_refused() -> None:
    with pytest.raises(SpecError, match="5 replicas for 3 requests: some would hold none"):
        offered(Demand(concurrency=3, replicas=5))


@pytest.mark.parametrize("total", [1, 7, 64, 500])
def test_every_load_of_the_busiest_replica_is_considered(total: int) -> None:
    counts = replica_counts(total)
    assert {-(-total // count) for count in counts} == {
        -(-total // count) for count in range(1, total + 1)
    }
    assert set(loads_of(total, counts)) >= {total, 1}


# A table by hand.


SPECS = SpecsByName(
    hardware={n: shipped().hardware(n) for n in ("h20-96gb", "a800-sxm-80gb", "l20")}
)


def table(**columns: Any) -> Deployments:
    """Deployments of one GPU each, with some columns replaced."""
    size = max(len(values) for values in columns.values())
    plain: dict[str, Any] = {
        "hardware": ["h20-96gb"],
        "precision": ["fp16"],
        "tp": [1],
        "pp": [1],
        "dp_attention": [1],
        "asked": [8],
        "held": [8.0],
        "fit": [8.0],
        "throughput": [1000.0],
        "lower": [800.0],
        "upper": [1300.0],
        "ttft": [0.5],
        "tpot": [0.02],
        "runs": [True],
        "reason": [0],
        "beyond": [0],
        "gpus": [1],
    }
    whole = {k: (v * size if len(v) == 1 else v) for k, v in (plain | columns).items()}
    return Deployments("toy", 100, 100, INFLIGHT, pd.DataFrame(whole), "toy 0", SPECS)


def test_replicas_and_costs_by_hand() -> None:
    # 1000 tokens a second are 10 requests of 100; 25 need 3 replicas, at 8 a second 4, at 13 two.
    # Three of two GPUs at 3 dollars cost 18 an hour, 0.005 a second, for 2500 tokens: 2 dollars a
    # million. H20s are rated at 400 W: 2400 W for 2500 tokens a second.
    answer = recommend(
        table(gpus=[2], tp=[2]),
        Demand(by="dollar", requests_per_s=25.0),
        prices={"h20-96gb": 3.0},
    )
    row = answer.ranked.iloc[0]
    assert (row["replicas"], row["fewest_replicas"], row["most_replicas"]) == (3, 2, 4)
    assert (row["total_gpus"], row["price"]) == (6, 18)
    assert row["cost"] == pytest.approx(2.0)
    assert row["energy"] == pytest.approx(2400 / 2500)
    assert row["score"] == pytest.approx(2500 / 0.005)
    assert row["score_lower"] == pytest.approx(2500 / 0.005 * 3 / 4)
    assert row["score_upper"] == pytest.approx(2500 / 0.005 * 3 / 2)


def test_of_equals_the_first_counts() -> None:
    names = ["a800-sxm-80gb", "h20-96gb", "l20"]
    for order in (names, names[::-1]):
        ranked = recommend(table(hardware=order), Demand()).ranked
        assert ranked["hardware"].tolist() == order


def test_of_equals_fewer_gpus_come_first() -> None:
    wide = table(hardware=["l20", "h20-96gb"], gpus=[2, 1], throughput=[2000.0, 1000.0])
    ranked = recommend(wide, Demand()).ranked
    assert ranked["hardware"].tolist() == ["h20-96gb", "l20"]


def test_each_layout_has_its_rank_where_asked() -> None:
    two = table(tp=[1, 2], gpus=[1, 2], throughput=[1000.0, 1500.0])
    assert len(recommend(two, Demand()).ranked) == 1
    assert len(recommend(two, Demand(), every_layout=True).ranked) == 2


def test_the_answer_tells_the_gap_between_two_accelerators() -> None:
    """The rival is on the other accelerator, though another precision of the first is nearer."""
    three = table(
        hardware=["h20-96gb", "h20-96gb", "l20"],
        precision=["fp8", "fp16", "fp16"],
        throughput=[1000.0, 990.0, 900.0],
    )
    text = advice.sentence(recommend(three, Demand()))
    assert "1 × h20-96gb in fp8 (tp 1) at 8 requests gives the most" in text
    assert "1,000 (800 to 1,300)" in text
    assert text.endswith("next is 1 × l20 in fp16 (tp 1) at 8 requests, 10 % behind.")


def test_an_accelerator_that_fails_is_said_to_fail() -> None:
    both = table(hardware=["h20-96gb", "l20"], ttft=[0.5, 0.6])
    text = advice.sentence(recommend(both, Demand(Limits(max_ttft=0.55))))
    assert text.endswith(
        "no other accelerator does: nearest is 1 × l20 in fp16 (tp 1) at 8 requests: its ttft of "
        "0.6 s is 9 % over --max-ttft 0.55."
    )


def test_whole_replicas_are_explained() -> None:
    # 25 requests of 100 tokens: 2 replicas at 1,300 tokens/s, 3 at 1,000 and 4 at 800.
    text = advice.sentence(recommend(table(gpus=[1]), Demand(requests_per_s=25.0)))
    assert "rounded to whole replicas, 2 to 4 replicas within the interval" in text


CLOSE = Calibration(
    name="close",
    halfwidths={"inflight": {"seen": 0.3, "unseen_hardware": 0.5, "unseen_model": 0.34}},
    ratios={"seen": 0.5, "unseen_hardware": 0.25, "unseen_model": 0.0},
)


def row_of(width: float, beyond: int, precision: str = "fp16") -> dict[str, Any]:
    ends = {"lower": math.exp(-width), "upper": math.exp(width)}
    return {**ends, "beyond": beyond, "precision": precision}


def test_shared_errors_cancel_in_a_ratio_by_hand() -> None:
    # Both 0.3 wide, of which half remains: 0.15·√2. A new accelerator adds √(0.5² − 0.3²) = 0.4,
    # of which a quarter remains. A new model of both adds nothing, of one of them all.
    one, new, model = row_of(0.3, 0), row_of(0.5, 1), row_of(0.34, 2)
    added = math.sqrt(0.34**2 - 0.3**2)
    for first, second, wanted in (
        (one, one, 0.15 * math.sqrt(2)),
        (new, one, math.sqrt(2 * 0.15**2 + 0.1**2)),
        (model, model, 0.15 * math.sqrt(2)),
        (model, one, math.sqrt(2 * 0.15**2 + added**2)),
        (model, row_of(0.34, 2, "fp8"), math.sqrt(2 * 0.15**2 + 2 * added**2)),
    ):
        width = ratio_halfwidth(first, second, CLOSE, "inflight")
        assert width == pytest.approx(wanted)


def test_the_errors_of_model_and_accelerators_are_quoted() -> None:
    both = replace(
        table(hardware=["gh200-96gb", "h20-96gb"], throughput=[1000.0, 900.0]),
        model="deepseek-r1",
        calibration=f"tensorrt-llm {load_calibration('tensorrt-llm').digest}",
    )
    errors = load_calibration("tensorrt-llm").provenance["errors_left_out"]
    (text,) = quoted_errors(recommend(both, Demand()))
    for label, name in (("model", "deepseek-r1"), ("hardware", "gh200-96gb")):
        assert f"{100 * errors[label][name]['left_out']:.0f} % when it was left out" in text
    assert "h20-96gb was never measured" in text


def test_requests_that_wait_are_named() -> None:
    more = table(asked=[64], held=[64.0], fit=[59.2])
    assert any("59 of the 64 requests" in note for note in notes(recommend(more, Demand())))
    assert not any("wait" in note for note in notes(recommend(table(tp=[1]), Demand())))


def test_a_model_that_the_fit_knew_is_not_called_unmeasured() -> None:
    calibration = load_calibration("vllm")
    errors = calibration.provenance["errors_left_out"]
    unjudged = set(calibration.seen["model"]) - set(errors["model"])
    assert unjudged, "all models have errors; choose another calibration"
    one = replace(table(hardware=["h20-96gb"]), calibration=f"vllm {calibration.digest}")
    for name in unjudged:
        (text,) = quoted_errors(recommend(replace(one, model=name), Demand()))
        assert f"{name} has too few sound runs for an error of its own" in text


def test_the_chance_of_being_ahead_is_that_of_a_normal_error() -> None:
    one = row_of(0.3, 0)
    width = 0.15 * math.sqrt(2)
    even, ahead, far = (
        ratio(math.exp(log), one, one, CLOSE, "inflight") for log in (0.0, width, 5 * width)
    )
    assert even.chance == pytest.approx(0.5)
    assert ahead.chance == pytest.approx(0.95, abs=1e-3)
    assert ahead.lower == pytest.approx(1.0)
    assert far.chance == 0.95


def test_the_nearest_deployment_says_what_it_fails_and_by_how_much() -> None:
    slow = table(hardware=["h20-96gb", "l20"], ttft=[0.5, 0.6], tpot=[0.025, 0.022])
    limits = Limits(max_ttft=1.0, max_tpot=0.02)
    text = advice.sentence(recommend(slow, Demand(limits)))
    assert "nearest is 1 × l20" in text
    assert text.endswith("its tpot of 0.022 s is 10 % over --max-tpot 0.02")


def test_where_nothing_runs_the_reasons_are_counted() -> None:
    none = table(runs=[False, False], reason=[1, 3], throughput=[math.nan, math.nan])
    text = advice.sentence(recommend(none, Demand()))
    assert text == ("none of 2 deployments can run: exceeds_memory 2, tp_does_not_divide_heads 1")


def test_a_small_score_keeps_its_digits() -> None:
    # A request of 100 tokens in ten thousand days.
    answer = recommend(table(gpus=[1]), Demand(requests_per_s=1.25e-9))
    assert "GPU, 1.25e-07 (1.25e-07 to 1.25e-07)" in advice.sentence(answer)


def test_one_output_token_has_no_tpot_to_limit() -> None:
    answer = recommend(table(tpot=[math.nan]), Demand(Limits(max_tpot=1e-9)))
    assert len(answer.ranked) == 1
    assert not len(answer.front)


def test_no_point_of_the_front_is_beaten(deployments) -> None:
    frame = found(deployments, Demand()).allowed
    front = pareto_front(frame)
    points, every = (f[["per_user", "per_gpu"]].to_numpy() for f in (front, frame))
    beaten = [((every >= p).all(axis=1) & (every > p).any(axis=1)).any() for p in points]
    assert not any(beaten)
    assert {tuple(p) for p in points} == {
        tuple(p) for p in every if not ((every >= p).all(axis=1) & (every > p).any(axis=1)).any()
    }


@pytest.mark.slow
def test_what_binds_is_told_of_each(deployments) -> None:
    answer = found(deployments, Demand())
    moved = throughput_elasticities(answer, answer.ranked.head(2))
    for row, one in zip(answer.ranked.to_dict("records"), moved, strict=False):
        assert one["memory_bandwidth"] > 0
        first = max(one, key=lambda name: abs(one[name])).replace("_", " ")
        named = {str(key): value for key, value in row.items()}
        assert advice.bound(named, one).startswith(f"{first} (")


def test_deployments_unasked_are_solid_and_of_vendors_the_calibration_saw() -> None:
    ideal, fitted = (
        solid_hardware(shipped()),
        solid_hardware(shipped(), load_calibration("tensorrt-llm")),
    )
    assert {spec.confidence for spec in (*ideal, *fitted)} == {"solid"}
    assert {spec.vendor for spec in fitted} == {"NVIDIA"}
    assert {"NVIDIA", "AMD"} <= {spec.vendor for spec in ideal}


@pytest.mark.slow
def test_files_of_ones_own_are_priced_and_told_of(tmp_path) -> None:
    machine, config = tmp_path / "mine.json", tmp_path / "my-model.json"
    whole = shipped().hardware("l20").model_dump(mode="json", by_alias=True)
    price = {"value": 2.0, "source": "an offer", "date": "2026-01-31"}
    machine.write_text(json.dumps(whole | {"name": "mine", "price_usd_per_hour": price}))
    config.write_text(json.dumps(model().config))
    own = sweep_deployments(
        str(config),
        Offer((str(machine),), tp=(1,), pp=(1,)),
        isl=64,
        osl=16,
        concurrency=4,
        catalog=shipped(),
        calibration=None,
    )
    answer = recommend(own, Demand(by="dollar"))
    row = answer.ranked.iloc[0]
    assert (row["hardware"], row["price"]) == ("mine", 2.0)
    assert row["power"] == shipped().hardware("l20").tdp_w
    assert throughput_elasticities(answer, answer.ranked)[0]


def test_a_result_answers_as_the_sweep_does(deployments, swept) -> None:
    read = read_deployments(swept, Offer(), catalog=shipped())
    for demand in DEMANDS[:2]:
        one, other = found(deployments, demand).ranked, found(read, demand).ranked
        assert one["hardware"].tolist() == other["hardware"].tolist()
        assert np.allclose(one["score"], other["score"], rtol=1e-5)


def test_requests_held_follow_from_those_that_fit(swept) -> None:
    fit = swept["inflight_concurrency"].max("concurrency")
    assert (fit < MOST).any()
    bare = swept.drop_vars("inflight_concurrency").assign(max_concurrency=fit)
    for demand in DEMANDS[:2]:
        one, other = (
            found(read_deployments(each, Offer(), catalog=shipped()), demand).ranked
            for each in (swept, bare)
        )
        for column in ("hardware", "held", "score"):
            assert one[column].tolist() == other[column].tolist()


def test_all_requests_are_named_where_a_result_lacks_the_most_that_fit(swept) -> None:
    few = swept.sel(concurrency=[1, MOST])
    row = found(read_deployments(few, Offer(), catalog=shipped()), Demand()).ranked.iloc[0]
    at = {axis: row[axis] for axis in ("hardware", "precision", "tp")}
    one = few.squeeze().sel(**at, concurrency=MOST)
    assert row["held"] == MOST > one["inflight_concurrency"]
    assert row["ttft"] == pytest.approx(float(one["inflight_ttft"]))


# Prices.


def test_prices_of_files(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("h20-96gb: 1.5\nl20: 1\n")
    (tmp_path / "p.csv").write_text("hardware,price_usd_per_hour,seller\nh20-96gb,1.5,a\nl20,1,b\n")
    for name in ("p.yaml", "p.csv"):
        assert read_prices(tmp_path / name) == {"h20-96gb": 1.5, "l20": 1.0}
    assert parse_prices(["l20=2", "l20=3"]) == {"l20": 3.0}


def test_a_table_as_a_spreadsheet_writes_it(tmp_path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("hardware,price_usd_per_hour\r\nl20,1\r\n", encoding="utf-8-sig")
    assert read_prices(path) == {"l20": 1.0}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.yaml", "h20-96gb: free\n", "h20-96gb: the hourly price must be a number above 0"),
        ("p.yaml", "h20-96gb: -1\n", "above 0"),
        ("p.csv", "name,usd\nl20,1\n", "must have the columns"),
        ("p.csv", "hardware,price_usd_per_hour\nl20,1\nl20,2\n", "l20 is listed twice"),
        ("p.csv", "hardware,price_usd_per_hour\nl20,\n", "above 0"),
    ],
)
def test_what_is_no_price_is_refused(tmp_path, name, text, words) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=words):
        read_prices(tmp_path / name)


def spec_with(price: object) -> HardwareSpec:
    given = shipped().hardware("l20").model_dump(by_alias=True)
    return parse(HardwareSpec, given | {"price_usd_per_hour": price}, "mine")


def test_a_price_of_a_specification_has_a_source_and_a_date() -> None:
    whole = {"value": 1.5, "source": "https://example.org", "date": "2026-01-31"}
    assert price_of(spec_with(whole), {}) == 1.5
    assert price_of(spec_with(whole), {"l20": 1.0}) == 1.0
    assert price_of(shipped().hardware("l20"), {}) is None
    shown = {row["figure"]: row for row in figure_rows(spec_with(whole))}["price_usd_per_hour"]
    assert (shown["value"], shown["source"]) == (1.5, "https://example.org, 2026-01-31")
    for key in ("source", "date"):
        with pytest.raises(SpecError, match=f"price_usd_per_hour.{key}: missing"):
            spec_with({k: v for k, v in whole.items() if k != key})
    with pytest.raises(SpecError, match="date"):
        spec_with(whole | {"date": "last year"})


def test_a_price_decides_by_dollar(deployments) -> None:
    cheap = {**PRICES, "rtx-4090": 0.01}
    for prices, first in ((cheap, "rtx-4090"), ({**cheap, "l20": 1e-4}, "l20")):
        best = recommend(deployments, Demand(by="dollar"), prices=prices)
        assert best.ranked["hardware"].iloc[0] == first
    some = recommend(deployments, Demand(by="dollar"), prices={"l20": 1.0})
    assert set(some.ranked["hardware"]) == {"l20"}
    assert "left out, price unknown: rtx-4090" in notes(some)[0]
    with pytest.raises(SpecError, match="no accelerator on offer has a known price"):
        recommend(deployments, Demand(by="dollar"))


def test_no_shipped_accelerator_has_a_price() -> None:
    catalog = Catalog()
    specs = [catalog.hardware(name) for name in catalog.paths("hardware")]
    assert all(spec.price_usd_per_hour is None for spec in specs)


def test_a_name_with_dollar_signs_is_no_formula(tmp_path) -> None:
    name = r"$\frac{1}$"
    answer = recommend(table(hardware=[name]), Demand())
    figure = front_figure(answer)
    save_figure(figure, tmp_path / "front.png")
    assert name in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    spec = shipped().hardware("l20").model_copy(update={"name": name})
    save_figure(roofline_figure([spec], "half"), tmp_path / "roof.png")


def test_the_front_shows_intervals_and_flags() -> None:
    two = table(throughput=[1000.0, 500.0], tpot=[0.02, 0.01], beyond=[17, 1])
    axes = front_figure(recommend(two, Demand())).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "h20-96gb (unseen hardware; hollow: beyond batch)" in names
    (hollow,) = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert hollow.get_xdata().tolist() == [50.0]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (800.0, 1300.0)


def test_a_long_front_is_printed_in_even_steps() -> None:
    # Points bunch where users get little, as with many loads; the ends are always shown.
    per_user = np.concatenate([np.linspace(5, 10, 90), np.linspace(11, 115, 14)])
    long = pd.DataFrame({"per_user": per_user[::-1]})
    heading, shown = advice.front_shown(long)
    assert "12 of 104 points" in heading
    assert "--json" in heading
    np.testing.assert_allclose(shown["per_user"], np.linspace(115, 5, 12), atol=4)
    assert {5.0, 115.0} <= set(shown["per_user"])
    heading, shown = advice.front_shown(long.head(12))
    assert len(shown) == 12
    assert "of 12" not in heading


@pytest.mark.slow
def test_layouts_beyond_a_machine_are_not_tried_unasked() -> None:
    one = sweep_deployments(
        MODEL,
        Offer(("h100-nvl",)),
        isl=64,
        osl=16,
        concurrency=1,
        catalog=shipped(),
        calibration=None,
    )
    assert one.frame["gpus"].max() == shipped().hardware("h100-nvl").gpus_per_node
    assert set(one.frame["dp_attention"]) == {1}
    with pytest.raises(SpecError, match=r"every layout takes 64 GPUs or more, .* h100-nvl has "):
        sweep_deployments(
            MODEL,
            Offer(("h100-nvl",), tp=(64,)),
            isl=64,
            osl=16,
            concurrency=1,
            catalog=shipped(),
            calibration=None,
        )
    wide = replace(OFFER, hardware=("h100-nvl",), precision=("fp16",), tp=(8,), pp=(4,))
    asked = sweep_deployments(
        MODEL, wide, isl=64, osl=16, concurrency=1, catalog=shipped(), calibration=None
    )
    assert asked.frame["gpus"].tolist() == [32]


@pytest.mark.parametrize("limits", [Limits(), Limits(max_ttft=1.0), Limits(max_ttft=100.0)])
def test_the_best_load_is_the_largest_of_which_no_request_waits(limits: Limits) -> None:
    """One GPU seems the best, 59.9 requests against 59.6, and holds 59 whole ones against 59.5."""
    fits = {1: 59.9, 2: 119.2}

    def at(loads: list[int]) -> pd.DataFrame:
        rows = [(tp, load) for tp in fits for load in loads]
        tp, asked = (np.asarray(each, float) for each in zip(*rows, strict=True))
        held = np.minimum(asked, [fits[each] for each, _ in rows])
        waits = 5.0 * (asked - held)
        return pd.DataFrame(
            {
                **{"hardware": "a", "precision": "fp8", "tp": tp, "gpus": tp, "runs": True},
                **{"asked": asked, "held": held, "ttft": 0.5 + waits, "tpot": 0.01},
                "throughput": held,
            }
        )

    coarse = at([1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256])
    found = refined(coarse, ["hardware", "precision", "tp"], limits, at)
    assert (found["asked"] <= found["held"]).all()
    best = found.loc[(found["throughput"] / found["gpus"]).idxmax()]
    assert (best["tp"], best["asked"], best["ttft"]) == (2, 119, 0.5)


def test_a_legend_names_extrapolations_of_all_points_and_of_hollow_ones() -> None:
    every, some = EXTRAPOLATION["unseen_model"], EXTRAPOLATION["beyond_batch"]
    for bits, words in (
        ([0, 0], ""),
        ([every, every], " (unseen model)"),
        ([every, every | some], " (unseen model; hollow: beyond batch)"),
        ([0, some], " (hollow: beyond batch)"),
    ):
        assert flagged(pd.DataFrame({"beyond": bits})) == words
