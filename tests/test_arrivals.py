"""Deployments for requests that arrive at a rate: by brute force, by its laws, and refusals."""

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from factories import shipped

import sweep
from sweep.decisions.arrivals import highest_rate, with_waits
from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployments import Offer
from sweep.decisions.explain import explain
from sweep.decisions.launch_commands import launch_script
from sweep.decisions.launch_settings import launch_settings
from sweep.decisions.recommend import Demand, Limits, Recommendation, recommend
from sweep.decisions.recommend_text import sentence
from sweep.engines.calibration_file import load_calibration
from sweep.engines.memory_share import memory_share
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.specs.hardware import HardwareSpec

MODEL, ISL, OSL, RATE = "llama-3.1-8b", 512, 128, 60.0
MACHINES, WIDTHS = ("l20", "h100-sxm-80gb"), (1, 2)
LENGTHS = {"isl": [ISL], "osl": [OSL]}
LATENCIES = {
    "max_ttft": "inflight_ttft",
    "max_ttft_p99": "inflight_ttft_p99",
    "max_tpot": "inflight_tpot",
    "max_tpot_p99": "inflight_tpot_p99",
}
LIMITS = Limits(max_ttft_p99=0.4, max_tpot=0.03)
LENIENT = 1e6
"""A limit that no latency comes near. [s]"""
SHAPE = 0.5
"""Burstiness of all arrivals here: without it they would have kernels of their own. [1]"""
RATES = 40
"""Rates of a sweep: all of a length share one compiled kernel. [count]"""


@cache
def answer(
    limits: Limits = LIMITS, calibration: str | None = "vllm", **demand: Any
) -> Recommendation:
    """The best of each accelerator for a rate."""
    asked = Demand(limits, **({"request_rate": RATE, "burstiness": SHAPE} | demand))
    deployments = sweep_deployments(
        MODEL,
        Offer(MACHINES, ("fp16",), WIDTHS, (1,), (1,)),
        isl=ISL,
        osl=OSL,
        concurrency=None,
        catalog=shipped(),
        calibration=calibration and load_calibration(calibration),
        replicas=asked.replicas,
        limits=limits,
        burstiness=asked.shape,
    )
    return with_waits(recommend(deployments, asked))


def swept(rates: list[float], machine: str, tp: int, **axes: Any):
    """Figures of one deployment at rates of a replica, by a sweep that knows of no answer."""
    further = (rates[-1] * (1 + n / RATES) for n in range(1, RATES + 1 - len(rates)))
    names = [*LATENCIES.values(), "inflight_utilisation", "inflight_queue_time"]
    grid = Grid(
        models=[MODEL],
        hardware=[machine],
        precision=["fp16"],
        tp=[tp],
        request_rate=[*rates, *further],
        burstiness=[SHAPE],
        variables=[*names, "max_request_rate"],
        **memory_share(load_calibration("vllm")),
        **LENGTHS,
        **axes,
    )
    found = sweep.run(grid, calibration="vllm").isel(request_rate=slice(len(rates)))
    return found.squeeze(drop=True)


@pytest.mark.slow
def test_it_takes_the_fewest_gpus_that_keep_within_the_limits() -> None:
    """By trying every number of replicas, one after another."""
    found = answer()
    assert found.ranked["hardware"].nunique() == len(MACHINES)
    for row in found.ranked.to_dict("records"):
        fewest = {}
        counts = list(range(1, RATES + 1))
        for tp in WIDTHS:
            at = swept(sorted(RATE / count for count in counts), row["hardware"], tp)
            met = (at.inflight_ttft_p99 <= 0.4) & (at.inflight_tpot <= 0.03)
            good = [n for n, fits in zip(counts, met.values[::-1], strict=True) if fits]
            fewest[tp] = good[0]
        best = min(tp * count for tp, count in fewest.items())
        assert row["tp"] * row["replicas"] == row["total_gpus"] == best
        assert row["replicas"] == fewest[row["tp"]]
        assert row["score"] == pytest.approx(RATE * OSL / best)


@pytest.mark.slow
def test_its_waits_are_those_of_a_sweep_at_a_share_of_the_rate() -> None:
    found = answer()
    columns = {
        "ttft": "inflight_ttft",
        "ttft_p99": "inflight_ttft_p99",
        "tpot": "inflight_tpot",
        "tpot_p99": "inflight_tpot_p99",
        "wait": "inflight_queue_time",
        "utilisation": "inflight_utilisation",
    }
    for row in found.ranked.to_dict("records"):
        at = swept([RATE / row["replicas"]], row["hardware"], row["tp"])
        for column, name in columns.items():
            assert row[column] == pytest.approx(float(at[name]), rel=2e-3), column
        assert row["ttft_p50"] <= row["ttft_p90"] <= row["ttft_p99"] <= 0.4 * (1 + 2e-3)
        assert row["wait"] < row["ttft"]
        # What it can do at most is the rate at which a limit is reached.
        most = highest_rate(row, OSL) / row["replicas"]
        edge = swept([most], row["hardware"], row["tp"])
        reached = max(float(edge.inflight_ttft_p99) / 0.4, float(edge.inflight_tpot) / 0.03)
        assert reached == pytest.approx(1, rel=0.01)
        assert most >= RATE / row["replicas"]


@pytest.mark.slow
def test_stricter_limits_burstier_arrivals_and_higher_rates_never_take_fewer_gpus() -> None:
    def gpus(*args: Any, **more: Any) -> dict[str, int]:
        ranked = answer(*args, **more).ranked
        return dict(zip(ranked["hardware"], ranked["total_gpus"], strict=True))

    plain, free = gpus(), gpus(Limits())
    stricter = gpus(Limits(max_ttft_p99=0.2, max_tpot=0.02))
    for other in (gpus(burstiness=SHAPE / 2), stricter):
        for machine, count in other.items():
            assert count >= plain[machine] >= free[machine]
    assert stricter != plain
    for machine, count in gpus(request_rate=2 * RATE).items():
        assert plain[machine] <= count <= 2 * plain[machine]


@pytest.mark.slow
def test_without_limits_the_servers_keep_up_and_no_more() -> None:
    for row in answer(Limits()).ranked.to_dict("records"):
        assert row["utilisation"] < 1
        used = RATE * OSL / (row["replicas"] * row["throughput"])
        assert used == pytest.approx(row["utilisation"], rel=1e-3)
        assert row["replicas"] == 1 or (row["replicas"] - 1) * row["throughput"] < RATE * OSL


@pytest.mark.slow
def test_replicas_that_are_given_may_be_too_few() -> None:
    enough = {row["hardware"]: row["replicas"] for row in answer().ranked.to_dict("records")}
    many = max(enough.values()) + 2
    assert set(answer(replicas=int(many)).ranked["replicas"]) == {many}
    text = sentence(answer(replicas=1, request_rate=1e5))
    assert "requests a second within --max-ttft-p99 0.4 and --max-tpot 0.03" in text
    assert "nothing meets the limits" in text


@pytest.mark.slow
def test_a_limit_that_one_request_exceeds_is_named() -> None:
    text = sentence(answer(Limits(max_ttft_p99=1e-6, max_tpot=0.03)))
    assert "a single request exceeds --max-ttft-p99 1e-06" in text


@pytest.mark.slow
def test_the_command_and_the_function_say_the_same(call, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    # What `answer` asks for, so that its kernels serve here too.
    words = ["--model", MODEL, "--isl", ISL, "--osl", OSL, "--hardware", ",".join(MACHINES)]
    words += ["--precision", "fp16", "--tp", "1,2", "--pp", "1", "--request-rate", RATE]
    words += ["--burstiness", SHAPE, "--max-ttft-p99", "0.4", "--max-tpot", "0.03"]
    words += ["--calibration", "vllm"]
    code, out, _ = call("recommend", *words, "--json")
    shown = json.loads(out)
    assert code == 0
    frame = sweep.recommend(
        MODEL,
        isl=ISL,
        osl=OSL,
        hardware=MACHINES,
        precision="fp16",
        tp=WIDTHS,
        pp=1,
        request_rate=RATE,
        burstiness=SHAPE,
        max_ttft_p99=0.4,
        max_tpot=0.03,
        calibration="vllm",
    )
    assert frame.attrs["answer"] == shown["answer"]
    row, first = shown["ranked"][0], frame.iloc[0]
    for column in ("ttft_p99", "tpot_p99", "utilisation", "wait", "replicas", "drawn_energy"):
        assert row[column] == pytest.approx(first[column]), column
    # Measured power of no run: a half-width of 0.35 is assumed.
    for end, sign in (("lower", -1), ("upper", 1)):
        ratio = row[f"drawn_energy_{end}"] / row["drawn_energy"]
        assert ratio == pytest.approx(math.exp(sign * 0.35)), end
    assert shown["demand"]["request_rate"] == RATE
    for part in ("utilised", "p50", "p90", "p99", "They serve up to", "within the limits"):
        assert part in shown["answer"]
    code, out, _ = call("recommend", *words)
    for title in (
        "utilisation",
        "wait (s)",
        "ttft p50 (s)",
        "ttft p99 (s)",
        "tpot p99 (s)",
        "J upper",
    ):
        assert title in " ".join(out.split())


@pytest.mark.slow
def test_a_tail_limits_clients_too(call) -> None:
    """The 99th percentile of the time between tokens leaves out loads whose mean is fine."""
    words = ["recommend", "--model", MODEL, "--isl", "4096", "--osl", OSL, "--hardware", "l20"]
    words += ["--precision", "fp16", "--tp", "1", "--pp", "1", "--json"]
    # With both limits, so that one kernel serves both.
    means, tails = (
        json.loads(call(*words, "--max-tpot", mean, "--max-tpot-p99", tail)[1])["ranked"][0]
        for mean, tail in ((0.2, LENIENT), (LENIENT, 0.2))
    )
    assert means["tpot"] <= 0.2
    assert tails["tpot_p99"] <= 0.2
    assert tails["held"] < means["held"]


@pytest.mark.slow
def test_the_benchmark_sends_at_the_rate_of_one_server() -> None:
    found = answer()
    script = launch_script(launch_settings(found), "bench")
    rate = RATE / found.ranked.iloc[0]["replicas"]
    assert f"--request-rate {rate:.4g}" in script
    assert f"--burstiness {SHAPE}" in script
    assert "--max-concurrency" not in script


# One server explained at a rate.


@cache
def at_20_requests_a_second():
    return at_a_rate()


def at_a_rate(machine: HardwareSpec | str = "h100-sxm-80gb", **axes: Any):
    numbers = {"request_rate": [20.0], **LENGTHS, **axes}
    names = {"models": [MODEL], "hardware": [machine], "precision": ["fp16"]}
    return explain(Grid(**names, **numbers, variables=["max_request_rate"]))


@pytest.mark.slow
def test_a_server_is_explained_at_a_rate() -> None:
    # A limit on a mean, since one on a percentile takes ten times as long to compute.
    found = at_a_rate(max_ttft=[0.2])
    figures = found.figures
    assert figures["inflight_ttft_p50"] <= figures["inflight_ttft_p90"]
    assert figures["max_request_rate"] < at_20_requests_a_second().figures["max_request_rate"]
    assert sum(phase.times for phase in found.phases) == pytest.approx(1)
    # Iterations while there are requests: their mean is between those of one and of all.
    mean = sum(phase.times * phase.latency for phase in found.phases)
    assert 0.5 * figures["inflight_tpot"] < mean < 2 * figures["inflight_tpot"]
    with pytest.raises(SpecError, match="is a limit of max_request_rate"):
        Grid(models=[MODEL], hardware=["l20"], **LENGTHS, max_ttft=[1], variables=["ttft"])


@pytest.mark.slow
def test_elasticities_at_a_rate_are_those_of_a_faster_machine() -> None:
    machine, step = shipped().hardware("h100-sxm-80gb"), 0.02

    def logarithms(factor: float) -> dict[str, float]:
        faster = machine.model_copy(
            update={"memory_bandwidth_bytes_per_s": factor * machine.memory_bandwidth_bytes_per_s}
        )
        return {name: math.log(value) for name, value in at_a_rate(faster).figures.items() if value}

    found = at_20_requests_a_second().elasticities
    more, less = logarithms(1 + step), logarithms(1 - step)
    for name in ("inflight_ttft", "inflight_tpot", "max_request_rate"):
        slope = (more[name] - less[name]) / math.log((1 + step) / (1 - step))
        assert found[name]["memory_bandwidth"] == pytest.approx(slope, abs=0.02), name
    # A server that keeps up gains more than in proportion: its queues shrink too.
    assert found["inflight_tpot"]["memory_bandwidth"] < -0.5


@pytest.mark.slow
def test_intervals_of_an_explained_wait_are_those_of_a_sweep() -> None:
    found = sweep.explain(
        MODEL,
        "h100-sxm-80gb",
        isl=ISL,
        osl=OSL,
        request_rate=40.0,
        burstiness=SHAPE,
        calibration="vllm",
    )
    at = swept([40.0], "h100-sxm-80gb", 1)
    for end in ("lower", "upper"):
        name = f"inflight_ttft_p99_{end}"
        explained = float(found[name])
        assert explained == pytest.approx(float(at[name]), rel=1e-3) or np.isinf(explained)


# Nonsense.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--request-rate", "0"], "is not a finite number above 0"),
        (["--request-rate", "-3"], "is not a finite number above 0"),
        (["--burstiness", "0.5"], "give --request-rate too"),
        (["--request-rate", "3", "--burstiness", "0"], "is not a finite number above 0"),
        (["--request-rate", "3", "--concurrency", "4"], "--request-rate and --concurrency"),
        (["--request-rate", "3", "--requests-per-s", "4"], "--request-rate and --requests-per-s"),
        (["--request-rate", "3", "--from", "x.nc"], "--request-rate and --from"),
        (["--request-rate", "3", "--disaggregated"], "--request-rate and --disaggregated"),
        (["--max-ttft-p99", "nan"], "is not a finite number above 0"),
        (["--max-tpot-p99", "0"], "is not a finite number above 0"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], message: str, call) -> None:
    code, out, error = call("recommend", "--model", MODEL, "--isl", "9", "--osl", "9", *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"request_rate": 0.0}, "request_rate: must be a number above 0 .*, and 0.0 is not"),
        ({"request_rate": math.nan}, "request_rate: must be a number above 0"),
        ({"request_rate": 1e300}, "request_rate: .* above 0 and below 1e9, and 1e.300 is not"),
        ({"request_rate": 1.0, "burstiness": 10**400}, "burstiness: .* above 0 and below 1e9"),
        ({"burstiness": 0.5}, "give request_rate too"),
        ({"request_rate": 1.0, "burstiness": -1.0}, "burstiness: must be a number above 0"),
        ({"request_rate": 1.0, "concurrency": 4}, "given with concurrency"),
    ],
)
def test_the_function_refuses(load: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        sweep.recommend(MODEL, isl=9, osl=9, **load)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--request-rate", "2", "--concurrency", "4"], "keep one of them"),
        (["--max-ttft", "1"], "--concurrency, --request-rate or --num-requests"),
        (["--request-rate", "2", "--max-ttft-p99", "0"], "is not a finite number above 0"),
    ],
)
def test_explain_refuses_in_one_line(words: list[str], message: str, call) -> None:
    place = ["--model", MODEL, "--hardware", "l20", "--isl", "9", "--osl", "9"]
    code, out, error = call("explain", *place, *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
