"""Laws that hold at every point: of rooflines, of sums over a growing context, of grids."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from factories import (
    CONFIGS,
    FP16,
    NUDGE,
    OF_TEXT,
    TOY,
    WIDE_MACHINES,
    all_families,
    blocks,
    covering,
    hardware,
    model,
    nudged,
    point,
    price,
    shipped,
    shipped_model,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweep.evaluation import evaluator
from sweep.grid import thresholds
from sweep.grid.grid import Grid
from sweep.kernel import phases
from sweep.kernel.growing_context import sum_of_larger
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.kernel.roofline import network_seconds, peak_rate
from sweep.models.read import read_blocks
from sweep.runs.run import run
from sweep.schema.terms import BOUNDS
from sweep.schema.variables import VARIABLES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec

POWERS = st.integers(0, 3).map(lambda n: 2**n)
RATES = st.floats(1e9, 1e16)
FIGURES = (
    "vector_flops_per_s",
    "special_function_ops_per_s",
    "memory_bandwidth_bytes_per_s",
    "on_chip_cache_bytes",
    "link_bandwidth_bytes_per_s",
)


@st.composite
def machines(draw: st.DrawFn) -> HardwareSpec:
    peak = draw(RATES)
    figures = {figure: draw(RATES) for figure in FIGURES}
    return hardware(peak_flops_per_s={"fp16": peak, "bf16": peak, "fp8": 2 * peak}, **figures)


@st.composite
def models(draw: st.DrawFn, family: str) -> ModelSpec:
    """A model of one family's structure, of any size."""
    kv_heads, group, dim = draw(POWERS), draw(POWERS), draw(st.integers(1, 16)) * 8
    sizes = {
        "hidden_size": draw(st.integers(1, 64)) * 64,
        "intermediate_size": draw(st.integers(1, 64)) * 64,
        "num_hidden_layers": draw(st.integers(2, 80)),
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "vocab_size": draw(st.integers(1, 300_000)),
    }
    if "sliding_window" in CONFIGS[family]:
        sizes["sliding_window"] = draw(st.integers(1, 5000))
    return model(family, **sizes)


RECIPES = st.sampled_from(["fp16", "bf16", "fp8", "w4a16", "w8a16"]).map(
    lambda name: shipped().precision(name)
)
NUMBERS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 512),
        "context_len": st.integers(1, 100_000),
        "isl": st.integers(1, 100_000),
        "osl": st.integers(1, 5000),
        "tp": POWERS,
    }
)
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


@jax.jit
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
        closed, counted = closed_and_counted(point(model(family), machine, **numbers))
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


# The global roofline.


def global_step(name: str, machine: str, recipe: str, **numbers: float) -> dict[str, float]:
    names = (
        "global_arithmetic_intensity",
        "global_attainable_flops",
        "global_decode_step_latency",
    )
    specs = shipped().hardware(machine), shipped().precision(recipe)
    found = price(names, shipped_model(name), *specs, **numbers)
    return {key.removeprefix("global_"): float(value) for key, value in found.items()}


def test_global_roofline_of_llama_2_7b() -> None:
    # A layer has 4·4096² + 3·4096·11008 = 202 375 168 parameters, 32 of them 6 476 005 376.
    # Attention at 1024 tokens: 32·4·32·128·1024 = 536 870 912 FLOPs, and as many bytes of K
    # and V (32·2·32·128·1024·2). Two FLOPs and two bytes a parameter: intensity 1 exactly.
    found = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", batch_size=1, context_len=1024)
    assert found["arithmetic_intensity"] == 1.0
    assert found["attainable_flops"] == 3.35e12
    assert found["decode_step_latency"] == pytest.approx(13_488_881_664 / 3.35e12, rel=1e-12)


def test_global_roofline_of_a_batch_of_llama_2_7b() -> None:
    # 16 times the operations over 12 952 010 752 + 16·536 870 912 bytes.
    found = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", batch_size=16, context_len=1024)
    expected = 16 * 13_488_881_664 / 21_541_945_344
    assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(10.0187, rel=1e-5)


def test_global_roofline_of_mixtral() -> None:
    # A layer: 2·4096·128·(32 + 8) = 41 943 040 parameters of attention and 3·4096·14336 =
    # 176 160 768 of each expert. Two experts compute, eight are read; 1024 tokens of context
    # take 16 777 216 FLOPs and 4 194 304 bytes.
    flops = 2 * (41_943_040 + 2 * 176_160_768) + 16_777_216
    assert flops == 805_306_368
    weights = 2 * (41_943_040 + 8 * 176_160_768)
    for batch in (1, 32):
        numbers = {"batch_size": batch, "context_len": 1024}
        found = global_step("mixtral-8x7b", "h100-sxm-80gb", "fp16", **numbers)
        expected = batch * flops / (weights + batch * 4_194_304)
        assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)


def test_the_roof_is_the_peak_of_the_linear_layers() -> None:
    # Far above the ridge of 989.4e12/3.35e12 = 295 FLOPs a byte: one token of context.
    numbers = {"batch_size": 4096, "context_len": 1}
    half = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", **numbers)
    eight = global_step("llama-2-7b", "h100-sxm-80gb", "fp8", **numbers)
    assert half["attainable_flops"] == 9.894e14
    assert eight["attainable_flops"] == 1.9789e15


def test_fp8_doubles_the_intensity() -> None:
    numbers = {"batch_size": 7, "context_len": 1000}
    half = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", **numbers)
    eight = global_step("llama-2-7b", "h100-sxm-80gb", "fp8", **numbers)
    assert eight["arithmetic_intensity"] == 2 * half["arithmetic_intensity"]


def test_a_window_caps_the_context_of_the_global_roofline() -> None:
    names = ("global_arithmetic_intensity",)
    windowed = price(names, model("mistral"), context_len=1000, batch_size=2)
    capped = price(names, model("llama"), context_len=48, batch_size=2)
    assert windowed == capped


@pytest.mark.slow
@given(st.data())
def test_tensor_parallelism_leaves_the_intensity_and_divides_the_time(data: Any) -> None:
    spec, machine = data.draw(models("llama")), data.draw(machines())
    numbers = data.draw(NUMBERS)
    names = ("global_arithmetic_intensity", "global_attainable_flops", LATENCIES[-1])
    one = price(names, spec, machine, FP16, **(numbers | {"tp": 1}))
    many = price(names, spec, machine, FP16, **numbers)
    assert many[names[0]] == one[names[0]]
    assert many[names[1]] == one[names[1]]
    assert many[names[2]] * numbers["tp"] == pytest.approx(one[names[2]], rel=1e-12)


# Grids.


@pytest.fixture(scope="module")
def places(wide64: xr.Dataset) -> dict[str, list[Any]]:
    return {str(dim): list(wide64[dim].values) for dim in wide64.dims if dim != "operator"}


def cell_of(wide: xr.Dataset, name: str, where: dict[str, Any]) -> np.ndarray:
    dims = wide[name].dims
    return wide[name].sel({dim: value for dim, value in where.items() if dim in dims}).values


@settings(max_examples=8)
@given(st.data())
def test_one_cell_is_one_request(wide64: xr.Dataset, places, data: Any) -> None:
    where = {dim: data.draw(st.sampled_from(values)) for dim, values in places.items()}
    machine = {spec.name: spec for spec in MACHINES}[where["hardware"]]
    labels = ("model", "hardware", "precision")
    numbers = {axis: float(value) for axis, value in where.items() if axis not in labels}
    spec, recipe = shipped_model(where["model"]), shipped().precision(where["precision"])
    runs = list(dict.fromkeys(n for b in read_blocks(spec.config, "x") for n in b.operators))
    with jax.enable_x64(True):
        request = Request(point(spec, machine, recipe, **numbers))
        memory = Request(point(spec, machine, recipe, **(numbers | {"context_len": 1.0})))
        for name in OF_TEXT:
            variable = VARIABLES[name]
            direct = np.asarray(getattr(memory if "longest" in variable.dims else request, name))
            cell = cell_of(wide64, name, where)
            if "operator" in variable.dims:
                kept = [runs.index(o) if o in runs else None for o in wide64["operator"].values]
                absent = -1 if variable.is_flag else np.nan
                direct = np.array([absent if i is None else direct[i] for i in kept])
            np.testing.assert_allclose(cell, direct, rtol=1e-12, err_msg=name)


MACHINES = [
    *(shipped().hardware(name) for name in WIDE_MACHINES),
    *(nudged(name, 1 + sign * NUDGE) for name in WIDE_MACHINES for sign in (-1, 1)),
]
QUANTITIES = [name for name in OF_TEXT if not VARIABLES[name].is_flag]
CATEGORIES = [name for name in OF_TEXT if VARIABLES[name].is_flag]


@pytest.mark.parametrize("name", QUANTITIES)
def test_float32_is_within_a_hundred_thousandth_of_float64(name, wide32, wide64) -> None:
    # Where rounding tips feasibility, the throughput goes with it: told apart below.
    near, exact = wide32[name], wide64[name]
    assert near.dtype == np.float32
    assert exact.dtype == np.float64
    if VARIABLES[name].masked:
        alike = wide32["feasible"] == wide64["feasible"]
        near, exact = near.where(alike), exact.where(alike)
    np.testing.assert_array_equal(np.isnan(near), np.isnan(exact))
    if name == "inflight_queue_time":
        # A part that is left when others are subtracted is as exact as the whole.
        near, exact = (
            one + wide["inflight_prefill_time"] for one, wide in ((near, wide32), (exact, wide64))
        )
    np.testing.assert_allclose(near, exact, rtol=1e-5)
    assert np.isfinite(exact).any()


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_agree_except_at_near_ties(name: str, wide32, wide64) -> None:
    # A near tie: a machine with rates 1e-5 off goes the other way in float64 too.
    for machine in WIDE_MACHINES:
        near = wide32[name].sel(hardware=machine).values
        exact = wide64[name].sel(hardware=machine).values
        shifted = [
            wide64[name].sel(hardware=f"{machine} x {1 + sign * NUDGE}").values for sign in (-1, 1)
        ]
        tips = (shifted[0] != exact) | (shifted[1] != exact)
        assert np.array_equal(near[~tips], exact[~tips])
        assert tips.mean() < 0.01


def test_categories_take_several_values(wide64: xr.Dataset) -> None:
    # No clients are too many where no load is given; tests/test_load.py has all of its values.
    for name in set(CATEGORIES) - {"inflight_overload"}:
        assert len(np.unique(wide64[name])) > 1, name


def test_operators_add_up_to_their_step(wide64: xr.Dataset) -> None:
    for phase in ("prefill", "decode"):
        total = wide64["decode_step_latency" if phase == "decode" else "prefill_latency"]
        parts = wide64[f"{phase}_operator_latency"].sum("operator")
        xr.testing.assert_allclose(parts, total, rtol=1e-12)


def test_the_bound_of_a_step_takes_most_of_its_time(wide64: xr.Dataset) -> None:
    share = [
        wide64["decode_operator_latency"].where(wide64["decode_operator_bound"] == bound)
        for bound in range(len(BOUNDS))
    ]
    sums = xr.concat([part.sum("operator") for part in share], "share")
    xr.testing.assert_equal(sums.argmax("share").astype(np.int8), wide64["bound"])


def test_metrics_hang_together(wide64: xr.Dataset) -> None:
    w = wide64
    tokens = w["batch_size"] * w["osl"]
    free = w["feasible"] == 1
    steps = (w["osl"] - 1).where(w["osl"] > 1)
    definitions = {
        "ttft": w["prefill_latency"],
        "tpot": (w["e2e_latency"] - w["ttft"]) / steps,
        "output_throughput": (tokens / w["e2e_latency"]).where(free),
        "output_throughput_per_gpu": (tokens / w["e2e_latency"] / w["tp"]).where(free),
        "output_throughput_per_user": (1 / w["tpot"]).where(free),
    }
    for name, value in definitions.items():
        xr.testing.assert_allclose(w[name], value.transpose(*w[name].dims), rtol=1e-9)
    # 700 W for as long as the run takes, on each GPU.
    joules = 700 * w["tp"] * w["e2e_latency"] / tokens
    energy = w["energy_per_output_token"].sel(hardware="h100-sxm-80gb")
    xr.testing.assert_allclose(
        energy, joules.sel(hardware="h100-sxm-80gb").transpose(*energy.dims), rtol=1e-12
    )


@pytest.mark.campaign
@pytest.mark.filterwarnings("error")  # JAX warns of a tile that does not fit its buffers
def test_tiles_of_a_sweep_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"context_len": list(range(1, 12)), "batch_size": [1, 2, 3]}
    names = ["decode_step_latency", "decode_operator_bound"]
    twins = [model("llama"), model("llama", hidden_size=128).model_copy(update={"name": "b"})]
    grid = Grid(models=twins, hardware=[TOY], precision=[FP16], variables=names, **axes)
    whole = run(grid)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(thresholds, "TILE_BYTES", 150)
    monkeypatch.setattr(evaluator, "_intermediate_bytes", lambda *given: float("inf"))
    cut = run(grid, progress=lambda done, total: steps.append((done, total)))
    assert len(steps) == steps[-1][1] == 12  # 2 models, 3 batches, 11 contexts in 6 and 6
    xr.testing.assert_allclose(cut, whole, rtol=1e-6)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_models_of_several_families_keep_their_own_operators(phase: str, wide64) -> None:
    seconds, bounds = wide64[f"{phase}_operator_latency"], wide64[f"{phase}_operator_bound"]
    for name in wide64["model"].values:
        spec = shipped_model(str(name))
        layers = read_blocks(spec.config, spec.name)
        runs = {operator for block in layers for operator in block.operators}
        here = {"model": name}
        for known in (np.isfinite(seconds.sel(here)), bounds.sel(here) >= 0):
            apart = [dim for dim in known.dims if dim != "operator"]
            assert (known.all(apart) == known.any(apart)).all()
            assert set(known["operator"].values[known.any(apart).values]) == runs


def test_global_roofline_of_gpt2_has_two_matrices_in_the_feed_forward() -> None:
    # A layer has 4·768² + 2·768·3072 = 7 077 888 parameters, 12 of them 84 934 656. Attention
    # at 1000 tokens takes 12·4·768·1000 = 36 864 000 FLOPs and as many bytes, four times.
    found = global_step("gpt2", "h100-sxm-80gb", "fp16", batch_size=4, context_len=1000)
    expected = 4 * (169_869_312 + 36_864_000) / (169_869_312 + 4 * 36_864_000)
    assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma2", pytest.param("mixtral", marks=pytest.mark.campaign)])
@settings(max_examples=8)
@given(st.data())
def test_a_grid_of_one_cell_is_one_request(family: str, data: Any) -> None:
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    names = ("e2e_latency", "output_throughput")
    axes = {axis: [value] for axis, value in numbers.items() if axis != "context_len"}
    grid = Grid(
        models=[spec], hardware=[machine], precision=[recipe], variables=list(names), **axes
    )
    cell = run(grid, dtype="float64")
    direct = price(names, spec, machine, recipe, **numbers)
    for name in names:
        np.testing.assert_allclose(cell[name].item(), direct[name], rtol=1e-12)
