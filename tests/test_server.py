"""The closed form of in-flight batching against a simulation of the same server, and its limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import (
    FP16,
    TOY,
    covering,
    evaluated,
    hardware,
    model,
    point,
    precision,
    price,
    shipped,
    shipped_model,
)
from server_simulation import iteration_seconds, simulate

from sweep.grid.grid import Grid
from sweep.kernel.cycle import cycle
from sweep.kernel.inflight import Inflight
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.runs.run import run

LATENCIES = ("iteration_latency", "ttft", "tpot", "request_latency")


def served(spec, machine=TOY, recipe=FP16, **numbers: float) -> dict[str, float]:
    """Every in-flight variable of one point in float64."""
    names = (*LATENCIES, "output_throughput", "concurrency")
    priced = price(tuple(f"inflight_{name}" for name in names), spec, machine, recipe, **numbers)
    return {name: float(priced[f"inflight_{name}"]) for name in names}


def _inflight(where: Point) -> dict[str, jax.Array]:
    found = Inflight(where)
    return {
        name: jnp.asarray(getattr(found, name)) for name in ("concurrency", "request_rate", "ttft")
    }


LOADS = [
    # residents, isl, osl, max_num_tokens
    (1, 100, 20, 8192),
    (1, 3000, 40, 8192),
    (16, 128, 128, 8192),
    (64, 128, 128, 8192),
    (512, 128, 128, 8192),
    (512, 2048, 128, 8192),
    (64, 2048, 128, 2048),
    (64, 2048, 128, 1024),
    (256, 1000, 100, 1024),
    (256, 128, 512, 2048),
    (100, 500, 200, 2048),
    (512, 5000, 50, 8192),
    (300, 20, 300, 512),
    (8, 20_000, 200, 8192),
    (128, 256, 1, 8192),
    (128, 1, 256, 8192),
]
MODELS = ("llama-3.1-8b", "mixtral-8x7b")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_throughput_is_that_of_a_simulated_server(name: str) -> None:
    """Over all loads 0.1 % in the median and 2 % at most, for runs of one wave to six."""
    recipe, machine = shipped().precision("fp8"), shipped().hardware("h200-sxm-141gb")
    errors = {}
    with jax.enable_x64(True):
        for residents, isl, osl, budget in LOADS:
            for waves in (1, 2.5, 6):
                requests = max(1, round(residents * waves))
                where = point(
                    shipped_model(name),
                    machine,
                    recipe,
                    tp=8,
                    isl=isl,
                    osl=osl,
                    max_num_tokens=budget,
                    num_requests=requests,
                    concurrency=residents,
                )
                found = evaluated(_inflight, where)
                assert float(found["concurrency"]) == min(residents, requests)
                clock = simulate(
                    [0.0] * requests,
                    slots=residents,
                    isl=isl,
                    osl=osl,
                    max_num_tokens=budget,
                    seconds=iteration_seconds(where),
                ).end
                rate = float(found["request_rate"])
                errors[residents, isl, osl, budget, waves] = rate * clock / requests - 1
    worst = max(errors, key=lambda load: abs(errors[load]))
    assert np.median(np.abs(list(errors.values()))) < 0.001
    assert abs(errors[worst]) < 0.02, (worst, errors[worst])


@pytest.mark.slow
def test_time_to_first_token_is_that_of_a_simulated_server() -> None:
    recipe, machine = shipped().precision("fp8"), shipped().hardware("h200-sxm-141gb")
    with jax.enable_x64(True):
        for residents, isl, osl, budget in LOADS[:7]:
            where = point(
                shipped_model("llama-3.1-8b"),
                machine,
                recipe,
                isl=isl,
                osl=osl,
                max_num_tokens=budget,
                concurrency=residents,
            )
            found = simulate(
                [0.0] * 20 * residents,
                clients=residents,
                slots=residents,
                isl=isl,
                osl=osl,
                max_num_tokens=budget,
                seconds=iteration_seconds(where),
            )
            steady = found.ttft(skip=10 * residents).mean()
            assert float(evaluated(_inflight, where)["ttft"]) == pytest.approx(steady, rel=0.1), (
                residents,
                isl,
            )


# Worked out by hand.


def test_a_cycle_by_hand() -> None:
    # Four requests of 100 in and 10 out, 202 tokens an iteration: two prompts beside two
    # sequences that decode, twice in the ten iterations that a request stays.
    found = cycle(4.0, 100.0, 10.0, 202.0)
    assert float(found.chunks) == 1
    assert float(found.lump) == 200
    assert float(found.lumps) == pytest.approx(0.2)
    assert float(found.decoding_beside) == 2
    assert float(found.started) == pytest.approx(0.4)


def test_where_prompts_queue_every_iteration_is_full() -> None:
    # 9 prompts of 1000 want 9000 tokens per 2 iterations of 1000: 998 prompt tokens and, of the
    # 0.998 requests that start in each, one further token.
    found = cycle(9.0, 1000.0, 2.0, 1000.0)
    assert float(found.lumps) == 1
    assert float(found.lump) == pytest.approx(1000 * 1000 / 1001)
    assert float(found.lump + found.decoding_beside) == pytest.approx(1000)
    # With three drafts a sequence that decodes takes four tokens.
    found = cycle(9.0, 1000.0, 2.0, 1000.0, 4.0)
    assert float(found.lump + 4 * found.decoding_beside) == pytest.approx(1000)


# Limits.


@pytest.mark.slow
@pytest.mark.parametrize("family", covering())
@pytest.mark.parametrize("pp", [1, 3])
def test_one_request_alone_is_a_static_batch_of_one(family: str, pp: int) -> None:
    numbers = {"isl": 90, "osl": 20, "tp": 2, "pp": pp}
    alone = served(model(family), concurrency=1, **numbers)
    with jax.enable_x64(True):
        static = Request(point(model(family), batch_size=1, **numbers))
        assert alone["output_throughput"] == pytest.approx(float(static.output_throughput))
        assert alone["ttft"] == pytest.approx(float(static.ttft))
        assert alone["tpot"] == pytest.approx(float(static.tpot))
        assert alone["request_latency"] == pytest.approx(float(static.e2e_latency))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mixtral", "deepseek_v3", "gemma2"])
def test_with_room_for_all_prompts_a_cycle_is_a_static_batch(family: str) -> None:
    numbers = {"isl": 90, "osl": 20, "max_num_tokens": 32 * 90}
    together = served(model(family), concurrency=32, **numbers)["output_throughput"]
    with jax.enable_x64(True):
        static = Request(point(model(family), batch_size=32, isl=90, osl=20))
        assert together == pytest.approx(float(static.output_throughput))


def test_with_one_output_token_the_rate_is_that_of_prefill() -> None:
    # 64 prompts of 128 fill an iteration of 8192 tokens, whatever number is held.
    spec = shipped_model("llama-3.1-8b")
    rate = served(spec, isl=128, osl=1)["output_throughput"]
    with jax.enable_x64(True):
        prefill = Request(point(spec, TOY, FP16, batch_size=64, isl=128)).prefill_latency
        assert rate == pytest.approx(64 / float(prefill), rel=1e-3)


def test_with_one_input_token_the_rate_is_that_of_decode() -> None:
    spec = shipped_model("llama-3.1-8b")
    numbers = {"isl": 1, "osl": 4000}
    found = served(spec, concurrency=64, **numbers)
    with jax.enable_x64(True):
        static = Request(point(spec, TOY, FP16, batch_size=64, **numbers))
        assert found["output_throughput"] == pytest.approx(64 / float(static.tpot), rel=1e-3)


def test_littles_law_holds() -> None:
    found = served(shipped_model("llama-3.1-8b"), isl=300, osl=100)
    rate = found["output_throughput"] / 100
    assert found["concurrency"] == pytest.approx(rate * found["request_latency"])
    assert found["request_latency"] == pytest.approx(found["ttft"] + 99 * found["tpot"])


@pytest.mark.slow
def test_a_long_run_tends_to_the_steady_state_from_below() -> None:
    spec, numbers = shipped_model("llama-3.1-8b"), {"isl": 300, "osl": 100}
    steady = served(spec, **numbers)["output_throughput"]
    runs = [
        served(spec, num_requests=n, **numbers)["output_throughput"] for n in (1e3, 1e4, 1e5, 1e6)
    ]
    assert runs == sorted(runs)
    assert runs[-1] < steady
    assert runs[-1] == pytest.approx(steady, rel=0.01)


def test_more_clients_and_a_larger_budget_do_not_slow_the_server() -> None:
    spec = shipped_model("llama-3.1-8b")

    def rates(axis: str, values: list[float], **rest: float) -> list[float]:
        found = [served(spec, isl=500, osl=500, **{axis: v}, **rest) for v in values]
        return [f["output_throughput"] for f in found]

    by_clients = rates("concurrency", [1, 4, 16, 64])
    assert by_clients == sorted(by_clients)
    most, crowded = (served(spec, isl=500, osl=500, **more) for more in ({}, {"concurrency": 1e6}))
    same = ("iteration_latency", "tpot", "output_throughput", "concurrency")
    assert [crowded[name] for name in same] == [most[name] for name in same]


# How many requests fit.


def fitting(spec, machine=TOY, recipe=FP16, **numbers: float) -> float:
    with jax.enable_x64(True):
        return float(Request(point(spec, machine, recipe, **numbers)).max_concurrency)


def test_requests_that_fit_by_hand() -> None:
    # LLaMA-2-70B in fp8 on two GPUs of 80 GB, tp 2: 4 of 8 KV heads of 128, 80 layers, 8 bits:
    # 2·4·128·80 = 81 920 bytes a token on each; 2048 + 128 tokens are 178 257 920.
    spec, recipe = shipped_model("llama-2-70b"), shipped().precision("fp8")
    numbers = {"tp": 2, "isl": 2048, "osl": 128, "max_num_tokens": 2048, "max_batch_size": 256}
    # Weights: 68 452 024 320 of the layers' matrices, half on each; 32 000·8192 of embedding and
    # head each, 16 bits, half; 161 norms of 8192 in 16 bits, whole.
    weights = 68_451_041_280 / 2 + 2 * 32_000 * 8192 * 2 / 2 + 161 * 8192 * 2
    # The widest moment: residual in and out and the fused gate and up projection, in 16 bits,
    # and what a sum over the two exchanges, 2·(2 − 1)/2 of tokens by 8192.
    widest = 2048 * (2 * 8192 + 28_672) * 2 + 2048 * 8192 * 2
    left = 80e9 - weights - widest
    expected = math.floor(0.9 * left / (81_920 * 2176))
    assert fitting(spec, TOY, recipe, **numbers) == expected
    half = fitting(spec, TOY, recipe, kv_cache_fraction=0.45, **numbers)
    assert half == math.floor(0.45 * left / (81_920 * 2176))
    # With half of the output reserved a request takes 2112 tokens.
    eager = fitting(spec, TOY, recipe, reserved_osl=0.5, **numbers)
    assert eager == math.floor(0.9 * left / (81_920 * 2112))


def test_limits_of_an_iteration_cap_the_requests() -> None:
    numbers = {"isl": 100, "osl": 100}
    spec = model("llama")
    assert fitting(spec, **numbers) == 2048
    assert fitting(spec, max_batch_size=64, **numbers) == 64
    assert fitting(spec, max_batch_size=64, max_num_tokens=32, **numbers) == 32
    # Each microbatch of a pipeline and each attention group has its own.
    assert fitting(spec, max_batch_size=64, pp=3, **numbers) == 192
    assert fitting(spec, max_batch_size=64, dp_attention=4, **numbers) == 256


def test_where_nothing_fits_the_server_says_so() -> None:
    spec = shipped_model("llama-2-70b")
    with jax.enable_x64(True):
        found = Request(point(spec, TOY, FP16, isl=100, osl=100))
        assert float(found.max_concurrency) == 0
        assert int(found.inflight_infeasible_reason) == 1
        assert int(found.inflight_feasible) == 0
        assert math.isnan(float(found.inflight_output_throughput))
        assert math.isnan(float(found.inflight_ttft))


def test_windowed_layers_hold_no_more_than_their_window() -> None:
    # Four layers, two with a window of 48: at 200 tokens 2·(200 + 48), beyond only half grow.
    machine = hardware(memory_bytes=1e8)
    wide = {"max_batch_size": 10**6, "max_num_tokens": 10**4, "osl": 100}
    short = fitting(model("gemma2"), machine, precision("fp16"), isl=100, **wide)
    long = fitting(model("gemma2"), machine, precision("fp16"), isl=300, **wide)
    assert short / long == pytest.approx((400 + 48) / (200 + 48), rel=0.01)


@pytest.mark.slow
def test_a_server_is_swept_like_everything_else() -> None:
    found = run(
        Grid(
            models=["llama-3.1-8b", "mixtral-8x7b"],
            hardware=["h100-sxm-80gb", "h200-sxm-141gb"],
            precision=["fp8"],
            isl=[128, 2048],
            osl=[128],
            concurrency=[1, 64],
            kv_cache_fraction=[0.8, 0.9],
            variables=["inflight_output_throughput", "inflight_tpot", "max_concurrency"],
        )
    )
    assert "batch_size" not in found.dims
    assert found.max_concurrency.dims[:3] == ("model", "hardware", "precision")
    assert set(found.inflight_tpot.dims) > {"concurrency", "kv_cache_fraction"}
    assert "num_requests" not in found.dims
    assert found.inflight_tpot.attrs["ancillary_variables"] == "inflight_feasible"


def affine(decoding: Scalar, prompts: Scalar) -> Scalar:
    """A time that is fixed below 200 tokens and grows with them beyond."""
    return np.maximum(200.0, decoding + prompts) + 0.1 * (decoding + prompts)


@pytest.mark.parametrize("seed", range(20))
def test_a_cycle_against_the_simulation_at_random_loads(seed: int) -> None:
    """Far from any model: within 6 % of the steady state for fixed costs large and small."""
    random = np.random.default_rng(seed)
    residents, isl = int(2 ** random.uniform(0, 8)), int(2 ** random.uniform(3, 12))
    osl, budget = int(2 ** random.uniform(1, 8)), int(random.choice([512, 2048, 8192]))

    def total(requests: int) -> float:
        return simulate(
            [0.0] * requests,
            slots=residents,
            isl=isl,
            osl=osl,
            max_num_tokens=budget,
            seconds=lambda decoding, _, prompts, *__: affine(decoding, prompts),
        ).end

    steady = 12 * residents / (total(24 * residents) - total(12 * residents))
    c = cycle(float(residents), float(isl), float(osl), float(budget))
    alone = affine(c.decoding_alone, 0.0)
    beside = affine(c.decoding_beside, c.lump)
    rate = c.started / (c.lumps * beside + (1 - c.lumps) * alone)
    assert float(rate) == pytest.approx(steady, rel=0.06)
