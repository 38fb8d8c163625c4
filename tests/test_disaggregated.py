"""Pools for prompts and for decoding: by hand, against a simulation of events, and refusals."""

import heapq
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
import yaml
from factories import point, shipped, shipped_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.decisions import disaggregated_sweep
from sweep.decisions.choice import Choice
from sweep.decisions.deployments import Offer
from sweep.decisions.disaggregated import NEAR, pairs
from sweep.decisions.disaggregated_sweep import best_pairs, sweep_instances
from sweep.decisions.launch_manifest import PoolRequest, check_requests, manifest
from sweep.decisions.pool_figures import (
    Instance,
    first_token_at,
    first_token_seconds,
    held_at,
    transfer_seconds,
)
from sweep.decisions.recommend import Limits
from sweep.errors import SpecError
from sweep.kernel.request import Request

PREFILL = Instance(
    hardware="fast",
    precision="fp8",
    kv_dtype="fp8",
    layout={"tp": 2, "pp": 1, "dp_attention": 1},
    gpus=2,
    unit_cost=1.0,
    price=2.0,
    loads=[1, 2, 4],
    # 0.1 s and 0.3 s a prompt.
    seconds=[0.4, 0.7, 1.3],
    sent_bytes=2e8,
    bandwidth=5e10,
    hop=1e-6,
)
DECODE = replace(
    PREFILL,
    hardware="wide",
    layout={"tp": 4, "pp": 1, "dp_attention": 1},
    gpus=4,
    loads=[1, 8, 16, 32],
    # 10 ms and 0.5 ms a sequence.
    seconds=[0.0105, 0.014, 0.018, 0.026],
    sent_bytes=1e8,
    bandwidth=1e10,
)
NO_LIMITS = Limits()


def best(prefill=PREFILL, decode=DECODE, osl=101, limits=NO_LIMITS, **more: Any):
    found = pairs([prefill], [decode], osl=osl, limits=limits, **more)
    return found[0] if found else None


def test_a_transfer_by_hand() -> None:
    # 2e8 bytes at 50 GB/s take 4 ms to send, 1e8 at 10 GB/s 10 ms to receive, and a hop.
    assert transfer_seconds(PREFILL, DECODE) == pytest.approx(0.010001)


def test_a_first_token_by_hand() -> None:
    # Four prompts that arrive in 1.3 s wait for the rest of it, half on average.
    assert first_token_seconds(4, 1.3) == pytest.approx(1.3 + 0.65)
    assert first_token_seconds(1, 0.4) == 0.4


def test_a_first_token_at_a_rate_by_hand() -> None:
    # Five prompts in 2 s: 0.1 s and 0.3 s a prompt make batches of 1, in 0.4 s, without a wait.
    assert first_token_at(PREFILL, 2.5) == 0.4
    # Two arrive in the 0.7 s that two take, and wait for half of it.
    assert first_token_at(PREFILL, 2 / 0.7) == pytest.approx(1.5 * 0.7)
    assert first_token_at(PREFILL, 100.0) == pytest.approx(1.5 * 1.3)


def test_batches_of_one_and_of_two_alternate_by_hand() -> None:
    # One prompt every 0.3 s: one takes 0.1 s longer than that, two in 0.55 s end 0.05 s early. A
    # third of the batches have one prompt and begin 0.025 s before the next one arrives; others
    # have two and begin 0.05 s after the second, on average.
    prefill = replace(PREFILL, loads=[1, 2], seconds=[0.4, 0.55])
    one = 0.3 - 0.025 + 0.4
    two = 0.05 + 0.3 / 2 + 0.55
    expected = (1 / 3 * one + 2 / 3 * 2 * two) / (1 / 3 + 2 / 3 * 2)
    assert first_token_at(prefill, 1 / 0.3) == pytest.approx(expected)


def test_a_decode_instance_holds_by_littles_law() -> None:
    # 20 sequences take 20 ms a token: 100 tokens in 2 s, 10 requests a second.
    held, tpot = held_at(DECODE, 10.0, 101)
    assert held == pytest.approx(20, rel=0.01)
    assert tpot == pytest.approx(0.020, rel=0.01)
    # Below one at a time each has the instance to itself.
    held, tpot = held_at(DECODE, 0.1, 101)
    assert (held, tpot) == (pytest.approx(0.1 * 100 * 0.0105), 0.0105)


def test_rates_are_matched_by_hand() -> None:
    # 4 prompts in 1.3 s are 3.08 a second; 32 sequences of 100 tokens in 2.6 s are 12.3: four
    # prefill instances for one that decodes, 8 + 4 GPUs.
    found = best()
    assert (found.pools.prefills, found.pools.decodes, found.pools.gpus) == (4, 1, 12)
    assert found.figures.rate == pytest.approx(4 * 4 / 1.3)
    assert found.throughput == pytest.approx(found.figures.rate * 101)
    assert found.score == pytest.approx(found.throughput / 12)
    assert found.pools.price == 24


def test_no_ratio_of_whole_instances_is_better() -> None:
    found, into, out_of = best(), 4 / 1.3, 32 / 2.6
    scores = [
        min(n * into, m * out_of) * 101 / (2 * n + 4 * m)
        for n in range(1, 33)
        for m in range(1, 33)
    ]
    assert found.score >= max(scores) * (1 - NEAR)


def test_limits_hold() -> None:
    assert best(limits=Limits(max_ttft=0.5)).pools.batch == 1
    assert best(limits=Limits(max_ttft=0.3)) is None
    # The transfer is part of the time to the second token: 0.1 ms a token.
    slow = best(limits=Limits(max_tpot=0.0181))
    assert slow.figures.held <= 16
    assert slow.figures.tpot <= 0.0181 + 1e-9
    assert best(limits=Limits(max_gpus=5)) is None
    assert best(limits=Limits(max_gpus=6)).pools.gpus == 6
    assert best(limits=Limits(max_price_per_hour=12.0)).pools.gpus == 6


def test_a_rate_takes_the_fewest_instances() -> None:
    # 20 a second: 6.5 prefill instances and 1.6 that decode.
    found = best(requests_per_s=20.0)
    assert (found.pools.prefills, found.pools.decodes, found.figures.rate) == (7, 2, 20.0)


def test_a_pool_that_takes_no_time_leaves_the_other_as_it_is() -> None:
    """Without the time of prompts and of a transfer, decoding is that of a static batch."""
    at_once = replace(PREFILL, seconds=[1e-12, 2e-12, 4e-12], sent_bytes=0.0, hop=0.0)
    reads = replace(DECODE, sent_bytes=0.0, hop=0.0)
    decoding = best(at_once, reads)
    assert decoding.pools.transfer == 0
    assert decoding.figures.rate / decoding.pools.decodes * 100 == pytest.approx(32 / 0.026)
    assert (decoding.figures.held, decoding.figures.tpot) == (
        pytest.approx(32),
        pytest.approx(0.026),
    )
    assert decoding.figures.ttft < 1e-11
    # And prompts take as long as alone where decoding takes no time.
    never = replace(reads, loads=[1, 8], seconds=[1e-12, 8e-12])
    prompts = best(replace(PREFILL, sent_bytes=0.0, hop=0.0), never, osl=2)
    assert prompts.figures.rate == pytest.approx(prompts.pools.prefills * 4 / 1.3)
    assert prompts.figures.ttft == pytest.approx(first_token_at(PREFILL, 4 / 1.3))


@pytest.mark.slow
def test_without_pools_the_rival_is_the_ranking_of_single_servers() -> None:
    """Beside pools, a single server may choose its chunks; with the usual ones it is as without."""
    offer = Offer(("h100-sxm-80gb",), ("fp8",), tp=(1,), pp=(1,))
    choice = Choice("llama-3.1-8b", 1000, 200, offer, every_layout=True)
    alone = choice.by_sweep(shipped(), None)
    _, rival = best_pairs(choice, shipped(), None, 2.5e10)
    loads = rival.scored.set_index(["max_num_tokens", "asked"]).loc[8192]
    for row in alone.scored.to_dict("records"):
        if row["asked"] not in loads.index:
            continue
        for name in ("throughput", "ttft", "tpot", "held"):
            assert loads.loc[row["asked"], name] == pytest.approx(row[name], rel=1e-5)
    assert rival.ranked["score"].iloc[0] >= alone.ranked["score"].iloc[0] * (1 - 1e-6)


def test_ends_of_a_pair_by_hand() -> None:
    """Prompts may take a tenth more or less, and decoding a fifth."""
    pools = (
        replace(PREFILL, slower=[1.1] * 3, beyond=[0, 0, 1]),
        replace(DECODE, slower=[1.2] * 4, beyond=[0, 0, 0, 16]),
    )
    # Both pools complete 12.3 requests a second: less if decoding takes more, as many more as
    # there are prompts.
    found = best(*pools)
    assert found.lower["rate"] == pytest.approx(found.figures.rate / 1.2)
    assert found.upper["rate"] == pytest.approx(found.figures.rate * 1.1)
    assert found.upper["score"] == pytest.approx(found.score * 1.1)
    # Prompts never wait for decoding; the cache takes 10 ms of 100 tokens.
    assert found.upper["ttft"] == pytest.approx(1.5 * 1.3 * 1.1)
    assert found.upper["tpot"] == pytest.approx(0.026 * 1.2 + 0.010001 / 100)
    assert found.beyond == 1 | 16
    # Pools that are asked for nearly all that they can do may not keep up.
    asked = best(*pools, requests_per_s=0.99 * 16 / 1.3)
    assert asked.upper["rate"] == asked.figures.rate
    assert asked.lower["rate"] == pytest.approx(found.lower["rate"])
    assert asked.upper["ttft"] == asked.upper["tpot"] == float("inf")
    seldom = best(*pools, requests_per_s=1.0)
    assert seldom.lower["rate"] == seldom.upper["rate"] == 1
    assert seldom.upper["ttft"] == pytest.approx(0.4 * 1.1)
    for each in (found, asked, seldom):
        values = {**vars(each), **each.figures._asdict()}
        for name, low in each.lower.items():
            assert low <= values[name] * (1 + 1e-12) <= each.upper[name] * (1 + 2e-12)


def test_without_measurements_a_pair_has_no_interval() -> None:
    unknown = replace(PREFILL, slower=[float("nan")] * 3, beyond=[0] * 3)
    found = best(unknown, replace(DECODE, slower=[1.2] * 4, beyond=[0] * 4))
    assert all(np.isnan(end) for ends in (found.lower, found.upper) for end in ends.values())
    assert best().lower == best().upper == {}


def test_pools_share_the_type_of_their_cache() -> None:
    assert best(decode=replace(DECODE, kv_dtype="half")) is None
    assert best(decode=replace(DECODE, sent_bytes=float("inf"))) is None


def test_a_mixed_pair_is_found_where_each_is_better() -> None:
    """An accelerator that is twice as fast for prompts, and one that is for decoding."""
    other_prefill = replace(PREFILL, hardware="wide", seconds=[2 * t for t in PREFILL.seconds])
    other_decode = replace(DECODE, hardware="fast", seconds=[2 * t for t in DECODE.seconds])
    found = pairs([PREFILL, other_prefill], [DECODE, other_decode], osl=101, limits=NO_LIMITS)
    assert len(found) == 4
    assert (found[0].pools.prefill.hardware, found[0].pools.decode.hardware) == ("fast", "wide")
    assert [pair.score for pair in found] == sorted((p.score for p in found), reverse=True)


def simulate(pair: Any, osl: int, requests: int) -> tuple[float, float, float]:
    """Rate, time to first token and per further token of both pools, event by event.

    Requests arrive evenly and go to instances in turn; times are those of the loads by straight
    lines.
    """
    pools, prefill, decode = pair.pools, pair.pools.prefill, pair.pools.decode

    def prompt_seconds(batch: int) -> float:
        return float(np.interp(batch, prefill.loads, prefill.seconds))

    def token_seconds(held: int) -> float:
        return float(np.interp(held, decode.loads, decode.seconds))

    arrivals = np.arange(requests) / pair.figures.rate
    most = max(prefill.loads)
    first = np.zeros(requests)
    for instance in range(pools.prefills):
        queue, clock = list(range(instance, requests, pools.prefills)), 0.0
        while queue:
            clock = max(clock, arrivals[queue[0]])
            batch = [i for i in queue[:most] if arrivals[i] <= clock + 1e-12]
            clock += prompt_seconds(len(batch))
            first[batch] = clock
            queue = queue[len(batch) :]
    last, known = np.zeros(requests), dict[int, float]()
    for instance in range(pools.decodes):
        coming = [(first[i] + pools.transfer, i) for i in range(instance, requests, pools.decodes)]
        heapq.heapify(coming)
        # All take as many iterations, so those that came first end first.
        held: deque[tuple[int, int]] = deque()
        clock, iteration = 0.0, 0
        while coming or held:
            if not held:
                clock = max(clock, coming[0][0])
            while coming and coming[0][0] <= clock:
                held.append((iteration + osl - 1, heapq.heappop(coming)[1]))
            if len(held) not in known:
                known[len(held)] = token_seconds(len(held))
            clock, iteration = clock + known[len(held)], iteration + 1
            while held and held[0][0] == iteration:
                last[held.popleft()[1]] = clock
    middle = slice(requests // 3, 2 * requests // 3)
    rate = (middle.stop - middle.start - 1) / (last[middle].max() - last[middle].min())
    return rate, (first - arrivals)[middle].mean(), ((last - first)[middle] / (osl - 1)).mean()


def requests_to_simulate(pair: Any) -> int:
    return int(10 * pair.pools.decodes * pair.figures.held) + 200


@given(
    st.floats(0.005, 0.05),
    st.floats(0.002, 0.05),
    st.floats(0.008, 0.02),
    st.floats(1e-5, 1e-3),
    st.integers(100, 200),
)
@settings(max_examples=12, deadline=None)
def test_a_pair_is_as_simulated(
    fixed: float, each: float, step: float, sequence: float, osl: int
) -> None:
    """At 90 % of what it can do rates and times per token are right."""
    pair = at_a_share(0.9, fixed, each, step, sequence, osl)
    rate, ttft, tpot = simulate(pair, osl, requests_to_simulate(pair))
    assert rate == pytest.approx(pair.figures.rate, rel=0.03)
    assert tpot == pytest.approx(pair.figures.tpot, rel=0.03)
    # Where two kinds of batches last almost as long as their prompts take to arrive, the order in
    # which they alternate is steady only after thousands.
    assert pair.figures.ttft == pytest.approx(ttft, rel=0.25)


def at_a_share(
    share: float, fixed: float, each: float, step: float, sequence: float, osl: int
) -> Any:
    """A pair at a share of the highest rate of another one with as many GPUs as there are."""
    sizes, loads = [1, 2, 3, 4], [1, 2, 4, 8, 16, 32]
    prefill = replace(PREFILL, loads=sizes, seconds=[fixed + each * size for size in sizes])
    decode = replace(DECODE, loads=loads, seconds=[step + sequence * load for load in loads])
    most = best(prefill, decode, osl, Limits(max_gpus=24))
    return best(prefill, decode, osl, requests_per_s=share * most.figures.rate)


def errors_of_pairs(count: int, seed: int) -> Iterator[dict[str, float]]:
    """Errors of random pairs against the simulation, by quantity. [1]"""
    random = np.random.default_rng(seed)
    for _ in range(count):
        osl = int(random.integers(100, 200))
        costs = random.uniform((0.005, 0.002, 0.008), (0.05, 0.05, 0.02))
        pair = at_a_share(random.uniform(0.3, 0.95), *costs, 10 ** random.uniform(-5, -3), osl)
        simulated = simulate(pair, osl, min(requests_to_simulate(pair), 2000))
        yield {
            name: getattr(pair.figures, name) / value - 1
            for name, value in zip(("rate", "ttft", "tpot"), simulated, strict=True)
        }


def test_most_pairs_are_as_simulated() -> None:
    errors = list(errors_of_pairs(40, seed=3))
    for name in errors[0]:
        assert np.quantile([abs(each[name]) for each in errors], 0.9) < 0.03, name


@pytest.mark.slow
def test_instances_of_a_sweep_are_those_of_its_cells() -> None:
    catalog = shipped()
    prefills, decodes = sweep_instances(
        "llama-3.1-8b",
        Offer(("h100-sxm-80gb",), ("fp16",), tp=(2,), pp=(1,)),
        isl=1000,
        osl=200,
        by="watt",
        catalog=catalog,
        calibration=None,
        prices={},
        transfer_bandwidth=2.5e10,
    )
    (prefill,), (decode,) = prefills, decodes
    with jax.enable_x64(True):

        def cell(**numbers: float) -> Request:
            machine, recipe = catalog.hardware("h100-sxm-80gb"), catalog.precision("fp16")
            where = point(shipped_model("llama-3.1-8b"), machine, recipe, tp=2, **numbers)
            return Request(where)

        two = float(cell(batch_size=2, isl=1000, osl=1).ttft)
        assert prefill.seconds[prefill.loads.index(2)] == pytest.approx(two, rel=1e-5)
        eight = float(cell(batch_size=8, isl=1000, osl=200).tpot)
        assert decode.seconds[decode.loads.index(8)] == pytest.approx(eight, rel=1e-5)
        held = float(cell(isl=1000, osl=200).max_concurrency)
    assert max(decode.loads) <= held < 2 * max(decode.loads) or max(decode.loads) == 2048
    # 1001 tokens, 32 layers, four KV heads of 128 on each GPU, keys and values, 16 bits.
    assert prefill.sent_bytes == decode.sent_bytes == 1001 * 32 * 4 * 128 * 2 * 2
    assert (prefill.unit_cost, prefill.gpus, prefill.bandwidth) == (700.0, 2, 2.5e10)


def test_pools_have_layouts_of_experts_and_the_model_that_drafts(monkeypatch) -> None:
    """Times of a made-up sweep are 1 s over ep."""
    grids = []

    def made_up(grid: Any, *_: Any) -> xr.Dataset:
        grids.append(grid)
        axes = {a: getattr(grid, a) for a in ("tp", "pp", "dp_attention", "ep", "batch_size")}
        shape = [len(each) for each in axes.values()]
        ones = xr.DataArray(np.ones(shape), coords=axes, dims=list(axes))
        times, one = ones / ones["ep"], ones.isel(batch_size=0, drop=True)
        every = dict.fromkeys(("kv_cache_memory", "feasible"), ones)
        fits = {"max_concurrency": one, "inflight_feasible": one}
        ends = {"ttft_upper": 1.1 * times, "tpot_upper": 1.2 * times}
        masks = {"ttft_extrapolation": 2 * one.astype(int), "extrapolation": 16 * ones.astype(int)}
        return xr.Dataset({"ttft": times, "tpot": times, **every, **fits, **ends, **masks})

    monkeypatch.setattr(disaggregated_sweep, "swept", made_up)
    pools = sweep_instances(
        "qwen3-30b-a3b",
        Offer(("h100-sxm-80gb",), ("fp8",), tp=(2,), pp=(1,), dp_attention=(1,), ep=(1, 2)),
        isl=1000,
        osl=200,
        by="gpu",
        catalog=shipped(),
        calibration=None,
        prices={},
        requests_axes={"draft_tokens": [3], "acceptance_rate": [0.7]},
        draft_model="llama-3.2-1b",
    )
    for instances in pools:
        found = [(each.layout["ep"], each.gpus, each.seconds[0]) for each in instances]
        assert found == [(1, 2, 1.0), (2, 2, 0.5)]
    for instances, multiple, bits in zip(pools, (1.1, 1.2), (2, 16), strict=True):
        for each in instances:
            assert each.slower == pytest.approx([multiple] * len(each.loads))
            assert each.beyond == [bits] * len(each.loads)
    prompts, steps = grids
    assert prompts.draft_model is None
    assert steps.draft_model.name == "llama-3.2-1b"


def test_a_pool_that_decodes_needs_two_tokens() -> None:
    with pytest.raises(SpecError, match="two output tokens"):
        sweep_instances(
            "llama-3.1-8b",
            Offer(),
            isl=10,
            osl=1,
            by="gpu",
            catalog=shipped(),
            calibration=None,
            prices={},
        )


# Manifests.

REQUEST = PoolRequest(shipped_model("llama-3.1-8b"), 1000, 200, None)
POOLS = best(
    replace(PREFILL, hardware="h100-sxm-80gb", precision="fp16"),
    replace(DECODE, hardware="h200-sxm-141gb", precision="fp16"),
)


def workers(text: str) -> list[tuple[int, int, list[str]]]:
    """Replicas, GPUs and words of each pool, as a reader of YAML sees them."""
    found = []
    for document in yaml.safe_load_all(text):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            gpus = container["resources"]["limits"]["nvidia.com/gpu"]
            found.append((document["spec"]["replicas"], gpus, container["args"]))
        for name, service in document["spec"].get("services", {}).items():
            if name != "Frontend":
                gpus = int(service["resources"]["limits"]["gpu"])
                words = service["extraPodSpec"]["mainContainer"]["args"]
                found.append((service["replicas"], gpus, words))
    return found


@pytest.mark.parametrize("target", ["kubernetes", "dynamo"])
def test_a_manifest_has_both_pools(target: Any) -> None:
    text = manifest(POOLS, REQUEST, target, catalog=shipped())
    prefill, decode = workers(text)
    # Four prefill instances of two GPUs, and one of four GPUs that decodes.
    assert (prefill[:2], decode[:2]) == ((4, 2), (1, 4))
    for words, held, layout in ((prefill[2], 4, 2), (decode[2], 32, 4)):
        assert "meta-llama/Llama-3.1-8B" in words
        assert f"--max-num-seqs={held}" in words
        assert f"--tensor-parallel-size={layout}" in words
        assert "--max-model-len=1200" in words
    assert "--max-num-batched-tokens=4000" in prefill[2]
    if target == "dynamo":
        assert (prefill[2][-1], decode[2][-1]) == ("--is-prefill-worker", "--is-decode-worker")
    else:
        sent = [word.partition("=")[2] for word in prefill[2] if word.startswith("--kv-transfer")]
        assert json.loads(sent[0])["kv_connector"] == "NixlConnector"
        # A pod is found at its own address; vLLM's default is that of its own machine.
        for pool in (each for each in yaml.safe_load_all(text) if each["kind"] == "Deployment"):
            (container,) = pool["spec"]["template"]["spec"]["containers"]
            source = {"fieldRef": {"fieldPath": "status.podIP"}}
            host = {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": source}
            assert container["env"] == [host]
    assert all("  # " in line for line in text.splitlines() if '- "--' in line)


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ([], "tensorrt-llm"),
        (["--emit", "kubernetes"], "vllm"),
        (["--emit", "dynamo"], "vllm"),
        (["--emit", "dynamo", "--calibration", "sglang"], "sglang"),
    ],
)
def test_a_manifest_is_predicted_by_the_calibration_of_its_engine(
    words: list[str], engine: str, call, monkeypatch
) -> None:
    predicting: list[str] = []

    def pairs_of(choice: object, catalog: object, calibration: Any, *_: object) -> None:
        predicting.append(calibration.name)
        raise SpecError("enough")

    monkeypatch.setattr("sweep.decisions.disaggregated_sweep.best_pairs", pairs_of)
    place = ["recommend", "--model", "llama-3.1-8b", "--isl", "9", "--osl", "9", "--disaggregated"]
    assert call(*place, *words) == (2, "", "llm-sweep: enough\n")
    assert predicting == [engine]


def test_names_of_a_manifest_stay_in_their_place() -> None:
    odd = 'x": {y}\n- harm: "1'
    spec = shipped_model("llama-3.1-8b").model_copy(update={"hugging_face_id": odd, "name": odd})
    text = manifest(POOLS, replace(REQUEST, model=spec), "kubernetes", catalog=shipped())
    assert [words[0] for _, _, words in workers(text)] == [odd, odd]


def test_what_a_cluster_cannot_run_is_refused() -> None:
    wide = replace(PREFILL, hardware="h100-sxm-80gb", precision="fp16", gpus=16)
    other = replace(PREFILL, hardware="gaudi3", precision="fp16")
    for pool, words in ((wide, "one machine an instance"), (other, "manifests are for NVIDIA")):
        with pytest.raises(SpecError, match=words) as error:
            manifest(best(pool), REQUEST, "dynamo", catalog=shipped())
        assert "\n" not in str(error.value)
    with pytest.raises(SpecError, match="leave --draft-tokens out"):
        check_requests({"acceptance_rate": [0.7], "draft_tokens": [3]})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--disaggregated", "--emit", "vllm"], "with a manifest only"),
        (["--emit", "dynamo"], "with a manifest only"),
        (["--disaggregated", "--isl-cv", "0.5"], "leave --isl-cv"),
        (["--disaggregated", "--concurrency", "4"], "--concurrency out"),
        (["--transfer-bandwidth", "1e9"], "needs --disaggregated"),
        (["--disaggregated", "--transfer-bandwidth", "0"], "0"),
        (["--disaggregated", "--max-ttft-p99", "1"], "without percentiles; leave --max-ttft-p99"),
        (["--disaggregated", "--max-tpot-p99", "1"], "leave --max-tpot-p99 out"),
        (["--disaggregated", "--replicas", "2"], "leave --replicas out"),
        (["--disaggregated", "--every-layout"], "leave --every-layout out"),
        (["--disaggregated", "--front"], "leave --front out"),
        (["--disaggregated", "--max-gpus", "0"], "0"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], message: str, call):
    place = ["recommend", "--model", "llama-3.1-8b", "--isl", "9", "--osl", "9"]
    code, out, error = call(*place, *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
