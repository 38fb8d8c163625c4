"""Laws that hold at every point: of rooflines, of sums over a growing context, of grids."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import (
    all_families,
    blocks,
    covering,
    evaluated,
    hardware,
    model,
    point,
    price,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import FIGURES, NUMBERS, RECIPES, machines, models

from sweep.kernel import phases
from sweep.kernel.growing_context import sum_of_larger
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.params import Point
from sweep.kernel.roofline import network_seconds, peak_rate
from sweep.schema.terms import BOUNDS
from sweep.specs.hardware import HardwareSpec

FAMILY = pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral"])
LATENCIES = (
    "prefill_latency",
    "decode_step_latency",
    "e2e_latency",
    "global_decode_step_latency",
)
TOTALS = (*LATENCIES, "prefill_flops", "prefill_bytes", "decode_step_flops", "decode_step_bytes")
CLOSE = 1 + 1e-12


# Rooflines.


@pytest.mark.slow
@FAMILY
@given(st.data())
def test_the_sum_of_maxima_is_at_least_the_maximum_of_sums(family: str, data: Any) -> None:
    # Of the matrix rate no operator exceeds, and of bandwidth; no operator here has a bias,
    # so each has matrix or element-wise operations and not both.
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    fastest = max(*machine.peaks.values(), machine.vector_flops_per_s or 0)
    bandwidth = machine.memory_bandwidth_bytes_per_s
    found = price(TOTALS, spec, machine, recipe, **numbers)
    for phase in ("prefill", "decode_step"):
        latency = found[f"{phase}_latency"] * CLOSE
        assert latency >= found[f"{phase}_flops"] / fastest
        assert latency >= found[f"{phase}_bytes"] / bandwidth


def resource_totals(works: list[phases.Work], where: Point) -> list[Any]:
    """Time of each resource alone, were it all that a step needs."""
    machine = where.hardware
    recipe = where.precision
    peak = [peak_rate(machine, recipe.peak(OPERATORS[w.name].role)) for w in works]
    return [
        sum(w.count * w.cost.tensor_flops / rate for w, rate in zip(works, peak, strict=True)),
        sum(w.count * w.cost.vector_flops / machine.vector_rate for w in works),
        sum(w.count * w.cost.special_ops / machine.special_rate for w in works),
        sum(w.count * w.cost.memory_bytes / machine.bandwidth for w in works),
        sum(w.count * network_seconds(w.cost, machine) for w in works),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", all_families())
def test_no_resource_needs_longer_than_the_step(family: str) -> None:
    with jax.enable_x64(True):
        where = point(model(family), tp=2, batch_size=3, isl=70, context_len=90)
        for works in (phases.prefill(where), phases.decode_step(where)):
            latency = phases.latency(works)
            totals = resource_totals(works, where)
            assert all(total <= latency * CLOSE for total in totals)
            assert latency <= sum(totals) * CLOSE


@pytest.mark.slow
@FAMILY
@given(st.data())
def test_a_faster_machine_is_never_slower(family: str, data: Any) -> None:
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    field = data.draw(st.sampled_from([*FIGURES, "peak_flops_per_s"]))
    factor = data.draw(st.floats(1, 1e4))
    if field == "peak_flops_per_s":
        faster: Any = {d: rate * factor for d, rate in machine.peak_flops_per_s.items()}
    else:
        faster = getattr(machine, field) * factor
    upgraded = machine.model_copy(update={field: faster})
    slow = price(TOTALS, spec, machine, recipe, **numbers)
    fast = price(TOTALS, spec, upgraded, recipe, **numbers)
    for name in LATENCIES:
        assert fast[name] <= slow[name] * CLOSE


NO_WAITING = {"link_latency_s": 0.0, "pcie_latency_s": 0.0, "network_latency_s": 0.0}


@pytest.mark.slow
@FAMILY
@given(st.data())
def test_twice_every_rate_takes_half_the_time(family: str, data: Any) -> None:
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    rates = [figure for figure in FIGURES if figure != "on_chip_cache_bytes"]
    machine = machine.model_copy(update=NO_WAITING)
    doubled = machine.model_copy(
        update={
            **{rate: 2 * getattr(machine, rate) for rate in rates},
            "peak_flops_per_s": {d: 2 * rate for d, rate in machine.peak_flops_per_s.items()},
        }
    )
    once = price(TOTALS, spec, machine, recipe, **numbers)
    twice = price(TOTALS, spec, doubled, recipe, **numbers)
    for name in LATENCIES:
        assert twice[name] == pytest.approx(once[name] / 2, rel=1e-12)


@pytest.mark.slow
@FAMILY
@given(st.data())
def test_more_work_is_never_faster(family: str, data: Any) -> None:
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    axis = data.draw(st.sampled_from(["batch_size", "context_len", "isl", "osl"]))
    more = numbers | {axis: numbers[axis] + data.draw(st.integers(1, 10_000))}
    less, found = (price(TOTALS, spec, machine, recipe, **n) for n in (numbers, more))
    for name in TOTALS:
        assert found[name] * CLOSE >= less[name]


@pytest.mark.slow
@pytest.mark.parametrize("family", all_families())
def test_nothing_is_reduced_on_one_gpu(family: str) -> None:
    def reduced(tp: int) -> list[float]:
        with jax.enable_x64(True):
            works = phases.decode_step(point(model(family), tp=tp, context_len=64))
            return [float(w.seconds.latency) for w in works if w.name.endswith("all_reduce")]

    assert reduced(1)
    assert not any(reduced(1))
    assert all(seconds > 0 for seconds in reduced(2))


@pytest.mark.slow
@pytest.mark.parametrize("family", all_families())
def test_shards_together_multiply_what_the_whole_does(family: str) -> None:
    # Up to the KV heads, 2 at least; routers, gates of one column and OPT's projections are copied.
    copied = {
        "router",
        "shared_expert_gate",
        "embedding_projection",
        "head_projection",
        "query_down_projection",
        "latent_projection",
        "entry_projection",
        "attention_collapse",
        "ffn_collapse",
        "final_collapse",
    }

    def matrices(tp: int) -> float:
        with jax.enable_x64(True):
            works = phases.prefill(point(model(family), tp=tp, batch_size=3, isl=70))
            split = [w for w in works if w.name not in copied and "index" not in w.name]
            return float(sum(w.count * w.cost.tensor_flops for w in split))

    assert 2 * matrices(2) == pytest.approx(matrices(1), rel=1e-12)


@pytest.mark.slow
@given(st.data())
def test_a_window_as_long_as_the_prompt_changes_nothing(data: Any) -> None:
    isl = data.draw(st.integers(1, 5000))
    window = isl + data.draw(st.integers(0, 100))
    machine, recipe = data.draw(machines()), data.draw(RECIPES)
    names = ("prefill_latency", "prefill_flops", "prefill_bytes", "decode_step_latency")
    numbers = {"isl": isl, "context_len": isl, "batch_size": 3}
    windowed = price(names, model("mistral", sliding_window=window), machine, recipe, **numbers)
    full = price(names, model("llama"), machine, recipe, **numbers)
    for name in names:
        assert windowed[name] == pytest.approx(full[name], rel=1e-12)


@pytest.mark.slow
def test_a_window_shorter_than_the_prompt_saves_work() -> None:
    names = ("prefill_flops", "decode_step_bytes")
    windowed = price(names, model("mistral"), isl=49, context_len=49)
    full = price(names, model("llama"), isl=49, context_len=49)
    for name in names:
        assert windowed[name] < full[name]


# Decoding, summed over a growing context.

LONGEST_OUTPUT = 300


def closed_and_counted(where: Point) -> tuple[jax.Array, jax.Array]:
    """Time of all decode steps, in closed form and step by step."""
    isl, osl = where.length("isl"), where.length("osl")

    def seconds(context: jax.Array) -> jax.Array:
        return phases.latency(phases.decode_step(dataclasses.replace(where, context_len=context)))

    steps = jnp.arange(LONGEST_OUTPUT, dtype=float)
    each = jax.vmap(seconds)(isl + 1 + steps)
    return phases.decode_latency(where), jnp.sum(jnp.where(steps < osl - 1, each, 0.0))


def tipping_machine(group: int, context: float, **changes: Any) -> HardwareSpec:
    """A machine on which 16-bit attention turns from memory to compute at `context`.

    With g query heads to a KV head, K KV heads of d elements and a context of C, one step reads
    4·K·d·C + 4·g·K·d bytes and takes 4·g·K·d·C FLOPs. They take the same time where
    peak/bandwidth = C/(C/g + 1), so with that ratio at C the operator tips over there.
    """
    bandwidth = 1e12
    peak = bandwidth * context / (context / group + 1)
    return hardware(
        memory_bandwidth_bytes_per_s=bandwidth,
        peak_flops_per_s={"fp16": peak},
        **({"special_function_ops_per_s": None} | changes),
    )


def group_of(family: str) -> int:
    layers = [block for block in blocks(family) if block.in_transformer]
    return int(layers[0].heads // layers[0].kv_heads)


TIPS_BEFORE_THE_WINDOW = {"isl": 20, "osl": 90, "batch_size": 4, "tp": 1}
TIPS_AFTER_THE_WINDOW = {"isl": 40, "osl": 60, "batch_size": 1, "tp": 2}
ALL_BEYOND_THE_WINDOW = {"isl": 48, "osl": 300, "batch_size": 7, "tp": 1}
ONE_TOKEN = {"isl": 47, "osl": 1, "batch_size": 7, "tp": 1}


@pytest.mark.slow
@pytest.mark.parametrize("family", covering())
@settings(max_examples=8)
@given(
    st.fixed_dictionaries(
        {
            "isl": st.integers(1, 400),
            "osl": st.integers(1, LONGEST_OUTPUT),
            "batch_size": st.integers(1, 64),
            "tp": st.sampled_from([1, 2]),
        }
    ),
    st.floats(1, 700),
    st.sampled_from([None, 1e10, 1e12]),
)
@example(TIPS_BEFORE_THE_WINDOW, 30.5, None)
@example(TIPS_AFTER_THE_WINDOW, 70.0, None)
@example(ALL_BEYOND_THE_WINDOW, 100.0, 1e10)
@example(ONE_TOKEN, 50.0, None)
def test_decoding_in_closed_form_is_the_sum_of_its_steps(
    family: str, numbers: dict[str, int], tips_at: float, special: float | None
) -> None:
    machine = tipping_machine(group_of(family), tips_at, special_function_ops_per_s=special)
    with jax.enable_x64(True):
        where = point(model(family), machine, **numbers)
    closed, counted = evaluated(closed_and_counted, where)
    assert float(closed) == pytest.approx(float(counted), rel=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_attention_tips_over_where_it_should(family: str) -> None:
    machine = tipping_machine(group_of(family), 100.0)

    def bound(context_len: int) -> str:
        with jax.enable_x64(True):
            works = phases.decode_step(point(model(family), machine, context_len=context_len))
            (attention,) = [w for w in works if w.name == "attention"]
            return BOUNDS[int(jnp.argmax(jnp.stack(attention.seconds.shares)))]

    assert [bound(99), bound(101)] == ["memory", "compute"]


@pytest.mark.slow
@pytest.mark.parametrize("isl", [10**5, 10**8, 10**9])
def test_a_short_decode_after_the_longest_prompts_keeps_its_steps_in_float32(isl: int) -> None:
    # A grid takes lengths up to 1e9; float32 counts only to 2^24 one by one.
    def seconds(x64: bool) -> float:
        with jax.enable_x64(x64):
            return float(phases.decode_latency(point(model("llama"), isl=isl, osl=10)))

    assert seconds(x64=False) == pytest.approx(seconds(x64=True), rel=1e-5)


@pytest.mark.slow
def test_a_single_output_token_needs_no_decode_step() -> None:
    found = price(("ttft", "e2e_latency", "tpot"), model(), isl=100, osl=1)
    assert found["e2e_latency"] == found["ttft"]
    assert np.isnan(found["tpot"])


@jax.jit
def _sum_of_larger(one: Any, other: Any, first: Any, terms: Any) -> jax.Array:
    return sum_of_larger(one, other, first, terms)


LINES = st.tuples(st.integers(-200, 200), st.integers(-20, 20))


@given(LINES, LINES, st.integers(1, 60), st.integers(-1, 60))
@example((0, 1), (3, 0), 1, 5)  # 3 + 3 + 3 + 4 + 5 = 18, the docstring's
@example((5, 1), (5, 1), 1, 9)
@example((5, 0), (7, 0), 1, 9)
def test_the_sum_of_the_larger_of_two_lines(one, other, first: int, more: int) -> None:
    last = first + more
    # Lines of halves, so that they cross between integers too.
    halves = [tuple(value / 2 for value in line) for line in (one, other)]
    by_hand = sum(max(a + b * x for a, b in halves) for x in range(first, last + 1))
    with jax.enable_x64(True):
        lines = [tuple(jnp.asarray(value) for value in line) for line in halves]
        found = _sum_of_larger(*lines, jnp.asarray(float(first)), jnp.asarray(more + 1.0))
    assert float(found) == pytest.approx(by_hand, rel=1e-12, abs=1e-9)
