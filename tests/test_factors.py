"""Each factor of a calibration by a number worked out by hand, and what no factor may change.

The hardware is made up of round numbers, and a model here is one operator, so that a comment can
show the whole calculation.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import OF_TEXT, blocks, hardware, model, point, precision

from sweep.engines.calibration_file import load_calibration
from sweep.evaluation.packing import inputs
from sweep.evaluation.vmapped_kernel import kernel
from sweep.grid.grid import Grid
from sweep.kernel.block import Block
from sweep.kernel.factors import FACTORS, IDEAL, Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.read import read_blocks
from sweep.runs.run import run
from sweep.schema.axes import AXES, LONGEST
from sweep.schema.axes import SERVER as SERVER_AXES
from sweep.schema.variables import VARIABLES, dims_of

ROUND = {
    "peak_flops_per_s": {"fp16": 1e12},
    "vector_flops_per_s": 1e11,
    "special_function_ops_per_s": 1e10,
    "memory_bandwidth_bytes_per_s": 1e10,
    "memory_bytes": 1e6,
    "on_chip_cache_bytes": 1e9,
    "link_bandwidth_bytes_per_s": 1e9,
    "link_latency_s": 1e-6,
    "tdp_w": 3.0,
}
SLOW_MEMORY = hardware(**ROUND)
FAST_MEMORY = hardware(
    **ROUND | {"memory_bandwidth_bytes_per_s": 1e15, "special_function_ops_per_s": 1e15}
)
LARGE_MEMORY = hardware(**ROUND | {"memory_bytes": 1e12})

# Ten tokens of width 100 to 1000: 2·10·100·1000 = 2e6 FLOPs, 2 µs. Weights 100·1000·2 = 2e5 bytes
# and activations 10·(100 + 1000)·2 = 2.2e4 bytes: 20 µs and 2.2 µs in the slow memory.
GEMM = Block(operators=("up_projection",), kv_heads=1, hidden_size=100, ffn_size=1000)
# One token, two of four experts: 2·2·100·1000 = 4e5 FLOPs, 0.4 µs.
EXPERTS = Block(
    operators=("expert_gate_up_projection",),
    hidden_size=100,
    ffn_size=500,
    experts=4,
    experts_per_token=2,
)
# One token over 1000 others: scores 4·1000; cache 2·2·8·1000·2 = 64 000 bytes, 6.4 µs in the slow
# memory; query and output 4·8·(2 + 2) = 128 bytes, 0.0128 µs.
HEADS = {"hidden_size": 1, "heads": 4, "kv_heads": 2, "head_dim": 8}
ATTENTION = Block(operators=("attention",), **HEADS)
WINDOWED = Block(operators=("windowed_attention",), window=100, **HEADS)
# Ten tokens over four GPUs: each sends 2·3/4·10·100·2 = 3000 bytes, 3 µs, in 2 hops of 1 µs.
ALL_REDUCE = Block(operators=("ffn_all_reduce",), hidden_size=100)
# Ten tokens of each of four groups to two of eight experts on four GPUs: 2·3/4 = 1.5 copies, where
# everywhere else is 3. A copy is 10·100·2 = 2000 bytes, 2 µs; one hop.
DISPATCH = Block(
    operators=("expert_dispatch",), hidden_size=100, experts=8, experts_per_token=2, ffn_size=1
)
SPREAD = {"batch_size": 40, "dp_attention": 4, "ep": 4}
HEAD = Block(operators=("lm_head",), in_transformer=False, vocab_size=1000, embedding_size=1)
NOTHING = Block(operators=("ffn_residual",), kv_heads=1, hidden_size=1)


class Case(NamedTuple):
    """A point, factors that are not ideal, and the value of a variable worked out by hand."""

    factors: dict[str, float]
    expected: float
    layers: Block | tuple[Block, ...]
    numbers: dict[str, float]
    variable: str = "decode_step_latency"
    machine: Any = SLOW_MEMORY


TEN = {"batch_size": 10}
OVER_1000 = {"context_len": 1000}
SERVER = {
    "isl": 500,
    "osl": 500,
    "kv_cache_fraction": 0.5,
    "max_batch_size": 100,
    "max_num_tokens": 1000,
}
SHARED_SERVER = {name: value for name, value in SERVER.items() if name != "kv_cache_fraction"}
"""A server that takes a share of the whole memory, and not of what is free."""
RUN = {"concurrency": 4, "isl": 10, "osl": 11, "num_requests": 6}
ALONE = {"concurrency": 1, "isl": 10, "osl": 11}
TWO_LUMPS = {"concurrency": 4, "isl": 10, "osl": 11, "max_num_tokens": 20}
CASES = {
    # Ideal: the slower of 22.2 µs and 2 µs, and of 2 µs and next to nothing.
    "ideal, memory": Case({}, 22.2e-6, GEMM, TEN),
    "ideal, matrix": Case({}, 2e-6, GEMM, TEN, machine=FAST_MEMORY),
    # Everything at half: 22.2/0.5 and 2/0.5.
    "software, memory": Case({"software": 0.5}, 44.4e-6, GEMM, TEN),
    "software, matrix": Case({"software": 0.5}, 4e-6, GEMM, TEN, machine=FAST_MEMORY),
    # The link is no part of the accelerator: 3 + 2·1.
    "software, link": Case({"software": 0.5}, 5e-6, ALL_REDUCE, TEN | {"tp": 4}),
    # 2/0.5.
    "gemm": Case({"gemm": 0.5}, 4e-6, GEMM, TEN, machine=FAST_MEMORY),
    # 3 W for 1e12 FLOP/s, four times the typical 0.75: a clock of 4^0.5 = 2, so 2/2.
    "power_limit": Case({"power_limit": 0.5}, 1e-6, GEMM, TEN, machine=FAST_MEMORY),
    # Half the rate at 30 rows is the time of 30 more: 2·(10 + 30)/10.
    "gemm_half_rows": Case({"gemm_half_rows": 30.0}, 8e-6, GEMM, TEN, machine=FAST_MEMORY),
    # Experts have a number of their own.
    "gemm_half_rows, experts": Case(
        {"gemm_half_rows": 30.0}, 0.4e-6, EXPERTS, {}, machine=FAST_MEMORY
    ),
    # 5 more rows beside one of its own: 0.4·(1 + 5/(1 + 5)); however many more, less than twice.
    "expert_half_rows": Case(
        {"expert_half_rows": 5.0}, 0.4e-6 * (1 + 5 / 6), EXPERTS, {}, machine=FAST_MEMORY
    ),
    "expert_half_rows, many": Case(
        {"expert_half_rows": 999.0}, 0.4e-6 * 1.999, EXPERTS, {}, machine=FAST_MEMORY
    ),
    "expert_half_rows, others": Case(
        {"expert_half_rows": 5.0}, 2e-6, GEMM, TEN, machine=FAST_MEMORY
    ),
    # A share of the share of other products: 0.4/(0.5·0.25).
    "expert_gemm": Case(
        {"gemm": 0.5, "expert_gemm": 0.25}, 3.2e-6, EXPERTS, {}, machine=FAST_MEMORY
    ),
    "expert_gemm, others": Case({"expert_gemm": 0.25}, 2e-6, GEMM, TEN, machine=FAST_MEMORY),
    # A prompt of 99: 99·100/2 = 4950 pairs, 4·4·4950·8 = 633 600 FLOPs, 0.6336 µs; that over 0.5.
    "attention": Case(
        {"attention": 0.5},
        1.2672e-6,
        ATTENTION,
        {"isl": 99},
        "prefill_latency",
        FAST_MEMORY,
    ),
    # One token: 4·4·1000·8 = 128 000 FLOPs, 0.128 µs, over 0.5; no product's share.
    "attention, one token": Case(
        {"attention": 0.5, "gemm": 0.1}, 0.256e-6, ATTENTION, OVER_1000, machine=FAST_MEMORY
    ),
    # 20/0.5 + 2.2, and 20 + 2.2/0.5.
    "weight_bandwidth": Case({"weight_bandwidth": 0.5}, 42.2e-6, GEMM, TEN),
    "activation_bandwidth": Case({"activation_bandwidth": 0.5}, 24.4e-6, GEMM, TEN),
    # Two experts of 100·1000·2 bytes, 40 µs, and 2·(100 + 1000)·2, 0.44 µs: 40/(0.5·0.25) + 0.44.
    "expert_bandwidth": Case(
        {"weight_bandwidth": 0.5, "expert_bandwidth": 0.25}, 320.44e-6, EXPERTS, {}
    ),
    "expert_bandwidth, others": Case({"expert_bandwidth": 0.25}, 22.2e-6, GEMM, TEN),
    # 6.4/0.5 + 0.0128.
    "kv_bandwidth": Case({"kv_bandwidth": 0.5}, 12.8128e-6, ATTENTION, OVER_1000),
    # Two heads where six read at half: 6.4·(1 + 6/2) + 0.0128.
    "kv_half_heads": Case({"kv_half_heads": 6.0}, 25.6128e-6, ATTENTION, OVER_1000),
    # On each of four GPUs three sequences have a copy of one head and one query head: half the
    # bytes of three, 9.6·(1 + 6/3) + 3·0.0128/4.
    "kv_half_heads, tp": Case(
        {"kv_half_heads": 6.0}, 28.8096e-6, ATTENTION, OVER_1000 | {"batch_size": 3, "tp": 4}
    ),
    # A prompt has queries enough: of 99 tokens 2·2·8·99·2 = 6336 bytes, and 99·128 = 12 672:
    # 1.9008; 19 800 exponentials take longer, 1.98.
    "kv_half_heads, prompt": Case(
        {"kv_half_heads": 6.0, "vector_attention": 2.0},
        1.98e-6,
        ATTENTION,
        {"isl": 99},
        "prefill_latency",
    ),
    # Twice 512 FLOPs for each of 4000 scores: 4.096e6/1e11.
    "vector_attention": Case({"vector_attention": 2.0}, 40.96e-6, ATTENTION, OVER_1000),
    # 3/0.5 + 2.
    "link_bandwidth": Case({"link_bandwidth": 0.5}, 8e-6, ALL_REDUCE, TEN | {"tp": 4}),
    # Two pairs, squared: 3·4 + 2.
    "link_crowding": Case({"link_crowding": 2.0}, 14e-6, ALL_REDUCE, TEN | {"tp": 4}),
    # Once for both hops: 3 + 2 + 7.
    "exchange_overhead_s": Case({"exchange_overhead_s": 7e-6}, 12e-6, ALL_REDUCE, TEN | {"tp": 4}),
    # One GPU exchanges nothing; an all-reduce of one is nothing but its (n − 1)/n = 0.
    "exchange_overhead_s, alone": Case({"exchange_overhead_s": 7e-6}, 0.0, ALL_REDUCE, TEN),
    # Two pairs, squared: 3 + 2 + 7·4.
    "exchange_growth": Case(
        {"exchange_overhead_s": 7e-6, "exchange_growth": 2.0}, 33e-6, ALL_REDUCE, TEN | {"tp": 4}
    ),
    # At once each GPU reads three buffers of 2000 bytes, 6 µs, after a hop of 1: 6 + 1 + 5, as long
    # as 3 + 2 + 7. Of two equal times the smooth smaller one is 12/2^(1/4).
    "one_shot_s": Case(
        {"exchange_overhead_s": 7e-6, "one_shot_s": 5e-6},
        12e-6 / 2**0.25,
        ALL_REDUCE,
        TEN | {"tp": 4},
    ),
    # 3 + 2 beside 6 + 1 + 3.
    "one_shot_s, slower": Case(
        {"one_shot_s": 3e-6}, 5e-6 / (1 + 0.5**4) ** 0.25, ALL_REDUCE, TEN | {"tp": 4}
    ),
    "one_shot_s, alone": Case({"one_shot_s": 5e-6}, 0.0, ALL_REDUCE, TEN),
    # A quarter of the 2 µs hidden behind 22.2.
    "unhidden": Case({"unhidden": 0.25}, 22.7e-6, GEMM, TEN),
    # In each of three layers: 3·(22.2 + 5).
    "operator_overhead_s": Case(
        {"operator_overhead_s": 5e-6}, 81.6e-6, replace(GEMM, count=3), TEN
    ),
    # Once for the pass, however many layers: 3·22.2 + 1000.
    "step_overhead_s": Case({"step_overhead_s": 1e-3}, 1066.6e-6, replace(GEMM, count=3), TEN),
    # For each of ten sequences: 22.2 + 10·100.
    "sequence_overhead_s": Case({"sequence_overhead_s": 1e-4}, 1022.2e-6, GEMM, TEN),
    # Two microbatches of five each: weights 20 and activations 1.1 in each of two layers.
    "sequence_overhead_s, pp": Case(
        {"sequence_overhead_s": 1e-4}, 542.2e-6, replace(GEMM, count=2), TEN | {"pp": 2}
    ),
    # Three layers of 22.2 for each of three microbatches of ten; two more stages: 2·10·100.
    "pipeline_sequence_overhead_s": Case(
        {"pipeline_sequence_overhead_s": 1e-4},
        2066.6e-6,
        replace(GEMM, count=3),
        {"batch_size": 30, "pp": 3},
    ),
    # 1.5 times the rows: 0.4·1.5, and on top of twice as many, 0.4·1.5·2.
    "expert_imbalance": Case({"expert_imbalance": 1.5}, 0.6e-6, EXPERTS, {}, machine=FAST_MEMORY),
    "expert_imbalance, layout": Case(
        {"expert_imbalance": 1.5},
        1.2e-6,
        EXPERTS,
        {"expert_imbalance": 2.0},
        machine=FAST_MEMORY,
    ),
    # Two further stages, a quarter of the pass each: 3·22.2·1.5.
    "pipeline_idle": Case(
        {"pipeline_idle": 0.25}, 99.9e-6, replace(GEMM, count=3), {"batch_size": 30, "pp": 3}
    ),
    # T tokens take 20 + 0.22·T µs. A cycle of 11 iterations prefills 40 tokens in one, 28.8 µs, and
    # decodes 4 in ten, 20.88 µs: 237.6 µs for 4 requests, 356.4 for 6. The second wave has half of
    # its requests: 11/2 iterations of 20 µs without a sequence, 110 µs, here twice. So 6·11 tokens
    # take 356.4 + 220 µs.
    "ramp": Case(
        {"ramp": 2.0}, 66 / 576.4e-6, GEMM, RUN, "inflight_output_throughput", LARGE_MEMORY
    ),
    # T tokens take 20 + 0.22·T µs. Two lumps of 20 tokens, 24.4 µs, then ten steps of 4 sequences,
    # 20.88 µs. Half of the other lump comes after a request's own: (12.2 + 208.8)/10.
    "prefill_first": Case(
        {"prefill_first": 1.0}, 22.1e-6, GEMM, TWO_LUMPS, "inflight_tpot", LARGE_MEMORY
    ),
    # 4·11 tokens in 2·24.4 + 208.8 µs.
    "prefill_first, throughput": Case(
        {"prefill_first": 1.0},
        44 / 257.6e-6,
        GEMM,
        TWO_LUMPS,
        "inflight_output_throughput",
        LARGE_MEMORY,
    ),
    # A prompt of 10 tokens takes 22.2 µs, each of ten further tokens 20.22 µs.
    "front_end_s": Case({"front_end_s": 5e-6}, 27.2e-6, GEMM, ALONE, "inflight_ttft", LARGE_MEMORY),
    # A client waits 5 µs more for its 11 tokens.
    "front_end_s, throughput": Case(
        {"front_end_s": 5e-6},
        11 / 229.4e-6,
        GEMM,
        ALONE,
        "inflight_output_throughput",
        LARGE_MEMORY,
    ),
    # Each of two prefills in one of 11 iterations, so that 1 − (10/11)² = 21/121 of them carry
    # 22/21 prompts beside 20/21 sequences. One in eleven of a request's ten has that of the other,
    # whose prompt takes (0.22·240/21 − 0.44)·21/22 = 1.98 µs. Half of these pass while it waits.
    "staggered": Case(
        {"staggered": 1.0},
        (10 / 11 * (20 + 0.22 * 240 / 21) + 100 / 11 * 20.44 - 1.98 / 2) / 10 * 1e-6,
        GEMM,
        ALONE | {"concurrency": 2},
        "inflight_tpot",
        LARGE_MEMORY,
    ),
    # Half of the way from 1.5 to 3 copies: 2.25·2 + 1.
    "dispatch_everywhere": Case({"dispatch_everywhere": 0.5}, 5.5e-6, DISPATCH, SPREAD),
    "dispatch_everywhere, none": Case({}, 4e-6, DISPATCH, SPREAD),
    # A first token waits for two iterations of 20.22 µs.
    "first_token_steps": Case(
        {"first_token_steps": 2.0}, 62.64e-6, GEMM, ALONE, "inflight_ttft", LARGE_MEMORY
    ),
    # Half of 500 output tokens reserved: 750 in place of 1000, of the 6.8 requests below.
    "reserved_output": Case({"reserved_output": 0.5}, 9, ATTENTION, SERVER, "max_concurrency"),
    # Twenty that are sent at once end at one time, 19 clients do not.
    "reserved_output, sent at once": Case(
        {"reserved_output": 0.5},
        6,
        ATTENTION,
        SERVER | {"num_requests": 20},
        "inflight_concurrency",
    ),
    "reserved_output, clients": Case(
        {"reserved_output": 0.5},
        9,
        ATTENTION,
        SERVER | {"num_requests": 20, "concurrency": 19},
        "inflight_concurrency",
    ),
    # 100 tokens of the window and a quarter of the 400 before: 2 sequences·200·(2·2·8)·2 bytes.
    "kept_context": Case(
        {"kept_context": 0.25},
        25_600,
        WINDOWED,
        {"batch_size": 2, "context_len": 500},
        "kv_cache_memory",
    ),
    # Ten times 1000 logits in 2 bytes, and three copies in 4: 10 000·(2 + 3·4).
    "logit_copies": Case(
        {"logit_copies": 3.0},
        140_000,
        (NOTHING, HEAD),
        TEN | {"context_len": 1},
        "memory_required",
    ),
    # 1000 tokens of width 2·1 + (4 + 2·2)·8 take 132 000 bytes of 1e6, the engine 300 000. Half of
    # the 568 000 left hold 4.4 requests of 1000 tokens and 64 000 bytes; without the engine's, 6.8.
    "reserved_memory_bytes": Case(
        {"reserved_memory_bytes": 3e5}, 4, ATTENTION, SERVER, "max_concurrency"
    ),
    "reserved_memory_bytes, none": Case({}, 6, ATTENTION, SERVER, "max_concurrency"),
    # The same 300 000 of 700 000 bytes: 268 000 left hold 4.2 requests.
    "library_memory_bytes": Case(
        {"library_memory_bytes": 3e5, "total_memory_share": 0.7},
        4,
        ATTENTION,
        SHARED_SERVER,
        "max_concurrency",
    ),
    # Ten tokens over four GPUs: what is sent, 2·3/4·2000 bytes, and 3/4 of 4000 beside the stream
    # in and out, 2·2000.
    "exchange_memory_bytes": Case(
        {"exchange_memory_bytes": 4000.0},
        10_000,
        ALL_REDUCE,
        TEN | {"context_len": 1, "tp": 4},
        "memory_required",
    ),
    # 700 000 bytes less the same 132 000, whatever the engine would keep: 8.9 requests.
    "total_memory_share": Case(
        {"total_memory_share": 0.7, "reserved_memory_bytes": 3e5},
        8,
        ATTENTION,
        SHARED_SERVER,
        "max_concurrency",
    ),
    # In the 237.6 µs of a cycle memory is busy all the time, and units for 8 + 10·0.8 µs: with
    # shares of 0.2 and 0.5, 3 W·(0.2 + 0.8·(16/237.6 + 0.5)).
    "idle_power": Case(
        {"idle_power": 0.2, "bandwidth_power": 0.5},
        3 * (0.2 + 0.8 * (16 / 237.6 + 0.5)),
        GEMM,
        RUN,
        "inflight_power",
        LARGE_MEMORY,
    ),
    "bandwidth_power": Case(
        {"idle_power": 0.2, "bandwidth_power": 0.25},
        3 * (0.2 + 0.8 * (16 / 237.6 + 0.25)),
        GEMM,
        RUN,
        "inflight_power",
        LARGE_MEMORY,
    ),
}


def cell(case: Case) -> Point:
    layers = case.layers if isinstance(case.layers, tuple) else (case.layers,)
    numbers = {"context_len": 1, "isl": 1, "osl": 1} | case.numbers
    if case.variable in ("kv_cache_memory", "memory_required"):
        numbers = case.numbers
    where = point(layers, case.machine, **numbers)
    return replace(where, factors=Factors(**case.factors))


@pytest.mark.parametrize("name", CASES)
def test_a_factor_by_hand(name: str) -> None:
    case = CASES[name]
    with jax.enable_x64(True):
        request = Request(cell(case), keep_infeasible=True)
        assert float(getattr(request, case.variable)) == pytest.approx(case.expected, rel=1e-12)


def test_every_factor_has_a_number() -> None:
    assert {name.partition(",")[0] for name in CASES} - {"ideal"} == set(FACTORS)
    for name, case in CASES.items():
        assert name.partition(",")[0] in {"ideal", *case.factors} or name.endswith("none")


# Which outputs a factor may move.

TIMES = ("ttft", "e2e_latency", "decode_step_latency")
WORK = ("prefill_flops", "prefill_bytes", "decode_step_flops", "decode_step_bytes")
MEMORY = ("kv_cache_memory", "memory_required", "max_concurrency")
SERVED = "inflight_output_throughput"
MOVES = {name: {*TIMES, SERVED} for name in FACTORS} | {
    # Only a token that decodes reads a cache that few heads share.
    "vector_attention": {*TIMES, SERVED} - {"ttft"},
    "kv_half_heads": {*TIMES, SERVED} - {"ttft"},
    "ramp": {SERVED},
    "prefill_first": {SERVED},
    # Where no clients are named, as many requests as fit are there at once.
    "front_end_s": set(),
    "staggered": set(),
    "first_token_steps": set(),
    "reserved_output": {"max_concurrency", SERVED},
    "kept_context": {*MEMORY, SERVED},
    "logit_copies": {"memory_required", "max_concurrency", SERVED},
    "reserved_memory_bytes": {"max_concurrency", SERVED},
    "library_memory_bytes": {"memory_required", "max_concurrency", SERVED},
    "exchange_memory_bytes": {"memory_required", "max_concurrency", SERVED},
    "total_memory_share": {"max_concurrency", SERVED},
    "idle_power": set(),
    "bandwidth_power": set(),
}
VALUES = {name: 0.5 if getattr(IDEAL, name) == 1.0 else 0.25 for name in FACTORS} | {
    "unhidden": 0.5,
    "expert_imbalance": 1.5,
    "logit_copies": 400.0,
    **{name: 1e6 for name in FACTORS if name.endswith("_memory_bytes")},
    **{name: 1e-4 for name in FACTORS if name.endswith("_s")},
}
EVERY_RESOURCE = Factors(unhidden=0.25, exchange_overhead_s=1e-5)
"""Every resource counts, not only the one that binds, and exchanges take a time that can grow."""


@pytest.fixture(scope="module")
def outputs() -> Callable[[Factors], dict[str, np.ndarray]]:
    """Outputs of a mixture of experts with windows on 32 GPUs, where every factor has a say."""
    numbers = {"tp": 4, "pp": 2, "ep": 4, "dp_attention": 4, "batch_size": 64, "isl": 90, "osl": 20}
    served = {"num_requests": 1e6, "max_num_tokens": 500, "max_batch_size": 400}
    machine = hardware(memory_bytes=3e6, tdp_w=1200.0, special_function_ops_per_s=1e18)
    with jax.enable_x64(True):
        where = point(blocks("gpt_oss"), machine, **numbers, **served)

    @jax.jit
    def priced(factors: Factors) -> dict[str, jax.Array]:
        here = replace(where, factors=factors)
        request = Request(here, keep_infeasible=True)
        step = Request(replace(here, isl=None, osl=None, context_len=here.isl))
        found = {name: getattr(request, name) for name in (*TIMES[:2], *WORK[:2], *MEMORY, SERVED)}
        found |= {name: getattr(step, name) for name in (*TIMES[2:], *WORK[2:])}
        return jax.tree.map(jnp.asarray, found)

    def found(factors: Factors) -> dict[str, np.ndarray]:
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, priced(jax.tree.map(jnp.asarray, factors)))

    return found


@pytest.mark.slow
@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_moves_its_outputs_and_no_work(factor: str, outputs) -> None:
    before = outputs(EVERY_RESOURCE)
    after = outputs(replace(EVERY_RESOURCE, **{factor: VALUES[factor]}))
    assert {name for name in before if before[name] != after[name]} == MOVES[factor]


# A calibration over a grid.

NUMBERS = {
    "tp": [2],
    "pp": [2],
    "ep": [2],
    "dp_attention": [2],
    "dp": [2],
    "expert_imbalance": [1.0, 1.5],
    "batch_size": [4, 64],
    "kv_cache_fraction": [0.5],
    "reserved_osl": [0.5],
    "max_batch_size": [64],
    "max_num_tokens": [512],
    "num_requests": [100],
    "concurrency": [16],
    "context_len": [100],
    "isl": [100],
    "osl": [10],
}
MIXTURE = model("mixtral", num_hidden_layers=4)
MACHINES = [hardware(name="h100-sxm-80gb"), hardware(name="a100-sxm-80gb")]
"""Two that the shipped calibration has seen: factors that vary by accelerator differ."""
FOOTPRINT = [name for name in OF_TEXT if LONGEST in VARIABLES[name].dims]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "without"),
    [([n for n in OF_TEXT if n not in FOOTPRINT], ()), (FOOTPRINT, ("context_len",))],
)
@pytest.mark.parametrize(
    "name",
    [
        "tensorrt-llm",
        *(pytest.param(n, marks=pytest.mark.campaign) for n in ("vllm", "sglang", "vllm-rocm")),
    ],
)
def test_every_variable_has_its_dims_under_a_shipped_calibration(name, variables, without) -> None:
    calibration = load_calibration(name)
    models = [read_blocks(MIXTURE.config, MIXTURE.name)]
    read = inputs(models, MACHINES, [(precision(),)], np.dtype("float32"))
    axes = {
        "model": read.kinds[0].packed,
        "hardware": read.hardware,
        "precision": read.kinds[0].precision,
    }
    sizes = {"model": 1, "hardware": 2, "precision": 1, "operator": len(read.kinds[0].operators)}
    for axis, values in NUMBERS.items():
        if axis not in without:
            axes[axis], sizes[axis] = np.asarray(values, np.float32), len(values)
    dims = {name: dims_of(name, axes) for name in variables}
    factors = calibration.grid(models, MACHINES, [precision()])
    over = tuple((name, calibration.axes(name)) for name in calibration.used)
    mapped = kernel(tuple(dims.items()), False, over)
    values = {name: array.astype(np.float32) for name, array in factors.items()}
    found = mapped.eval_shape({}, values, {}, *(axes.get(axis) for axis in AXES))
    assert {name: over.shape for name, over in found.items()} == {
        name: tuple(sizes[dim] for dim in over) for name, over in dims.items()
    }


@pytest.mark.slow
def test_a_calibration_leaves_work_as_it_is() -> None:
    names = [name for name in OF_TEXT if name.endswith(("_flops", "_bytes", "_intensity"))]
    assert len(names) == 6
    axes = {name: values for name, values in NUMBERS.items() if name not in SERVER_AXES}
    grid = Grid(
        models=[MIXTURE], hardware=MACHINES, precision=[precision()], **axes, variables=names
    )
    ideal, calibrated = run(grid), run(grid, efficiency="tensorrt-llm")
    for name in names:
        np.testing.assert_array_equal(calibrated[name], ideal[name], name)
