"""Deployments ranked under limits: as brute force ranks them, and nothing left out in silence."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import shipped

import sweep
from sweep.decisions import recommend_text as advice
from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployment_table import read_deployments
from sweep.decisions.deployments import Deployments, Offer
from sweep.decisions.load_search import refined
from sweep.decisions.recommend import Demand, Limits, Recommendation, pareto_front, recommend
from sweep.decisions.recommend_notes import notes
from sweep.decisions.replicas import loads_of, replica_counts
from sweep.decisions.throughput_elasticities import throughput_elasticities
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError

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


def test_more_replicas_than_requests_are_refused() -> None:
    with pytest.raises(SpecError, match="5 replicas for 3 requests: some would hold none"):
        offered(Demand(concurrency=3, replicas=5))


@pytest.mark.parametrize("name", ["concurrency", "num_requests"])
def test_more_requests_than_a_sweep_has_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=f"{name}: at most 1,000,000,000, not 1000000000000"):
        Demand(**{name: 10**12})


@pytest.mark.parametrize("total", [1, 7, 64, 500])
def test_every_load_of_the_busiest_replica_is_considered(total: int) -> None:
    counts = replica_counts(total)
    assert {-(-total // count) for count in counts} == {
        -(-total // count) for count in range(1, total + 1)
    }
    assert set(loads_of(total, counts)) >= {total, 1}


@pytest.mark.parametrize("total", [10**4 + 1, 10**6, 10**9])
def test_of_many_requests_few_numbers_of_replicas_are_tried_in_small_steps(total: int) -> None:
    counts = replica_counts(total)
    assert len(counts) < 350 and counts[:100] == [*range(1, 101)]
    for numbers in (counts, [-(-total // count) for count in reversed(counts)]):
        few = [number for number in numbers if number**2 <= 1.3 * total]
        assert few[-1] ** 2 >= total and all(later <= 1.1 * one + 2 for one, later in pairwise(few))
    known = loads_of(total, counts)
    assert set(replica_counts(total, known)) >= set(counts)


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
