"""Prompts found in the cache: work that is saved, reads that are not, and memory that is shared."""

import jax
import jax.numpy as jnp
import pytest
from factories import FP16, TOY, hardware, model, point, price, shipped, shipped_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import SpecError
from sweep.files.netcdf import write_netcdf
from sweep.grid.grid import Grid
from sweep.kernel import memory, phases
from sweep.runs.open_results import open_results
from sweep.runs.run import run

STATIC = {"batch_size": 4, "isl": 96, "osl": 20}
SERVED = {"isl": 96, "osl": 20, "concurrency": 8}
NAMES = (
    *("ttft", "tpot", "e2e_latency", "output_throughput", "memory_required", "max_concurrency"),
    *("inflight_ttft", "inflight_tpot", "inflight_output_throughput"),
)


def answers(names, spec=None, **numbers: float) -> dict[str, float]:
    priced = price(tuple(names), spec or model("llama"), TOY, FP16, **numbers)
    return {name: float(value) for name, value in priced.items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deepseek_v3"])
@pytest.mark.parametrize("axis", ["prefix_hit_rate", "shared_prefix_tokens"])
def test_nothing_found_is_as_without(family: str, axis: str) -> None:
    spec, numbers = model(family), STATIC | SERVED
    assert answers(NAMES, spec, **numbers, **{axis: 0}) == answers(NAMES, spec, **numbers)


# Whole layers of LLaMA: 3 layers, 64 wide, 8 heads and 2 KV heads of 8, an FFN of 160.
MATRIX_FLOPS = 2 * (64 * (8 + 2 * 2) * 8 + 64 * 64 + 3 * 64 * 160)
"""Matrix FLOPs of a token in the projections of one layer."""


def matrix_flops(**numbers: float) -> float:
    """Matrix FLOPs of the layers' prefill for the whole batch."""
    with jax.enable_x64(True):
        works = phases.prefill(point(model("llama"), TOY, FP16, **numbers))
        layers = [work for work in works if work.name not in ("lm_head", "sampling")]
        total = sum(jnp.asarray(work.executed * work.cost.tensor_flops) for work in layers)
        return float(total)


@pytest.mark.parametrize("hits", [0.0, 0.25, 0.75])
def test_new_tokens_attend_to_the_whole_prompt_by_hand(hits: float) -> None:
    new, cached = 96 * (1 - hits), 96 * hits
    # Each new token attends to all cached ones, to those before it, and to itself.
    pairs = new * cached + new * (new + 1) / 2
    expected = 3 * 4 * (new * MATRIX_FLOPS + 4 * 8 * pairs * 8)
    assert matrix_flops(**STATIC, prefix_hit_rate=hits) == pytest.approx(expected)


FAMILIES = (*("llama", "gemma3_text", "llama4_text", "deepseek_v32", "deepseek_v4", "minimax_m3"),)
NOT_OF_TOKENS = ("lm_head", "sampling", "head_projection", "latent_up_projection")
"""Operators of the last token alone; and one that expands again what it finds."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("found", [60])
def test_a_prefix_and_the_rest_are_the_whole(family: str, found: int) -> None:
    """FLOPs of the tokens found and of those that are not add up to those of the prompt."""

    def flops(isl: int, **more: float) -> dict[str, float]:
        with jax.enable_x64(True):
            numbers = {"batch_size": 2, "isl": isl, "osl": 8, **more}
            works = phases.prefill(point(model(family), TOY, FP16, **numbers))
            counted: dict[str, float] = {}
            for work in works:
                done = float(work.executed * (work.cost.flops + work.cost.special_ops))
                counted[work.name] = counted.get(work.name, 0.0) + done
            return {n: counted[n] for n in counted if n not in NOT_OF_TOKENS}

    whole, before = flops(96), flops(found)
    rest = flops(96, shared_prefix_tokens=found)
    # The cheaper of two forms is chosen for each length: a sum of both may be below.
    chosen = ("selected_latent_attention",)
    for name, cost in whole.items():
        together = before[name] + rest[name]
        if name in chosen:
            assert together <= cost * (1 + 1e-9)
        else:
            assert together == pytest.approx(cost, rel=1e-9), name


def test_latents_that_are_found_are_expanded_again() -> None:
    # 64 latents of 48 cached tokens and as many new ones: the cost of 96 new tokens.
    with jax.enable_x64(True):

        def expanded(**numbers: float) -> float:
            where = point(model("deepseek_v3"), TOY, FP16, batch_size=2, osl=8, **numbers)
            return sum(
                float(work.executed * work.cost.tensor_flops)
                for work in phases.prefill(where)
                if work.name == "latent_up_projection"
            )

        assert expanded(isl=96, prefix_hit_rate=0.5) == pytest.approx(expanded(isl=96))
        assert expanded(isl=48) == pytest.approx(expanded(isl=96) / 2)


@pytest.mark.slow
@given(st.floats(0, 0.98), st.floats(0, 0.98))
@settings(max_examples=8, deadline=None)
def test_hits_never_cost_time(one: float, other: float) -> None:
    names = ("ttft", "inflight_output_throughput")
    fewer, more = (
        answers(names, **(STATIC | SERVED), prefix_hit_rate=rate) for rate in sorted((one, other))
    )
    assert more["ttft"] <= fewer["ttft"] * (1 + 1e-9)
    assert more["inflight_output_throughput"] >= fewer["inflight_output_throughput"] * (1 - 1e-9)


def test_the_last_token_is_never_found() -> None:
    with jax.enable_x64(True):
        where = point(model("llama"), TOY, FP16, isl=8, osl=4, shared_prefix_tokens=100)
        assert float(where.new_tokens) == 1
        both = point(
            model("llama"), TOY, FP16, isl=100, osl=4, shared_prefix_tokens=20, prefix_hit_rate=0.5
        )
        assert float(both.cached_tokens) == 50


def test_a_shared_prefix_is_kept_once_by_hand() -> None:
    # LLaMA-3.1-8B in fp16 on an H100: 32 layers, 8 KV heads of 128, keys and values of 2 bytes.
    spec, machine = shipped_model("llama-3.1-8b"), shipped().hardware("h100-sxm-80gb")
    token = 32 * 8 * 128 * 2 * 2
    with jax.enable_x64(True):
        numbers = {"isl": 2000, "osl": 400}
        where = point(spec, machine, FP16, **numbers, shared_prefix_tokens=1500)
        room = float(memory.cache_memory(where))
        assert float(memory.max_concurrency(where)) == (room - 1500 * token) // (900 * token)
        plain = point(spec, machine, FP16, **numbers)
        assert float(memory.max_concurrency(plain)) == room // (2400 * token)


def test_no_more_than_a_prompt_but_its_last_token_is_shared() -> None:
    # A prefix longer than the prompt: 95 of 96 tokens are kept once, the last one by each request.
    machine = hardware(memory_bytes=2.6e7)
    names, numbers = ("max_concurrency",), {"isl": 96, "osl": 20, "max_batch_size": 4096}
    most, longer, none = (
        price(names, model("llama"), machine, shared_prefix_tokens=shared, **numbers)
        for shared in (95, 5000, 0)
    )
    assert 0 < none["max_concurrency"] < most["max_concurrency"] == longer["max_concurrency"]


def test_a_share_of_the_whole_memory_by_hand() -> None:
    # Half of 80 GB less 16 GB of weights, what an iteration takes, and what the engine keeps.
    spec, machine = shipped_model("llama-3.1-8b"), shipped().hardware("h100-sxm-80gb")
    with jax.enable_x64(True):
        numbers = {"isl": 2000, "osl": 400}
        plain = point(spec, machine, FP16, **numbers)
        size = float(plain.hardware.memory)
        other = size - float(memory.weight_memory(plain)) - float(memory.free_memory(plain))
        half = point(spec, machine, FP16, **numbers, gpu_memory_utilization=0.5)
        expected = 0.5 * size - float(memory.weight_memory(plain)) - other
        assert float(memory.cache_memory(half)) == pytest.approx(expected)
        # Weights and cache in half of it, whatever an iteration takes of the rest.
        static = point(spec, machine, FP16, **numbers, mem_fraction_static=0.5)
        expected = 0.5 * size - float(memory.weight_memory(plain))
        assert float(memory.cache_memory(static)) == pytest.approx(expected)
        # The cache never takes what an iteration needs.
        full = point(spec, machine, FP16, **numbers, mem_fraction_static=1.0)
        assert float(memory.cache_memory(full)) == pytest.approx(float(memory.free_memory(plain)))
        # Too small a share leaves none.
        small = point(spec, machine, FP16, **numbers, gpu_memory_utilization=0.1)
        assert float(memory.max_concurrency(small)) == 0


@pytest.mark.slow
def test_a_sweep_over_all_axes_is_its_cells(tmp_path) -> None:
    axes = {
        "gpu_memory_utilization": [0.8, 0.9],
        "prefix_hit_rate": [0.0, 0.5],
        "shared_prefix_tokens": [0, 32],
        "draft_tokens": [0, 3],
        "acceptance_rate": [0.0, 0.75],
    }
    names = ["tpot", "ttft", "tokens_per_pass", "max_concurrency", "weight_memory"]
    lengths = {"isl": 96, "osl": 20, "batch_size": 4}
    grid = Grid(
        models=[model("llama")],
        hardware=[TOY],
        precision=[FP16],
        **axes,
        **{axis: [value] for axis, value in lengths.items()},
        variables=names,
    )
    found = run(grid, dtype="float64")
    assert set(found["ttft"].dims) >= {"prefix_hit_rate", "shared_prefix_tokens", "draft_tokens"}
    assert "acceptance_rate" not in found["ttft"].dims
    assert found["tokens_per_pass"].dims == ("model", "draft_tokens", "acceptance_rate")
    path = tmp_path / "result.nc"
    write_netcdf(found, path)
    with open_results(path) as read:
        for values in [(0.8, 0.0, 0, 0, 0.75), (0.9, 0.5, 32, 3, 0.75), (0.9, 0.0, 32, 3, 0.0)]:
            where = dict(zip(axes, values, strict=True))
            cell = answers(names, **lengths, **where)
            for name in names:
                there = {axis: value for axis, value in where.items() if axis in read[name].dims}
                assert float(read[name].sel(there).squeeze()) == pytest.approx(cell[name])


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        ("prefix_hit_rate", 1.5),
        ("prefix_hit_rate", 1.0),
        ("prefix_hit_rate", -0.1),
        ("shared_prefix_tokens", -1),
        ("shared_prefix_tokens", 0.5),
        ("draft_tokens", -1),
        ("draft_tokens", 33),
        ("draft_tokens", 1.5),
        ("acceptance_rate", 1.2),
        ("acceptance_rate", float("nan")),
        ("gpu_memory_utilization", 0),
        ("mem_fraction_static", 1.1),
    ],
)
def test_nonsense_is_refused_in_one_line(axis: str, value: float) -> None:
    with pytest.raises(SpecError, match=axis) as error:
        Grid(models=["a"], hardware=["b"], variables=["ttft"], **{axis: [value]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"shared_prefix_tokens": [0, 901], "isl": [8, 900]}, "as the longest has 900"),
        ({"draft_tokens": [2]}, "needs acceptance_rate"),
        ({"acceptance_rate": [0.5]}, "needs draft_tokens"),
        ({"draft_model": "llama-3.2-1b"}, "needs draft_tokens and acceptance_rate"),
        ({"gpu_memory_utilization": [0.9], "kv_cache_fraction": [0.9]}, "alternatives"),
    ],
)
def test_axes_that_need_or_exclude_others(axes: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Grid(models=["a"], hardware=["b"], variables=["ttft"], **axes)
