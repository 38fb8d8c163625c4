"""Digits that 32 bits keep: results in float32 are those in float64 to within 1e-5."""

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, shipped, shipped_model
from scipy.special import betainc, gammainc, gammaln

import sweep
from sweep.engines.calibration_file import load_calibration
from sweep.evaluation.numpy_cell import Traced
from sweep.evaluation.single_cell import cell
from sweep.grid.grid import Grid
from sweep.kernel.cycle import cycle, prefill_first_cycle
from sweep.kernel.gamma_tail import lower_tail
from sweep.kernel.negative_binomial import share_waiting
from sweep.kernel.operators.any_of import any_of
from sweep.kernel.queueing import bursts
from sweep.kernel.request import Request
from sweep.kernel.staggered import staggered_cycle
from sweep.models.read import read_blocks

LONG = [1, 128, 32_768, 10**6, 10**9]
"""Lengths from the shortest to the longest. [count]"""


def both(function: Callable[..., Any], *arrays: Any) -> list[Any]:
    """The results for each of some numbers, in float32 and in float64."""
    found = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            result = jax.vmap(function)(*(jnp.asarray(array, dtype) for array in arrays))
            found.append(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result))
    return found


def test_the_share_of_any_request_keeps_its_digits() -> None:
    # Of four requests of which each is in a tenth of the iterations, 1 − 0.9⁴ = 0.3439 have one.
    assert float(any_of(4.0, jnp.asarray(0.1))) == pytest.approx(0.3439, rel=1e-6)
    assert [float(any_of(n, jnp.asarray(1.0))) for n in (0.0, 3.0)] == [0, 1]
    requests, share = map(np.ravel, np.meshgrid([0, 1, 2, 512], [1e-9, 1e-6, 1e-3, 0.5]))
    near, exact = both(any_of, requests, share)
    np.testing.assert_allclose(near, exact, rtol=1e-6)
    # One request in a billionth of the iterations is in a billionth of them.
    assert near[1] == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("make", [cycle, staggered_cycle, prefill_first_cycle])
def test_cycles_of_long_requests_keep_their_digits(make: Callable[..., Any]) -> None:
    residents, isl, osl = (a.ravel() for a in np.meshgrid([1, 2, 16, 512], LONG, LONG))
    near, exact = both(lambda *sizes: make(*sizes, 8192.0), residents, isl, osl)
    of = {field.name: getattr(exact, field.name) for field in dataclasses.fields(exact)}
    # Iterations that are left when others are subtracted are as exact as all of them.
    whole = {
        **{name: of["stay"] + of["waited"] for name in ("waited", "interrupted", "undisturbed")},
        "decoding_beside": residents,
    }
    for name, value in of.items():
        error = np.abs(getattr(near, name) - value)
        assert (error <= 1e-6 * whole.get(name, value) + 1e-30).all(), name
    alone = residents == 1
    for found in (near, exact):
        # Nothing decodes beside the only request's prompt, and it waits for nobody.
        assert (found.decoding_beside[alone] == 0).all()
        assert (found.waited[alone] <= 1e-6 * found.stay[alone]).all()


STATIC = ["ttft", "tpot", "e2e_latency", "output_throughput"]
SERVED = [
    *("inflight_iteration_latency", "inflight_ttft", "inflight_tpot", "inflight_queue_time"),
    *("inflight_prefill_time", "inflight_request_latency", "inflight_output_throughput"),
]
LOADS: dict[str, dict[str, Any]] = {
    "static": {"batch_size": [1, 8, 512], "variables": STATIC},
    "server": {"concurrency": [1, 16, 512], "variables": SERVED},
    "step": {"batch_size": [1, 512], "variables": ["decode_step_latency"]},
}
CASES = [
    pytest.param("deepseek-v3", "tensorrt-llm", "static"),
    # A dense model, whose server compiles in a third of the time.
    pytest.param("llama-3.1-8b", "vllm", "server"),
    *(
        pytest.param("deepseek-v3", calibration, load, marks=pytest.mark.campaign)
        for calibration in ("vllm", "tensorrt-llm", "sglang", "vllm-rocm", None)
        for load in LOADS
        if (calibration, load) != ("tensorrt-llm", "static")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "calibration", "load"), CASES)
def test_float32_is_within_a_hundred_thousandth_in_calibrated_sweeps(
    model: str, calibration: str | None, load: str
) -> None:
    lengths = {"context_len": LONG} if load == "step" else {"isl": LONG, "osl": [1, 2, 8192, 10**9]}
    grid = Grid(
        models=[model],
        hardware=["h100-sxm-80gb"],
        precision=["fp8"],
        tp=[1, 8],
        **lengths,
        **LOADS[load],
    )
    near, exact = (
        sweep.run(grid, dtype=dtype, keep_infeasible=True, calibration=calibration)
        for dtype in ("float32", "float64")
    )
    for name in exact.data_vars:
        if exact[name].dtype.kind == "f":
            np.testing.assert_allclose(near[name], exact[name], rtol=1e-5, err_msg=str(name))


def test_a_share_that_waits_by_hand() -> None:
    # A shape of 1 is a geometric distribution: with ratios of 1/2 throughout, 1/2⁵ reach five.
    assert float(share_waiting(5.0, 1.0, 0.5, 0.5)) == pytest.approx(1 / 32, rel=1e-6)
    # P(0) = 1/4 and P(1) = 1/4 of a shape of 2; beyond, half of each: 1/4 and 1/4 + 1/8 + … = 1/2.
    assert float(share_waiting(1.0, 2.0, 0.5, 0.5)) == pytest.approx(2 / 3, rel=1e-6)


@pytest.mark.slow
def test_a_share_that_waits_keeps_its_digits() -> None:
    """For up to 4,096 slots, against sums of logarithms of gamma functions in 64 bits."""
    chance = np.random.default_rng(3)
    number, shape = np.exp(chance.uniform([[0], [-5]], [[np.log(4096)], [8]], (2, 2000)))
    shape += 1
    mean = number * chance.uniform(0.3, 2, number.size)
    odds, falling = mean / (mean + shape), np.exp(chance.uniform(-6, 0, number.size))
    kept = odds < 0.98
    given = [np.float32(each[kept]) for each in (number, shape, odds, falling)]
    near, exact = both(share_waiting, *given)
    n, s, o, f = (np.float64(each) for each in given)
    point = gammaln(n + s) - gammaln(s) - gammaln(n + 1) + s * np.log1p(-o) + n * np.log(o)
    full = np.exp(point) / f
    wanted = full / (betainc(s, n, 1 - o) + full)
    matters = wanted > 1e-9
    assert matters.sum() > 1000
    np.testing.assert_allclose(exact[matters], wanted[matters], rtol=1e-7)
    # Rounding of the odds is raised to a power of as many as there are slots.
    error = np.abs(near[matters] / wanted[matters] - 1)
    assert np.median(error) < 1e-6
    assert error.max() < 2e-5


def test_the_tail_of_a_gamma_distribution_by_hand() -> None:
    # A shape of 1 is exponential: P(1, x) = 1 − e⁻ˣ, D = x e⁻ˣ, and P(2, x) = P(1, x) − D.
    point, ratio, excess = lower_tail(1.0, 0.5)
    two = 1 - math.exp(-0.5) - 0.5 * math.exp(-0.5)
    assert float(point * excess) == pytest.approx(1 - math.exp(-0.5) - two / 0.5, rel=1e-6)
    assert float(point) == pytest.approx(0.5 * math.exp(-0.5), rel=1e-6)
    assert float(point * ratio) == pytest.approx(1 - math.exp(-0.5), rel=1e-6)
    # At its mean, half of a large shape and a third of D, as Ramanujan found.
    point, ratio, _ = lower_tail(1e6, 1 - 1e-9)
    assert float(point * ratio) == pytest.approx(0.5 + float(point) / 3, rel=1e-5)


@pytest.mark.slow
def test_the_tail_of_a_gamma_distribution_keeps_its_digits() -> None:
    chance = np.random.default_rng(4)
    shape = np.exp(chance.uniform(-4, 14, 3000))
    used = 1 - np.exp(chance.uniform(-6, -0.01, shape.size))
    given = np.float32(shape), np.float32(used)
    near, exact = both(lower_tail, *given)
    shape, used = map(np.float64, given)
    series = np.ones_like(shape)
    for term in range(20_000, 0, -1):
        series = 1 + shape * used / (shape + term) * series
    np.testing.assert_allclose(exact[1], series, rtol=1e-5)
    np.testing.assert_allclose(near[1], series, rtol=2e-5)
    small = shape < 50
    wanted = gammainc(shape, shape * used)[small]
    np.testing.assert_allclose((exact[0] * exact[1])[small], wanted, rtol=1e-5)
    matters = wanted > 1e-12
    np.testing.assert_allclose((near[0] * near[1])[small][matters], wanted[matters], rtol=2e-5)


@pytest.mark.slow
def test_waits_of_bursts_keep_their_digits() -> None:
    """Near the capacity, in bursts and at even gaps, whose waits vanish at low loads."""
    loads, shapes = [1e-4, 0.01, 0.3, 0.7, 0.9, 0.99, 0.999], [0.05, 0.3, 0.9, 3.0, 26.0]
    used, dispersion = (each.ravel() for each in np.meshgrid(loads, 1 / np.array(shapes)))
    near, exact = both(bursts, used, dispersion)
    assert np.isfinite(near).all() and (near[0] > 0).all() and (near[1] >= 0).all()
    wait = exact[1] > 1e-9
    np.testing.assert_allclose(near[0], exact[0], rtol=5e-5, atol=1e-9)
    np.testing.assert_allclose(near[1][wait], exact[1][wait], rtol=5e-5)


SERVER = [
    *("inflight_ttft", "inflight_queue_time", "inflight_prefill_time", "inflight_ttft_p99"),
    *("inflight_tpot", "inflight_tpot_p99", "inflight_request_latency", "inflight_prompt_share"),
    *("inflight_output_throughput", "inflight_iteration_latency", "inflight_power"),
    *("inflight_utilisation", "max_request_rate", "max_concurrency"),
]
"""Figures of a server; the others are quotients of these."""


def part_of(name: str, found: dict[str, float], osl: float) -> float:
    """The whole of which a figure is what is left when others are subtracted; 0 for most."""
    if name in ("inflight_queue_time", "inflight_prefill_time"):
        return found["inflight_ttft"]
    if name == "inflight_tpot":
        return found["inflight_request_latency"] / max(osl - 1, 1)
    return float(name == "inflight_prompt_share")


def whole_number(chance: random.Random, most: float) -> float:
    """A number from 1 on, of any size."""
    return float(round(math.exp(chance.uniform(0, math.log(most)))))


def share(chance: random.Random) -> float:
    return chance.choice([0.0, chance.random(), 1.9 * chance.random()])


KINDS: dict[str, Callable[[random.Random], dict[str, float]]] = {
    "clients": lambda chance: {
        "concurrency": whole_number(chance, 4096),
        "prefix_hit_rate": chance.choice([0.0, chance.uniform(0, 0.99)]),
    },
    "a run": lambda chance: {
        "concurrency": whole_number(chance, 4096),
        "num_requests": whole_number(chance, 1e5),
    },
    "varied lengths and drafts": lambda chance: {
        "concurrency": whole_number(chance, 4096),
        "isl_cv": share(chance),
        "osl_cv": share(chance),
        "draft_tokens": float(chance.randint(0, 8)),
        "acceptance_rate": chance.random(),
    },
    # As a share of the capacity.
    "arrivals": lambda chance: {"request_rate": 1 - math.exp(chance.uniform(-6, 0))},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "calibration", "count"),
    [
        pytest.param(kind, calibration, count, marks=mark)
        for kind, calibration, few in (
            ("clients", "tensorrt-llm", 20),
            ("a run", "vllm", 20),
            ("varied lengths and drafts", "sglang", 20),
            ("arrivals", "tensorrt-llm", 6),
        )
        for count, mark in ((few, ()), (10 * few, pytest.mark.campaign))
    ],
)
def test_figures_of_servers_keep_their_digits(kind: str, calibration: str, count: int) -> None:
    """Random servers of one model on several accelerators, computed by NumPy in 32 and 64 bits.

    Figures that are left when others are subtracted are as exact as those.
    """
    chance = random.Random(f"digits {kind}")
    blocks = read_blocks(shipped_model("qwen3-8b").config, "qwen3-8b")
    fitted = load_calibration(calibration)
    machines = [shipped().hardware(name) for name in ("h100-sxm-80gb", "l20", "a10g", "h20-96gb")]

    def figures(where: Any) -> dict[str, Any]:
        request = Request(where, keep_infeasible=True)
        return {name: jnp.asarray(getattr(request, name)) for name in SERVER}

    traced: dict[bool, Traced] = {}

    def computed(machine: Any, numbers: dict[str, float], *, x64: bool) -> dict[str, float]:
        with jax.enable_x64(x64):
            given = cell(blocks, machine, FP16, numbers, fitted)
            if x64 not in traced:
                traced[x64] = Traced(figures, given)
            return {name: float(value) for name, value in traced[x64](given).items()}

    compared = 0
    for _ in range(count):
        machine, osl = chance.choice(machines), whole_number(chance, 1e5)
        numbers = {"tp": 2.0 ** chance.randint(0, 3), "isl": whole_number(chance, 1e6), "osl": osl}
        numbers |= KINDS[kind](chance)
        if kind == "arrivals":
            capacity = computed(machine, numbers, x64=True)["max_request_rate"]
            numbers["request_rate"] = max(numbers["request_rate"] * capacity, 1e-6)
        near, exact = (computed(machine, numbers, x64=x64) for x64 in (False, True))
        # What is near the capacity waits in proportion to 1 / (1 − utilisation).
        spare = max(1 - exact["inflight_utilisation"], 1e-3) if kind == "arrivals" else 1.0
        for name in SERVER:
            assert math.isnan(near[name]) == math.isnan(exact[name]), (name, machine.name, numbers)
            allowed = max(1e-5, 5e-7 / spare) * abs(exact[name])
            allowed += 1e-6 * abs(part_of(name, exact, osl))
            error = abs(near[name] - exact[name])
            assert not error > allowed, (name, error / allowed, machine.name, numbers)
            compared += exact[name] != 0 and math.isfinite(exact[name])
    assert compared > 8 * count
