"""Requests of varied lengths: moments by hand, laws, and a simulation with drawn lengths."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, model, point, shipped, shipped_model
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from server_simulation import (
    Setting,
    coarse,
    dense,
    iteration_seconds,
    open_figures,
    settings,
    spread,
    varied_requests,
)

from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.kernel import memory, phases
from sweep.kernel.acceptance import yield_variance
from sweep.kernel.factors import IDEAL
from sweep.kernel.inflight import Inflight
from sweep.kernel.params import Point
from sweep.kernel.spread import (
    chunks_of,
    likely_lengths,
    seen_by_a_prompt,
    spread_cycle,
    spread_prefill_first_cycle,
    stay_deviation,
)

SMALL = {"isl": 90, "osl": 20, "max_batch_size": 32, "max_num_tokens": 500}


def small(**numbers: Any) -> Point:
    return point(model("llama"), TOY, FP16, **(SMALL | numbers))


# By hand.


def test_four_requests_that_start_one_by_one_by_hand() -> None:
    # Each stays ten iterations, one of which prefills: 0.4 start in an iteration, none in 0.9^4.
    found = spread_cycle(4.0, 100.0, 10.0, 1e6, 1.0, 0.0)
    assert (float(found.chunks), float(found.stay)) == (1, 10)
    assert float(found.started) == pytest.approx(0.4, rel=1e-3)
    assert float(found.lumps) == pytest.approx(1 - 0.9**4, rel=1e-3)
    assert float(found.lump) == pytest.approx(100 * 0.4 / (1 - 0.9**4), rel=1e-3)
    decoding = found.lumps * found.decoding_beside + (1 - found.lumps) * 4
    assert float(decoding) == pytest.approx(0.4 * 9, rel=1e-3)
    # A prompt sees itself and three quarters of the 0.4.
    more = seen_by_a_prompt(found, 100.0, 1e6, None)
    assert float(more) == pytest.approx(1.3 - 0.4 / (1 - 0.9**4), rel=2e-3)


def test_one_request_has_the_server_to_itself() -> None:
    found = spread_cycle(1.0, 100.0, 10.0, 1000.0, 1.0, 0.5)
    assert float(found.started) == pytest.approx(0.1)
    assert float(found.lumps) == pytest.approx(0.1)
    assert float(found.decoding_beside) == pytest.approx(0, abs=1e-5)
    assert (float(found.waited), float(found.interrupted)) == pytest.approx((0, 0), abs=1e-5)


def test_a_prompt_of_two_iterations_is_in_both_by_hand() -> None:
    """Prompts as long as an iteration: about half take two, so that 1.5 of 10.5 carry one."""
    for found in (
        spread_cycle(1.0, 100.0, 10.0, 100.0, 1.0, 0.1),
        spread_prefill_first_cycle(1.0, 100.0, 10.0, 100.0, 0.1),
    ):
        chunks = float(found.chunks)
        assert chunks == pytest.approx(1.48, abs=0.01)
        assert float(found.lumps) == pytest.approx(chunks / (chunks + 9), rel=1e-3)
        # All of its tokens are in these.
        assert float(found.lump) * chunks == pytest.approx(100, rel=1e-3)
        assert float(seen_by_a_prompt(found, 100.0, 100.0, None)) == pytest.approx(0, abs=0.01)


def test_prompts_first_stop_decoding_by_hand() -> None:
    # Three requests of 10 steps: 0.3 prompts a step, some after 1 - 0.9^3 of them.
    found = spread_prefill_first_cycle(3.0, 100.0, 11.0, 1e6, 0.0)
    prefills = 1 - 0.9**3
    assert float(found.lumps) == pytest.approx(prefills / (1 + prefills))
    assert float(found.started) == pytest.approx(0.3 / (1 + prefills))
    assert float(found.stay) == pytest.approx(1 + 10 * (1 + prefills))
    assert (float(found.decoding_beside), float(found.waited)) == (0, 0)


@pytest.mark.parametrize(("chunks", "variation"), [(0.4, 0.0), (2.0, 0.0), (2.3, 0.7), (30.0, 0.2)])
def test_prompts_are_rounded_up_to_iterations(chunks: float, variation: float) -> None:
    deviation = np.sqrt(np.log1p(variation**2))
    random = np.random.default_rng(1)
    drawn = chunks * np.exp(deviation * random.standard_normal(200_000) - deviation**2 / 2)
    assert float(chunks_of(chunks, variation)) == pytest.approx(np.ceil(drawn).mean(), rel=0.02)


@pytest.mark.parametrize("chunks", [12.0, 40.0])
def test_a_long_prompt_takes_half_an_iteration_more_than_its_mean(chunks: float) -> None:
    # Rounding up adds a half on average, 1 to 4 % of these means.
    drawn = chunks * np.random.default_rng(2).lognormal(-0.125, 0.5, 400_000)
    variation = np.sqrt(np.expm1(0.25))
    assert float(chunks_of(chunks, variation)) == pytest.approx(np.ceil(drawn).mean(), rel=3e-3)


def test_likely_lengths_have_the_mean_of_one() -> None:
    with jax.enable_x64(True):
        found = likely_lengths(0.5)
        assert float(found.mean()) == pytest.approx(1)
        assert np.all(np.diff(found) > 0)
        assert float(found.std()) == pytest.approx(0.5, rel=0.1)
        assert np.asarray(likely_lengths(0.0)) == pytest.approx(np.ones(len(found)))


def test_tokens_see_long_outputs_more_often() -> None:
    # A tenth of the outputs has 100 steps, and nine tenths none: seen from a token all have 100.
    with jax.enable_x64(True):
        steps = np.asarray([100.0] + [0.0] * 9)
        variation = steps.std() / steps.mean()
        varied = phases.decode_pass(small(osl=steps.mean() + 1, osl_cv=variation), 4.0)
        long = phases.decode_pass(small(osl=101), 4.0)
    assert float(varied.attention) == pytest.approx(float(long.attention))
    assert float(varied.others) == float(long.others)


def test_attention_of_prompts_grows_with_their_mean_square() -> None:
    with jax.enable_x64(True):

        def spent(length: float, **numbers: float) -> float:
            where = small(**numbers)
            found = phases.prefill_attention_latency(where, sequences=2.0, chunk=length, chunks=1.0)
            return float(found)

        # Prompts of 40,000 and 120,000 tokens.
        both = (spent(4e4) + spent(12e4)) / 2
        assert spent(8e4, isl_cv=0.5) == pytest.approx(both, rel=0.01)


def test_a_draft_yields_one_token_or_two() -> None:
    assert float(yield_variance(1.0, 0.5)) == pytest.approx(0.25)
    assert float(yield_variance(4.0, 1.0)) == float(yield_variance(4.0, 0.0)) == 0


def test_lengths_spread_iterations_by_hand() -> None:
    # Half of 20 steps, and half of the 8 iterations of a prompt.
    where = small(isl=4000, osl=21, osl_cv=0.5, isl_cv=0.5)
    deviation = stay_deviation(where)
    assert deviation is not None
    assert float(deviation) == pytest.approx(np.hypot(10, 4), rel=1e-6)


def test_passes_deviate_as_drawn() -> None:
    random = np.random.default_rng(4)
    where = small(osl=301, draft_tokens=3, acceptance_rate=0.7)
    drafts = np.cumprod(random.random((2000, 300, 3)) < 0.7, axis=2).sum(axis=2)
    passes = (np.cumsum(1 + drafts, axis=1) < 300).sum(axis=1) + 1
    deviation = stay_deviation(where)
    assert deviation is not None
    assert float(deviation) == pytest.approx(passes.std(), rel=0.05)


# Laws.

NAMES = ("concurrency", "request_rate", "ttft", "tpot", "tpot_p99", "iteration_latency")


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["chunked", "prefill_first"])
def test_no_spread_is_as_without(scheduler: str) -> None:
    with jax.enable_x64(True), jax.disable_jit():
        plain = Inflight(small(concurrency=12, scheduler=scheduler))
        even = Inflight(small(concurrency=12, scheduler=scheduler, isl_cv=0.0, osl_cv=0.0))
        assert [float(getattr(even, n)) for n in NAMES] == [float(getattr(plain, n)) for n in NAMES]


@given(st.lists(st.floats(0, 3), min_size=2, max_size=2))
@hypothesis_settings(max_examples=4, deadline=None)
def test_fewer_requests_of_varied_outputs_fit(variations: list[float]) -> None:
    fewer, more = (
        float(memory.max_concurrency(small(max_batch_size=10**9, osl_cv=each)))
        for each in sorted(variations, reverse=True)
    )
    assert fewer <= more <= float(memory.max_concurrency(small(max_batch_size=10**9)))


@pytest.mark.parametrize("scheduler", ["chunked", "prefill_first"])
def test_littles_law_holds(scheduler: str) -> None:
    with jax.enable_x64(True), jax.disable_jit():
        found = Inflight(small(concurrency=12, scheduler=scheduler, isl_cv=0.4, osl_cv=0.8))
        whole = float(found.ttft + 19 * found.tpot)
        assert float(found.request_latency) == pytest.approx(whole)
        assert float(found.request_rate * found.request_latency) == pytest.approx(12)


@jax.jit
def _whole(where: Point) -> tuple[jax.Array, ...]:
    found = Inflight(where)
    decoding = (where.length("osl") - 1) * found.tpot
    lone = where.decode_passes * phases.decode_pass(where, 1.0).latency
    parts = found.queue_time, found.prefill_time
    return tuple(map(jnp.asarray, (found.ttft, decoding, found.request_latency, lone, *parts)))


LOADS = st.fixed_dictionaries(
    {
        "isl": st.integers(1, 3000),
        "osl": st.integers(2, 200),
        "concurrency": st.integers(1, 200),
        "max_num_tokens": st.integers(32, 2000),
        "scheduler": st.sampled_from(["chunked", "prefill_first"]),
    }
)


@given(
    LOADS,
    st.sampled_from([{}, {"isl_cv": 0.5, "osl_cv": 0.3}, {"draft_tokens": 2}]),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.booleans(),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_first_token_and_the_others_take_the_time_of_a_request(
    load: dict[str, Any], more: dict[str, float], shares: list[float], singly: bool
) -> None:
    """Whatever the server and the lengths; and no token takes less than half an iteration."""
    if "isl_cv" in more:
        more = {"isl_cv": 3 * shares[0], "osl_cv": shares[1]}
    elif more:
        more = more | {"acceptance_rate": shares[0]}
    with jax.enable_x64(True):
        where = small(**load, **more)
        if singly:
            where = replace(where, factors=replace(IDEAL, staggered=1.0, first_token_steps=0.5))
        first, decoding, whole, lone, queue, prefill = map(float, _whole(where))
    assert first + decoding == pytest.approx(whole, rel=1e-9)
    assert decoding >= lone / 2 * (1 - 1e-9)
    assert queue >= 0 and prefill > 0 and queue + prefill == pytest.approx(first)


# Against a simulation with drawn lengths.

VARIATIONS = ((0.06, 0.06), (0.3, 0.5), (1.0, 1.0), (0.0, 0.7))


@jax.jit
def _closed(where: Point) -> dict[str, jax.Array]:
    found = Inflight(where)
    return {name: jnp.asarray(getattr(found, name)) for name in ("request_rate", "ttft", "tpot")}


def closed_errors(
    setting: Setting, variations: tuple[float, float], seed: int, **more: Any
) -> dict[str, float]:
    """Relative errors for clients up to three times what fits."""
    clients = max(1, round(3 * setting.load * setting.fit))
    held = min(clients, setting.fit)
    where = setting.point(concurrency=clients, isl_cv=variations[0], osl_cv=variations[1], **more)
    count = max(min(40 * held, 6000), 600) + clients
    lengths = varied_requests(setting, variations, count, seed)
    simulated = setting.simulate(
        [0.0] * count,
        clients=clients,
        seconds=coarse(iteration_seconds(where)),
        prefill_first=bool(more),
        lengths=lengths,
    )
    begin, end = count // 3, count - clients
    last = max(count - 2 * held, 2 * count // 3)
    ends = sorted(each.last for each in simulated.records)
    some = simulated.records[begin:end]
    steps = sum(decodes for _, decodes in lengths[begin:end])
    measured = {
        "request_rate": (last - begin) / (ends[last - 1] - ends[begin - 1]),
        "ttft": float(simulated.ttft(begin, end).mean()),
        "tpot": sum(each.last - each.first for each in some) / steps,
    }
    found = _closed(where)
    return {name: float(found[name]) / value - 1 for name, value in measured.items()}


def check_closed(servers: list[Setting], **more: Any) -> None:
    with jax.enable_x64(True):
        errors = [
            closed_errors(each, VARIATIONS[place % len(VARIATIONS)], place, **more)
            for place, each in enumerate(servers)
        ]
    for name, bar in {"request_rate": 0.01, "ttft": 0.02, "tpot": 0.01}.items():
        assert spread([e[name] for e in errors])[0] < bar, name


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"scheduler": 1}], ids=["chunked", "prefill_first"])
def test_prompts_about_as_long_as_an_iteration_wait_as_in_a_simulation(
    more: dict[str, int],
) -> None:
    servers = [
        Setting("llama-3.1-8b", "h100-sxm-80gb", "fp8", 1, isl, 16, 2048, 512, clients / 1536)
        for isl in (1024, 1900, 2048, 3000)
        for clients in (1, 8)
    ]
    with jax.enable_x64(True):
        errors = [closed_errors(each, (0.5, 0.5), 3, **more) for each in servers]
    for name, (median, worst) in {"request_rate": (0.01, 0.02), "ttft": (0.05, 0.15)}.items():
        found = np.abs([each[name] for each in errors])
        assert (np.median(found) < median) and (found.max() < worst), name


@pytest.mark.slow
def test_clients_of_varied_lengths_wait_as_in_a_simulation() -> None:
    check_closed(dense(6, seed=17))


@pytest.mark.campaign
@pytest.mark.parametrize("scheduler", [0, 1])
def test_clients_of_varied_lengths_wait_as_in_a_simulation_over_500_servers(scheduler: int) -> None:
    check_closed(settings(500, seed=19), **({"scheduler": scheduler} if scheduler else {}))


def open_errors(
    setting: Setting, variations: tuple[float, float], seed: int, count: int = 3000
) -> dict[str, float]:
    """Relative errors at 5 to 90 % of the capacity."""
    varied = {"isl_cv": variations[0], "osl_cv": variations[1]}
    capacity = float(open_figures(setting.point(request_rate=1.0, **varied))["capacity"])
    where = setting.point(request_rate=0.9 * setting.load * capacity, **varied)
    gaps = np.random.default_rng(seed).exponential(1 / float(where.length("request_rate")), count)
    lengths = varied_requests(setting, variations, count, seed)
    simulated = setting.simulate(
        list(np.cumsum(gaps)),
        seconds=coarse(iteration_seconds(where)),
        lengths=lengths,
    )
    begin = count // 10
    ttft = simulated.ttft(begin)
    steps = sum(decodes for _, decodes in lengths[begin:])
    measured = {
        "mean": float(ttft.mean()),
        "p99": float(np.quantile(ttft, 0.99)),
        "tpot": sum(each.last - each.first for each in simulated.records[begin:]) / steps,
    }
    found = open_figures(where)
    return {name: float(found[name]) / value - 1 for name, value in measured.items()}


BARS = {"mean": 0.1, "p99": 0.25}
"""Largest medians of relative errors."""


def check_open(servers: list[Setting], bars: dict[str, float]) -> None:
    with jax.enable_x64(True):
        errors = [
            open_errors(each, VARIATIONS[place % len(VARIATIONS)], place)
            for place, each in enumerate(servers)
        ]
    for name, bar in bars.items():
        assert spread([e[name] for e in errors])[0] < bar, name


@pytest.mark.campaign
def test_arrivals_of_varied_lengths_wait_as_in_a_simulation_over_150_servers() -> None:
    check_open(settings(150, seed=43), BARS)
    check_open(dense(12, seed=77), BARS | {"tpot": 0.05})


# Files.


def grid(**axes: Any) -> Grid:
    places = {"models": ["llama-3.1-8b"], "hardware": ["l20"], "isl": [9], "osl": [9]}
    return Grid(**places, **axes, variables=["inflight_ttft"])


def test_a_uniform_length_is_its_variation() -> None:
    # From 0.8 L to L: a deviation of 0.2 L / √12 over a mean of 0.9 L.
    found = grid(isl_cv={"uniform_from": 0.8})
    assert found.isl_cv == [pytest.approx(0.2 / np.sqrt(12) / 0.9)]


def test_policies_of_admission_have_names() -> None:
    found = grid(reserved_osl=["max_utilization", "guaranteed_no_evict"])
    assert found.reserved_osl == [0.5, 1.0]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"reserved_osl": ["no_evict"]}, "reserved_osl: must be among max_utilization, guaranteed"),
        ({"reserved_osl": ["guaranteed_no_evict", 0.5]}, "reserved_osl: must increase"),
        ({"isl_cv": [-0.1]}, "isl_cv: every value must be a number from 0 to 10"),
        ({"osl_cv": [float("nan")]}, "osl_cv: every value must be a number from 0 to 10"),
        ({"isl_cv": {"uniform_from": 1.2}}, "uniform_from must be from 0 to 1, and 1.2 is not"),
        ({"osl_cv": {"uniform": 0.8}}, "must be a list of numbers or {uniform_from: 0.8}"),
    ],
)
def test_spreads_that_make_no_sense_are_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        grid(**axes)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_full_pages_of_windowed_layers_by_hand() -> None:
    # Gemma 3 27B has 62 layers of 16 KV heads of 128, every sixth without its window of 1024.
    machine, recipe = shipped().hardware("h200-sxm-141gb"), shipped().precision("fp16")
    each, tokens = 2 * 16 * 128 * 2, 8000 + 4000
    with jax.enable_x64(True):

        def kept(share: float | None) -> tuple[float, float]:
            spec = shipped_model("gemma-3-27b")
            stated = {} if share is None else {"kept_context": share}
            where = point(spec, machine, recipe, isl=8000, osl=4000, **stated)
            found = memory.kv_bytes_per_sequence(where, float(tokens), served=True)
            return float(found), float(memory.max_concurrency(where))

        none, full, unstated = (kept(share) for share in (0.0, 1.0, None))
    assert none[0] == each * (10 * tokens + 52 * 1024)
    assert full[0] == each * 62 * tokens
    assert unstated == none
    assert none[1] / full[1] == pytest.approx(full[0] / none[0], rel=0.1)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_pages_is_a_share(share: float) -> None:
    with pytest.raises(SpecError, match="kept_context: every value must be") as refusal:
        grid(kept_context=[share])
    assert "\n" not in str(refusal.value)
