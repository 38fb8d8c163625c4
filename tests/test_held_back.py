"""Prompts that a scheduler holds back, by hand and against a server simulated step by step."""

import dataclasses
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import evaluated, model, point, shipped
from server_simulation import iteration_seconds, simulate

from calibration.fit.forward import _figure, _part
from calibration.fit.table import tabulate
from calibration.measurements.inferencex import VARIATION, settings_of_run
from calibration.measurements.measurement import Measurement
from calibration.measurements.table import read_measurements
from sweep.decisions.step_unknown import step_unknown
from sweep.kernel import phases
from sweep.kernel.factors import IDEAL
from sweep.kernel.finite_run import FiniteRun
from sweep.kernel.gates import gates_of
from sweep.kernel.held_back import HeldBack, held_back
from sweep.kernel.inflight import Inflight
from sweep.kernel.keeps_step import order_of
from sweep.kernel.open_iterations import Iterations
from sweep.kernel.params import Point
from sweep.kernel.spread import spread_cycle, spread_prefill_first_cycle
from sweep.kernel.staggered import one_prompt


def server(**settings: float) -> Point:
    where = point(model("llama"), isl=100, osl=101, max_num_tokens=1000, concurrency=8)
    return dataclasses.replace(where, **settings)


def held(where: Point, clients: float = 8.0, osl: float = 101.0) -> HeldBack:
    found = held_back(where, spread_cycle(clients, 100.0, osl, 1000.0, 1.0, 0.1), jnp.ones(()))
    assert found is not None
    return found


# By hand.


def test_a_prompt_is_not_held_back_unless_a_server_says_so() -> None:
    assert held_back(server(), spread_cycle(8.0, 100.0, 101.0, 1e3, 1.0, 0.1), jnp.ones(())) is None
    assert Inflight(server()).held_back == 0.0


def test_the_first_prompt_waits_longest_and_those_that_come_meanwhile_half_as_long() -> None:
    # 8 requests stay 101 iterations each: 0.08 start in each, 1.6 in 20.
    found = held(server(batch_wait=20.0))
    rate = 8 / 101
    assert float(found.others) == pytest.approx(20 * rate, rel=0.01)
    assert float(found.iterations) == pytest.approx(
        20 * (1 + 10 * rate) / (1 + 20 * rate), rel=0.01
    )


def test_prompts_that_fill_an_iteration_end_the_wait() -> None:
    # Ten prompts fill an iteration: nine others come in 9 · 101 / 64 = 14 iterations of 64 clients.
    found = held(server(batch_wait=1000.0), 64.0)
    assert float(found.others) == pytest.approx(9, rel=1e-5)
    alone = held(server(batch_wait=1000.0, isl=1000.0))
    assert float(alone.iterations) == 0.0


def test_attention_groups_wait_until_each_has_a_prompt() -> None:
    where = server(batch_wait=1000.0, dp_attention=4.0)
    found = held_back(where, spread_cycle(8.0, 100.0, 101.0, 1e3, 1.0, 0.1), jnp.asarray(4.0))
    assert found is not None
    # Three more, one in each of the other groups: none for its own.
    assert float(found.others) == pytest.approx(3 / 4, rel=1e-5)


def test_half_of_the_steps_between_two_looks_are_waited_for() -> None:
    assert float(held(server(poll_interval=31.0)).iterations) == 15.0
    assert float(held(server(poll_interval=1.0)).iterations) == 0.0


@pytest.mark.parametrize("name", ["batch_wait", "poll_interval"])
def test_nobody_waits_longer_than_others_decode(name: str) -> None:
    """A request decodes for 100 iterations; then the server is empty, and prompts start."""
    longest, longer = (held(server(**{name: value})) for value in (100.0, 1e6))
    assert longer == longest
    shorter = held(server(**{name: 50.0}))
    assert float(shorter.iterations) < float(longest.iterations) <= 100
    gates = [
        gates_of(server(**{name: value}), jnp.ones(()), jnp.asarray(10.0)) for value in (100.0, 1e6)
    ]
    assert gates[0] == gates[1] is not None


def test_looking_at_each_step_is_looking_always() -> None:
    sizes = 64.0, 100.0, 101.0, 1000.0, 0.1
    each, always = spread_prefill_first_cycle(*sizes, 1.0), spread_prefill_first_cycle(*sizes)
    jax.tree.map(np.testing.assert_array_equal, each, always)
    # Of 64 requests of 100 steps, 6.4 start in ten: one lump after ten steps, where any ended.
    seldom = spread_prefill_first_cycle(*sizes, 10.0)
    after = (1 - 0.99**640) / 10
    assert float(seldom.lumps) == pytest.approx(after / (1 + after), rel=1e-5)
    assert float(seldom.lump) == pytest.approx(0.64 * 100 / after, rel=1e-5)


def test_a_prompt_held_back_is_late_by_its_wait_and_slows_no_token() -> None:
    factors = dataclasses.replace(IDEAL, staggered=1.0)
    plain, late = (
        Inflight(server(factors=factors, **given)) for given in ({}, {"batch_wait": 4.0})
    )
    assert float(late.queue_time - plain.queue_time) == pytest.approx(float(late.held_back))
    assert float(late.held_back) > 0
    assert float(late.tpot) == pytest.approx(float(plain.tpot))
    assert float(late.request_rate) < float(plain.request_rate)
    longer = float(late.request_latency - plain.request_latency)
    assert longer == pytest.approx(float(late.held_back), rel=1e-5)


def test_tokens_that_are_sent_together_are_late_and_no_request_is_longer() -> None:
    plain, late = Inflight(server()), Inflight(server(stream_interval=11.0))
    assert float(late.ttft - plain.ttft) == pytest.approx(10 * float(plain.tpot), rel=1e-5)
    assert float(late.tpot) == pytest.approx(float(plain.tpot) * (1 - 10 / 100), rel=1e-6)
    ends = [float(each.ttft + 100 * each.tpot) for each in (plain, late)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    assert float(late.request_rate) == pytest.approx(float(plain.request_rate))
    # An output shorter than the interval is sent when it ends.
    short = Inflight(server(stream_interval=1000.0))
    assert float(short.ttft) == pytest.approx(ends[0], rel=1e-6)
    assert float(short.tpot) == 0.0


def test_a_request_follows_the_one_before_it_or_waits_for_its_slot() -> None:
    """The front end waits for two iterations, with prompts for 7 of 8, or for 6 of 7."""
    factors = dataclasses.replace(IDEAL, staggered=1.0, first_token_steps=2.0)
    in_turn, full = (
        Inflight(server(factors=factors, max_batch_size=float(slots))) for slots in (8, 7)
    )
    alone = float(in_turn._alone.latency)
    each = (float(in_turn.lump_latency) - alone) / float(in_turn.cycle.lump / in_turn.cycle.chunk)
    beside = alone + 7 / 8 * each
    assert float(in_turn.front_end) == pytest.approx(2 * beside, rel=1e-5)
    assert float(in_turn.start_wait) == pytest.approx(3 * beside, rel=1e-5)
    alone = float(full._alone.latency)
    each = (float(full.lump_latency) - alone) / float(full.cycle.lump / full.cycle.chunk)
    assert float(full.front_end) == pytest.approx(2 * (alone + 6 / 7 * each), rel=1e-5)
    # By Little's law the eighth is in the front end or waits, until one of seven ends.
    assert float(full.queue_time) == pytest.approx(1 / float(full.steady_rate), rel=1e-5)
    # Requests of varied lengths meet whatever iteration runs.
    varied = Inflight(server(factors=factors, osl_cv=0.1))
    assert float(varied.front_end) == pytest.approx(2 * float(varied._alone.latency), rel=1e-5)


def test_a_slot_is_empty_for_the_iteration_before_the_next_request() -> None:
    """Two clients: each request takes its iterations and one more, of which two have prompts."""
    factors = dataclasses.replace(IDEAL, staggered=1.0)
    found = Inflight(server(factors=factors, concurrency=2.0))
    alone = float(found._alone.latency)
    each = (float(found.lump_latency) - alone) / float(found.cycle.lump / found.cycle.chunk)
    iterations = float(found.cycle.stay) + 1
    assert 2 / float(found.steady_rate) == pytest.approx(iterations * alone + 2 * each, rel=1e-5)
    # Half of the other's prompts are in that iteration.
    spent = float(found.request_latency - found.ttft)
    of_others = float(found.cycle.interrupted) * (float(found.lump_latency) - alone)
    steps = float(found.steps)
    assert spent == pytest.approx(steps * alone + of_others - each / 2, rel=1e-5)


def test_the_first_requests_of_a_run_are_prefilled_one_by_one() -> None:
    """The first tokens of four come after one to four prompts, 2.5 on average; more come later."""
    factors = dataclasses.replace(IDEAL, staggered=1.0)
    found = FiniteRun(server(factors=factors, concurrency=4.0, num_requests=40.0))
    each = float(one_prompt(found.cycle, found._alone.latency, found.lump_latency))
    later = float(found.slot_wait + found.start_wait + found.prefill_time)
    assert float(found.ttft) == pytest.approx((4 * 2.5 * each + 36 * later) / 40, rel=1e-5)


@pytest.mark.parametrize("lengths", [(100, 101), (400, 31)])
def test_clients_beyond_the_slots_wait_as_simulated(lengths: tuple[int, int]) -> None:
    """Little's law counts those in the front end, and one client more never makes a wait shorter.

    Seven slots, and a front end of two iterations.
    """
    isl, osl = lengths
    factors = dataclasses.replace(IDEAL, staggered=1.0, first_token_steps=2.0)
    sizes = {"isl": float(isl), "osl": float(osl), "max_batch_size": 7.0, "factors": factors}
    seconds = iteration_seconds(server(**sizes))
    # Each starts in the iteration after that of the one before it.
    apart = 1.01 * seconds(7, 7 * (isl + osl / 2), isl, 1, 1.0)
    before = 0.0
    for clients in (7, 8, 9, 11, 14):
        found = Inflight(server(concurrency=float(clients), **sizes))
        inside = float(found.steady_rate * found.request_latency)
        assert inside == pytest.approx(clients, rel=1e-5)
        assert float(found.ttft) >= before * (1 - 1e-6)
        before = float(found.ttft)
        if clients < 9:
            continue
        run = simulate(
            [index * apart for index in range(clients)] + [0.0] * (50 * clients),
            clients=clients,
            slots=7,
            isl=isl,
            osl=osl,
            max_num_tokens=1000,
            seconds=seconds,
            front_end=2,
        )
        late = run.ttft(20 * clients, 40 * clients).mean()
        assert float(found.ttft) == pytest.approx(late, rel=0.03)


def test_the_longest_of_requests_sent_at_once_ends_the_run() -> None:
    """√3 · 0.2 · 100 steps more of an iteration without sequences; nothing more with clients."""
    runs = [
        Inflight(server(num_requests=8.0, concurrency=clients, osl_cv=spread))
        for clients, spread in ((8, 0.2), (8, 0.0), (4, 0.2))
    ]
    varied, equal, clients = (float(8 / each.request_rate - 8 / each.steady_rate) for each in runs)
    c = runs[0]
    half = float(phases.mixed_latency(c.point, c.cycle.decoding_alone / 2))
    empty = max(2 * half - float(c._alone.others), 0.0)
    usual = max(float(c.cycle.lumps * c.cycle.stay) - float(c.cycle.chunks), 0.0) * empty
    assert varied == pytest.approx(usual + 3**0.5 * 0.2 * 100 * empty, rel=1e-3)
    assert equal < varied
    assert clients < varied


@pytest.mark.parametrize(
    ("clients", "requests", "apart"),
    [(64.0, None, True), (64.0, 1e9, True), (64.0, 640.0, False), (9.0, None, False)],
)
def test_many_clients_lose_step_in_a_long_run(clients, requests, apart) -> None:
    factors = dataclasses.replace(IDEAL, staggered=1.0, prefill_first=1.0)
    found = Inflight(server(factors=factors, concurrency=clients, num_requests=requests))
    assert bool(found.order.apart) is apart
    assert not bool(found.order.staggered)
    keeps = Inflight(server(factors=dataclasses.replace(factors, staggered=0.0), concurrency=64.0))
    assert keeps.order.apart is None


@pytest.mark.parametrize(("requests", "apart"), [(8.0, False), (9.0, True)])
def test_requests_that_are_all_sent_at_once_start_together(requests, apart) -> None:
    factors = dataclasses.replace(IDEAL, staggered=1.0)
    where = server(factors=factors, concurrency=8.0, num_requests=requests)
    assert bool(order_of(where).staggered) is apart


def test_requests_that_come_one_by_one_do_not_gather_as_clients_in_step_do() -> None:
    factors = dataclasses.replace(IDEAL, staggered=1.0, prefill_first=1.0)
    sizes = {"factors": factors, "max_batch_size": 8.0}
    in_step, lost = (Inflight(server(concurrency=clients, **sizes)) for clients in (8.0, 64.0))
    arriving = Iterations(server(concurrency=None, **sizes)).full
    assert float(arriving.steady_rate) == pytest.approx(float(lost.steady_rate))
    assert float(arriving.steady_rate) < 0.99 * float(in_step.steady_rate)


# Against a simulation.


def simulated(clients: int, steps: int, wait: int, enough: int, requests: int = 6000) -> float:
    """Mean iterations that a prompt waits of a server that takes all in once one waited so long.

    An iteration takes as long whatever is in it; lengths vary by a tenth.
    """
    random = Random(3)
    ends = [random.randrange(steps) for _ in range(clients)]
    waiting: list[int] = []
    waits: list[int] = []
    now = 0
    while len(waits) < requests:
        waiting += [now] * ends.count(now)
        ends = [end for end in ends if end != now]
        if waiting and (now - waiting[0] >= wait or len(waiting) >= enough):
            waits += [now - came for came in waiting]
            ends += [now + round(steps * random.uniform(0.9, 1.1)) for _ in waiting]
            waiting = []
        now += 1
    return float(np.mean(waits[len(waits) // 4 :]))


@pytest.mark.parametrize(("clients", "steps", "wait"), [(4, 900, 20), (16, 900, 20), (64, 900, 40)])
def test_a_simulated_server_holds_prompts_back_as_long(clients, steps, wait) -> None:
    where = server(batch_wait=float(wait), isl=1.0)
    found = held(where, float(clients), steps + 1.0)
    assert float(found.iterations) == pytest.approx(simulated(clients, steps, wait, 1000), rel=0.1)


# Runs of InferenceX.


def run(**changes: object) -> Measurement:
    given = {
        "engine": "tensorrt-llm",
        "engine_version": "1.1.0",
        "scenario": "inflight",
        "model": "llama-3.1-70b",
        "hardware": "b200-sxm",
        "tp": 4,
        "concurrency": 8,
        "isl": 922,
        "osl": 922,
        "metric": "ttft",
    }
    return Measurement(**(given | changes))


def test_lengths_of_four_fifths_to_the_whole_vary_by_a_fifteenth() -> None:
    lengths = np.linspace(0.8, 1.0, 100_001)
    assert pytest.approx(lengths.std() / lengths.mean(), rel=1e-4) == VARIATION


DEEPSEEK = {"engine": "sglang", "model": "deepseek-r1"}


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({}, "batch_wait", 20),
        ({}, "num_requests", 80),
        ({"tp": 8}, "batch_wait", None),
        ({"osl": 7373}, "batch_wait", None),
        ({"model": "gpt-oss-120b", "dp_attention": 2}, "batch_wait", 50),
        ({"model": "gpt-oss-120b"}, "kv_cache_fraction", 0.85),
        ({"model": "deepseek-r1", "hardware": "h200-sxm-141gb"}, "kv_cache_fraction", 0.75),
        ({"model": "deepseek-r1", "weight_dtype": "fp8", "concurrency": 64}, "batch_wait", 40),
        ({"model": "deepseek-r1", "dp_attention": 8, "tp": 1}, "batch_wait", 60),
        ({"engine": "sglang", "model": "deepseek-r1"}, "poll_interval", 10),
        ({"engine": "sglang", "model": "deepseek-r1", "concurrency": 16}, "poll_interval", 30),
        ({"engine": "sglang", "model": "deepseek-r1"}, "isl_cv", 0.0642),
        ({"engine": "sglang", "hardware": "h200-sxm-141gb"}, "poll_interval", None),
        ({"engine": "sglang", "weight_dtype": "nvfp4"}, "stream_interval", 10),
        ({"engine": "sglang", "weight_dtype": "fp8", "id": "2026_03"}, "stream_interval", 30),
        ({"engine": "vllm"}, "poll_interval", None),
        ({"engine": "vllm"}, "isl_cv", 0.0642),
        (DEEPSEEK | {"weight_dtype": "fp8", "tp": 8}, "mem_fraction_static", 0.82),
        (DEEPSEEK | {"weight_dtype": "fp8", "tp": 4}, "mem_fraction_static", 0.95),
        (DEEPSEEK | {"weight_dtype": "nvfp4"}, "mem_fraction_static", 0.85),
        (DEEPSEEK | {"engine": "vllm"}, "mem_fraction_static", None),
    ],
)
def test_scripts_state_what_rows_leave_open(changes, column, value) -> None:
    assert settings_of_run(run(**changes)).get(column) == value


def test_a_row_of_the_benchmark_is_read_with_the_settings_of_its_run(tmp_path) -> None:
    columns = (
        "engine,engine_version,scenario,model,hardware,tp,concurrency,isl,osl,metric,value,note"
    )
    line = "tensorrt-llm,1.1.0,inflight,llama-3.1-70b,b200-sxm,4,8,922,922,ttft,0.2,"
    path = tmp_path / "mine.csv"
    path.write_text(f"{columns},num_requests\n{line}inferencex,40\n{line}mine,\n", "utf-8")
    of_it, other = read_measurements(path)
    assert (of_it.batch_wait, of_it.num_requests) == (20, 40)
    assert (other.batch_wait, other.num_requests, other.isl_cv) == (None, None, None)


def _ttft(of_row: tuple[Point, jax.Array]) -> jax.Array:
    where, which = of_row
    return _figure(where, ("inflight_ttft",), which)


@pytest.mark.slow
def test_rows_that_state_no_particulars_are_as_if_no_row_did() -> None:
    def predicted(rows: list[Measurement]) -> list[float]:
        (group,) = tabulate(rows, shipped()).groups
        assert group.variables == ("inflight_ttft",)
        found = np.empty(len(rows))
        for place, number in enumerate(group.rows):
            where, which = jax.tree.map(lambda leaf: leaf[0], _part(group, np.asarray([place])))
            where = dataclasses.replace(where, factors=IDEAL)
            found[number] = evaluated(_ttft, (where, which))
        return found.tolist()

    late, plain, varied = predicted([run(batch_wait=20), run(), run(isl_cv=0.1, osl_cv=0.1)])
    assert late > plain != varied
    assert predicted([run()])[0] == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize(
    ("clients", "more", "words"),
    [
        (9.0, {}, ""),
        (10.0, {}, "requests that lose it"),
        (19.0, {}, "requests that lose it"),
        (20.0, {}, ""),
        (17.0, {"num_requests": 170.0}, ""),
        (17.0, {"osl_cv": 0.5}, ""),
        (17.0, {"scheduler": 0.0}, ""),
    ],
)
def test_what_nobody_measured_of_step_is_said(clients: float, more: dict, words: str) -> None:
    factors = dataclasses.replace(IDEAL, staggered=1.0, prefill_first=1.0)
    text = step_unknown(server(factors=factors, concurrency=clients, **more))
    assert words in text
    assert bool(text) is bool(words)
    assert not step_unknown(server(concurrency=clients, **more))
