"""Several GPUs: what is shared, what is copied, what travels, and what one GPU alone still does."""

import jax
import numpy as np
import pytest
from factories import FP16, covering, hardware, model, point, shipped_model

from sweep.grid.grid import Grid
from sweep.kernel import memory, phases
from sweep.kernel.block import Block
from sweep.kernel.request import Request
from sweep.runs.run import run
from sweep.schema.terms import INFEASIBLE_REASONS
from sweep.specs.hardware import HardwareSpec

FREE = {
    "link_bandwidth_bytes_per_s": 1e30,
    "link_gpus": 10**6,
    "link_latency_s": 0.0,
}
COMPUTE_BOUND = FREE | {
    "memory_bandwidth_bytes_per_s": 1e30,
    "vector_flops_per_s": None,
    "special_function_ops_per_s": None,
}
ONE = {"tp": 1, "pp": 1, "ep": 1, "dp_attention": 1, "dp": 1, "expert_imbalance": 1.0}


def request(spec, machine: HardwareSpec | None = None, **numbers: float) -> Request:
    return Request(point(spec, machine or hardware(), FP16, **numbers))


def price(name: str, spec, machine: HardwareSpec | None = None, **numbers: float) -> float:
    with jax.enable_x64(True):
        return float(getattr(request(spec, machine, **numbers), name))


@pytest.mark.slow
@pytest.mark.parametrize("family", covering())
def test_a_layout_of_ones_is_one_gpu(family: str) -> None:
    numbers = {"batch_size": 3, "isl": 70, "osl": 20}
    with jax.enable_x64(True):
        ones, alone = request(model(family), **numbers, **ONE), request(model(family), **numbers)
        for name in ("e2e_latency", "output_throughput_per_gpu", "memory_required"):
            assert float(getattr(ones, name)) == float(getattr(alone, name))


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_over_a_perfect_link_n_gpus_compute_n_times_as_fast(tp: int) -> None:
    # GPT-3 has as many KV heads as query heads, so that nothing is computed twice.
    numbers = {"batch_size": 64, "isl": 512}
    alone = price(
        "prefill_latency", shipped_model("gpt-3-175b"), hardware(**COMPUTE_BOUND), **numbers
    )
    shared = price(
        "prefill_latency", shipped_model("gpt-3-175b"), hardware(**COMPUTE_BOUND), tp=tp, **numbers
    )
    assert shared == pytest.approx(alone / tp, rel=1e-9)


def test_the_fabric_follows_the_number_of_gpus() -> None:
    # Two GPUs share the link, four PCIe, sixteen the network: each step is slower to cross.
    machine = hardware(link_gpus=2, gpus_per_node=8)
    spec = shipped_model("gpt-3-175b")
    numbers = {"batch_size": 64, "context_len": 512}

    def exchanged(tp: int) -> float:
        with jax.enable_x64(True):
            works = phases.decode_step(point(spec, machine, FP16, tp=tp, **numbers))
            return float(
                sum(w.count * w.seconds.communication for w in works if "all_reduce" in w.name)
            )

    # 96 layers, two exchanges each of 64·12288 elements of 2 bytes, 2·(n − 1)/n of them sent.
    sent = 2 * 96 * 64 * 12_288 * 2
    assert exchanged(2) == pytest.approx(sent * 1.0 / 3e11 + 192 * 2 * 0.6e-6, rel=1e-9)
    assert exchanged(4) == pytest.approx(sent * 1.5 / 6e10 + 192 * 2 * 1.0e-6, rel=1e-9)
    assert exchanged(16) == pytest.approx(sent * 1.875 / 2e10 + 192 * 2 * 2.7e-6, rel=1e-9)


def test_a_stage_keeps_whole_layers() -> None:
    # Of three layers in two stages the fuller stage keeps two, as of four.
    weights = [
        price("weight_memory", model(num_hidden_layers=layers), pp=2) for layers in (2, 3, 4)
    ]
    assert weights[0] < weights[1] == weights[2]


def test_each_stage_of_each_attention_group_works_on_a_batch_of_its_own() -> None:
    # At most 5 requests in an iteration, of which 3 stages of 2 groups work on 6 at once.
    numbers = {"isl": 16, "osl": 8, "max_batch_size": 5}
    assert price("max_concurrency", model("mixtral"), pp=3, dp_attention=2, **numbers) == 30


def test_a_stage_may_have_a_single_layer() -> None:
    for stages, exceeds in ((3, False), (4, True)):
        reason = int(request(model(), pp=stages, batch_size=1, isl=16, osl=8).infeasible_reason)
        assert bool(reason & INFEASIBLE_REASONS["pp_exceeds_layers"]) is exceeds


def test_every_gpu_of_a_replica_takes_its_rated_power() -> None:
    # Six GPUs of 700 W for as long as 4 requests of 8 tokens take.
    numbers = {"batch_size": 4, "isl": 16, "osl": 8, "tp": 2, "pp": 3}
    spent = 6 * 700 * price("e2e_latency", model(), **numbers) / (4 * 8)
    assert price("energy_per_output_token", model(), **numbers) == pytest.approx(spent, rel=1e-12)


def test_stages_share_the_layers_and_their_cache() -> None:
    # Three equal layers over three stages; the embedding is on the first, the head on the last.
    spec = model("llama")
    whole = price("weight_memory", spec)
    ends = 2 * 512 * 64 * 2 + 64 * 2
    stage = price("weight_memory", spec, pp=3)
    assert stage == (whole - ends) / 3 + 512 * 64 * 2 + 64 * 2
    cache = {"batch_size": 6, "context_len": 100}
    assert price("kv_cache_memory", spec, pp=3, **cache) == pytest.approx(
        price("kv_cache_memory", spec, **cache) / 3
    )


def test_a_pipeline_runs_as_many_parts_as_it_has_stages() -> None:
    # Batch 6 in 3 stages: three parts of two sequences, each through all three layers.
    free = hardware(**FREE)
    spec = model("llama")
    step = price("decode_step_latency", spec, free, pp=3, batch_size=6, context_len=100)
    part = price("decode_step_latency", spec, free, batch_size=2, context_len=100)
    assert step == pytest.approx(part, rel=1e-9)
    # A prompt's last part ends (3 + 3 − 1)/3 of its own time after the first began.
    prefill = price("prefill_latency", spec, free, pp=3, batch_size=6, isl=100)
    alone = price("prefill_latency", spec, free, batch_size=2, isl=100)
    assert prefill == pytest.approx(alone * 5 / 3, rel=1e-9)


def test_the_fullest_stage_sets_the_pace_and_a_gpu_runs_its_share() -> None:
    # Three layers in two stages: two in the fuller one, passed by two parts of ten sequences. A
    # layer takes 2·10·100·1000 = 2e6 FLOPs and 2e6/4e14 = 5 ns: 4 layers one after another.
    layers = (Block(operators=("up_projection",), count=3, hidden_size=100, ffn_size=1000),)
    numbers = {"batch_size": 20, "pp": 2, "context_len": 1}
    fast = hardware(**COMPUTE_BOUND)
    assert price("decode_step_latency", layers, fast, **numbers) == pytest.approx(20e-9, rel=1e-12)
    # On average a GPU runs 1.5 layers for both parts.
    assert price("decode_step_flops", layers, fast, **numbers) == 6e6


def test_experts_are_spread_whole_or_split() -> None:
    # Eight experts over four GPUs: two whole ones each, or a quarter of all eight.
    spec = model("mixtral")
    spread = price("weight_memory", spec, tp=4, ep=4)
    assert spread == price("weight_memory", spec, tp=4)
    # Attention is copied to each group, experts are not.
    grouped = price("weight_memory", spec, dp_attention=4, ep=4)
    assert spread < grouped < price("weight_memory", spec)


def test_experts_read_tend_to_all_and_start_at_those_chosen() -> None:
    spec = shipped_model("mixtral-8x7b")

    def read(batch_size: int) -> float:
        with jax.enable_x64(True):
            works = phases.decode_step(point(spec, batch_size=batch_size, context_len=10))
            (one,) = [w for w in works if w.name == "expert_down_projection"]
            return float(one.cost.weight_bytes) / (14_336 * 4096 * 2)

    assert read(1) == pytest.approx(2)
    assert read(10_000) == pytest.approx(8)


def test_the_busiest_gpu_multiplies_its_share_of_all_tokens() -> None:
    # Four groups of two tokens with two experts each: 16 rows, 4 on each of four GPUs, 6 on the
    # busiest; 2·6·64·(2·160) FLOPs.
    layout = {"dp_attention": 4, "ep": 4, "expert_imbalance": 1.5}
    works = phases.decode_step(point(model("mixtral"), batch_size=8, context_len=10, **layout))
    (one,) = [w for w in works if w.name == "expert_gate_up_projection"]
    assert float(one.cost.tensor_flops) == 245_760


def test_an_uneven_load_slows_the_experts() -> None:
    spec, numbers = shipped_model("mixtral-8x7b"), {"batch_size": 512, "context_len": 10}
    layout = {"dp_attention": 8, "ep": 8}
    even = price("decode_step_latency", spec, hardware(**COMPUTE_BOUND), **layout, **numbers)
    uneven = price(
        "decode_step_latency",
        spec,
        hardware(**COMPUTE_BOUND),
        expert_imbalance=2.0,
        **layout,
        **numbers,
    )
    assert even < uneven < 2 * even


def test_replicas_multiply_throughput_and_leave_a_gpu_its_own() -> None:
    numbers = {"batch_size": 4, "isl": 64, "osl": 8}
    spec = model("llama")
    one, three = (
        [
            price(n, spec, dp=dp, **numbers)
            for n in ("output_throughput", "output_throughput_per_gpu")
        ]
        for dp in (1, 3)
    )
    assert three[0] == pytest.approx(3 * one[0])
    assert three[1] == pytest.approx(one[1])


def test_attention_groups_share_the_cache_and_copy_the_weights() -> None:
    spec, numbers = model("deepseek_v3"), {"batch_size": 16, "context_len": 100}
    cache = [price("kv_cache_memory", spec, dp_attention=n, **numbers) for n in (1, 8)]
    assert cache[1] == cache[0] / 8
    # A latent cache is copied to each GPU of a tensor-parallel group.
    assert price("kv_cache_memory", spec, tp=8, **numbers) == cache[0]


@pytest.mark.slow
def test_layout_axes_become_dimensions_only_where_they_are_given() -> None:
    grid = {
        "models": ["mixtral-8x7b"],
        "hardware": ["h100-sxm-80gb"],
        "batch_size": [8],
        "context_len": [128],
        "variables": ["decode_step_latency", "infeasible_reason"],
    }
    plain = run(Grid(**grid))
    laid = run(Grid(**grid, tp=[1, 8], ep=[1, 8], pp=[1, 2], expert_imbalance=[1.0, 1.5]))
    assert "pp" not in plain.dims
    assert plain.sizes["tp"] == 1
    assert laid.decode_step_latency.sizes["ep"] == 2
    one = laid.sel(tp=[1], pp=1, ep=1, expert_imbalance=1.0, drop=True)
    np.testing.assert_array_equal(one.decode_step_latency, plain.decode_step_latency)
    # Eight experts on one GPU cannot be spread over eight.
    refused = laid.infeasible_reason.sel(tp=1, pp=1, ep=8, expert_imbalance=1.0)
    assert bool((refused & memory.INFEASIBLE_REASONS["experts_not_divisible"]).all())


@pytest.mark.parametrize(
    ("layers", "pp", "in_turn"),
    [
        (4, 2, 4.0),  # two stages of two layers, one after the other
        (4, 3, 6.0),  # the fullest stage holds two layers, and all three are waited for
        (5, 4, 8.0),
    ],
)
def test_stages_wait_for_the_fullest(layers: int, pp: int, in_turn: float) -> None:
    """By hand: ceil(layers / pp) layers in each of pp stages; all microbatches pass each GPU."""
    with jax.enable_x64(True):
        here = point(model(num_hidden_layers=layers), pp=pp, batch_size=2, context_len=100)
        work = next(w for w in phases.decode_step(here) if w.name == "qkv_projection")
        assert float(work.count) == in_turn
        # Two microbatches of one sequence, on a GPU that holds its share of the layers.
        assert float(work.executed) == pytest.approx(layers * 2 / pp)
