"""Layers that keep a state of fixed size: their costs, their memory, and the laws they keep."""

import dataclasses
import warnings
from typing import Any

import jax
import numpy as np
import pytest
from factories import FP16, TOY, blocks, hardware, point, shipped_model
from hypothesis import given
from hypothesis import strategies as st
from state_models import K3, STATE_MODELS, VARIANTS, keys_of_state_model, tiny

from sweep.decisions.explain import explain
from sweep.decisions.explain_text import figure_rows
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.kernel import memory, phases
from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS, tensors
from sweep.kernel.operators.attention import chunked_pairs
from sweep.kernel.operators.cost import Cost
from sweep.kernel.operators.delta_rule import delta_rule_scan, delta_rule_step
from sweep.kernel.operators.gated_norm import gated_norm
from sweep.kernel.operators.linear_attention import linear_attention_scan, linear_attention_step
from sweep.kernel.operators.residual_attention import residual_attention
from sweep.kernel.operators.selective_scan import selective_scan
from sweep.kernel.operators.short_convolution import short_convolution
from sweep.kernel.request import Request
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_blocks
from sweep.specs.model import ModelSpec

PURE = ("mamba", "mamba2")
"""Families without attention."""


def spent(cost: Cost) -> dict[str, float]:
    """The entries of a cost that are not zero."""
    entries = {field.name: float(getattr(cost, field.name)) for field in dataclasses.fields(cost)}
    return {name: value for name, value in entries.items() if value}


def price(
    names: tuple[str, ...], layers: tuple[Block, ...], machine: Any = TOY, **numbers: float
) -> dict[str, float]:
    """Variables of one request in float64, not compiled: each structure is met once."""
    with jax.enable_x64(True):
        request = Request(point(layers, machine, **numbers))
        return {name: float(getattr(request, name)) for name in names}


def state_names(layers: tuple[Block, ...]) -> set[str]:
    return {n for block in layers for n in block.operators if OPERATORS[n].state is not None}


# Each operator alone. Two sequences; heads 4 of 16 rows and 12 columns in 2 groups: 1536 elements
# of state, keys and queries 2·2·16 = 64 wide, values 48.

SHAPE: dict[str, Any] = {
    "heads": 4.0,
    "groups": 2.0,
    "key_dim": 16.0,
    "value_dim": 12.0,
    "element_bytes": 2.0,
    "state_bytes": 4.0,
}


def test_a_step_of_the_delta_rule() -> None:
    assert spent(delta_rule_step(2.0, gates=8.0, **SHAPE)) == {
        "vector_flops": 7 * 1536 + 2 * (3 * 64 + 4 * 8),
        "special_ops": 2 * (2 * 2 + 3 * 8),
        "kv_bytes": 2 * 1536 * 4,
        "activation_bytes": 2 * (64 + 2 * 48 + 8) * 2,
    }


def test_a_scan_of_the_delta_rule() -> None:
    # Ten tokens in chunks of 4, 4 and 2: 23 pairs, 13 of them of different tokens.
    found = delta_rule_scan(2.0, 10.0, pairs=23.0, resumed=0.5, gates=8.0, decays=9.0, **SHAPE)
    assert spent(found) == {
        "tensor_flops": 6 * 20 * 768 + 2 * 8 * (13 * (32 + 12) + 23 * (16 + 12)),
        "vector_flops": 20 * (3 * 64 + 4 * 8 + 2 * 9),
        "special_ops": 20 * (2 * 2 + 3 * 8 + 9),
        "kv_bytes": 1.5 * 1536 * 4,
        "activation_bytes": 20 * (64 + 2 * 48 + 8) * 2,
    }


def test_a_step_of_linear_attention() -> None:
    assert spent(linear_attention_step(2.0, gates=4.0, **SHAPE)) == {
        "vector_flops": 5 * 1536 + 4 * 2 * 4,
        "special_ops": 3 * 2 * 4,
        "kv_bytes": 2 * 1536 * 4,
        "activation_bytes": 2 * (64 + 2 * 48 + 4) * 2,
    }


def test_a_scan_of_linear_attention() -> None:
    found = linear_attention_scan(2.0, 10.0, pairs=23.0, resumed=0.0, gates=4.0, **SHAPE)
    assert spent(found) == {
        "tensor_flops": 4 * 20 * 768 + 2 * 46 * (2 * 16 + 4 * 12),
        "vector_flops": 2 * 46 * 4 + 4 * 20 * 4,
        "special_ops": 46 * 4 + 3 * 20 * 4,
        "kv_bytes": 1536 * 4,
        "activation_bytes": 20 * (64 + 2 * 48 + 4) * 2,
    }


def test_a_selective_scan() -> None:
    found = selective_scan(
        2.0,
        5.0,
        moves=1.0,
        channels=8.0,
        state_size=4.0,
        groups=1.0,
        element_bytes=2.0,
        state_bytes=4.0,
        weight_bytes=2.0,
    )
    assert spent(found) == {
        "vector_flops": 10 * (6 * 32 + 9 * 8),
        "special_ops": 10 * (32 + 4 * 8),
        "weight_bytes": (32 + 8) * 2,
        "kv_bytes": 2 * 32 * 4,
        "activation_bytes": 10 * (4 * 8 + 2 * 4) * 2,
    }


@pytest.mark.parametrize(
    ("gates", "activated", "bias", "expected"),
    [
        (0, True, 1.0, {"vector": 80 * (8 + 1 + 4), "special": 160, "weights": 80, "moved": 320}),
        (2, False, 0.0, {"vector": 80 * (8 + 2), "special": 0, "weights": 64, "moved": 640}),
    ],
)
def test_a_short_convolution(gates, activated, bias, expected) -> None:
    found = short_convolution(
        2.0,
        5.0,
        moves=2.0,
        channels=8.0,
        kernel=4.0,
        bias=bias,
        gates=gates,
        activated=activated,
        element_bytes=2.0,
    )
    assert spent(found) == {
        "vector_flops": expected["vector"],
        **({"special_ops": expected["special"]} if activated else {}),
        "weight_bytes": expected["weights"],
        "kv_bytes": 2 * 2 * 3 * 8 * 2,
        "activation_bytes": expected["moved"],
    }


def test_a_gated_norm_and_attention_over_residuals() -> None:
    assert spent(gated_norm(10.0, 8.0, weights=8.0, input_bytes=2.0, output_bytes=1.0)) == {
        "vector_flops": 9 * 80,
        "special_ops": 10 + 2 * 80,
        "weight_bytes": 16,
        "activation_bytes": 80 * 5,
    }
    assert spent(residual_attention(10.0, 8.0, 3.0, element_bytes=2.0)) == {
        "vector_flops": 8 * 3 * 80,
        "special_ops": 2 * 10 * 3,
        "weight_bytes": 2 * 8 * 2,
        "activation_bytes": 4 * 80 * 2,
    }


# An oracle: the chunked forms, computed and counted product by product.


class Counted:
    """Multiply-adds of small products, counted as they are computed."""

    def __init__(self) -> None:
        self.count = 0

    def dot(self, a: np.ndarray, b: np.ndarray) -> Any:
        self.count += a.size * (1 if b.ndim == 1 else b.shape[1])
        return a @ b

    def scaled(self, factor: float, a: np.ndarray) -> np.ndarray:
        self.count += a.size
        return factor * a


def delta_chunks(q, k, v, decay, beta, size: int, counted: Counted) -> np.ndarray:
    state, outputs = np.zeros((k.shape[1], v.shape[1])), np.zeros_like(v)
    for start in range(0, len(q), size):
        rows = range(start, min(start + size, len(q)))
        total = np.cumsum(np.log(decay[rows.start : rows.stop]))
        keys, values = [], []
        for i, row in enumerate(rows):
            w, u = np.exp(total[i]) * k[row], v[row].copy()
            for j in range(i):
                weight = counted.dot(k[row], k[rows[j]]) * np.exp(total[i] - total[j])
                w = w - counted.scaled(weight, keys[j])
                u = u - counted.scaled(weight, values[j])
            keys.append(beta[row] * w)
            values.append(beta[row] * u)
        found = [u - counted.dot(w, state) for u, w in zip(values, keys, strict=True)]
        for i, row in enumerate(rows):
            outputs[row] = np.exp(total[i]) * counted.dot(q[row], state)
            for j in range(i + 1):
                weight = counted.dot(q[row], k[rows[j]]) * np.exp(total[i] - total[j])
                outputs[row] += counted.scaled(weight, found[j])
        state = np.exp(total[-1]) * state
        for j, row in enumerate(rows):
            counted.count += state.size
            state = state + np.exp(total[-1] - total[j]) * np.outer(k[row], found[j])
    return outputs


def delta_steps(q, k, v, decay, beta) -> np.ndarray:
    state, outputs = np.zeros((k.shape[1], v.shape[1])), np.zeros_like(v)
    for i in range(len(q)):
        state = decay[i] * state
        state = state + beta[i] * np.outer(k[i], v[i] - k[i] @ state)
        outputs[i] = q[i] @ state
    return outputs


@pytest.mark.parametrize(("length", "size"), [(10, 4), (7, 8), (1, 4), (9, 3)])
def test_the_chunks_of_the_delta_rule_are_its_steps_and_take_the_flops(length, size) -> None:
    draw = np.random.default_rng(length)
    q, k = draw.normal(size=(2, length, 6))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    v = draw.normal(size=(length, 5))
    decay, beta = draw.uniform(0.5, 1, length), draw.uniform(0, 1, length)
    counted = Counted()
    by_chunks = delta_chunks(q, k, v, decay, beta, size, counted)
    np.testing.assert_allclose(by_chunks, delta_steps(q, k, v, decay, beta), atol=1e-10)
    cost = delta_rule_scan(
        1.0,
        float(length),
        pairs=chunked_pairs(float(length), float(size)),
        resumed=0.0,
        gates=0.0,
        decays=0.0,
        **{**SHAPE, "heads": 1.0, "groups": 1.0, "key_dim": 6.0, "value_dim": 5.0},
    )
    assert float(cost.tensor_flops) == 2 * counted.count


@pytest.mark.parametrize(("length", "size"), [(10, 4), (7, 8), (1, 4)])
def test_the_chunks_of_linear_attention_are_its_steps_and_take_the_flops(length, size) -> None:
    # Two heads that share keys and queries.
    draw = np.random.default_rng(length)
    c, b = draw.normal(size=(2, length, 6))
    x, decay = draw.normal(size=(2, length, 5)), draw.uniform(0.5, 1, (2, length))
    counted, outputs = Counted(), np.zeros_like(x)
    state, stepped, steps = np.zeros((2, 6, 5)), np.zeros((2, 6, 5)), np.zeros_like(x)
    for start in range(0, length, size):
        rows = range(start, min(start + size, length))
        scores = {(i, j): counted.dot(c[i], b[j]) for i in rows for j in rows if j <= i}
        for h in range(2):
            total = np.cumsum(np.log(decay[h, rows.start : rows.stop]))
            for i, row in enumerate(rows):
                outputs[h, row] = np.exp(total[i]) * counted.dot(c[row], state[h])
                for j in range(i + 1):
                    weight = scores[row, rows[j]] * np.exp(total[i] - total[j])
                    outputs[h, row] += counted.scaled(weight, x[h, rows[j]])
            state[h] *= np.exp(total[-1])
            for j, row in enumerate(rows):
                counted.count += state[h].size
                state[h] += np.exp(total[-1] - total[j]) * np.outer(b[row], x[h, row])
    for h in range(2):
        for i in range(length):
            stepped[h] = decay[h, i] * stepped[h] + np.outer(b[i], x[h, i])
            steps[h, i] = c[i] @ stepped[h]
    np.testing.assert_allclose(outputs, steps, atol=1e-10)
    cost = linear_attention_scan(
        1.0,
        float(length),
        pairs=chunked_pairs(float(length), float(size)),
        resumed=0.0,
        gates=0.0,
        **{**SHAPE, "heads": 2.0, "groups": 1.0, "key_dim": 6.0, "value_dim": 5.0},
    )
    assert float(cost.tensor_flops) == 2 * counted.count


@given(st.integers(1, 50), st.integers(1, 6), st.integers(1, 64))
def test_whole_chunks_of_a_scan_add_up(chunks: int, sequences: int, size: int) -> None:
    def scan(length: int) -> Cost:
        pairs = chunked_pairs(float(length), float(size))
        shape = {"pairs": pairs, "resumed": 0.0, "gates": 3.0, **SHAPE}
        return linear_attention_scan(float(sequences), float(length), **shape)

    many, one = scan(chunks * size), scan(size)
    for name in ("tensor_flops", "vector_flops", "special_ops", "activation_bytes"):
        assert float(getattr(many, name)) == pytest.approx(chunks * float(getattr(one, name)))
    assert float(many.kv_bytes) == float(one.kv_bytes)


# States of published models, for one request of any length, worked out from their configs.

STATES = {
    # 36 layers: 32 heads of 128·128 in 32 bits, and 3 tokens of 2·16·128 + 32·128 in 16.
    "qwen3-next-80b-a3b": 36 * (32 * 128 * 128 * 4 + 3 * 8192 * 2),
    # 48 layers: 48 heads, and 2·16·128 + 48·128 channels.
    "qwen3.6-27b": 48 * (48 * 128 * 128 * 4 + 3 * 10_240 * 2),
    # 23 layers: 64 heads of 128·64, and 64·64 + 2·8·128 channels.
    "nemotron-3-nano-30b-a3b": 23 * (64 * 128 * 64 * 4 + 3 * 6144 * 2),
    "nemotron-3-ultra": 48 * (256 * 128 * 64 * 4 + 3 * 18_432 * 2),
    # 10 layers: 2 tokens of 2048 channels.
    "lfm2.5-1.2b": 10 * 2 * 2048 * 2,
    # 69 layers: 96 heads, and 3·96·128 channels.
    "kimi-k3": 69 * (96 * 128 * 128 * 4 + 3 * 36_864 * 2),
    "llama-3.1-8b": 0,
}


@pytest.mark.parametrize("name", STATES)
def test_state_of_a_request_of_a_published_model(name: str) -> None:
    assert model_facts(shipped_model(name)).state_bytes_per_sequence == STATES[name]


def test_cache_of_hybrids_is_that_of_their_layers_with_attention() -> None:
    # Twelve layers of 2 KV heads of 256; 24 layers of a latent of 512 and a key of 64.
    facts = {name: model_facts(shipped_model(name)) for name in ("qwen3-next-80b-a3b", "kimi-k3")}
    assert facts["qwen3-next-80b-a3b"].kv_cache_bytes_per_token == 12 * 2 * 2 * 256 * 2
    assert facts["kimi-k3"].kv_cache_bytes_per_token == 24 * (512 + 64) * 2


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), (None, 4)])
def test_a_key_says_how_the_state_is_stored(dtype: str | None, size: int) -> None:
    layers = tiny("nemotron_h", mamba_ssm_cache_dtype=dtype)
    assert [b.state.element_bytes for b in layers if b.state is not None] == [size]


# One layer of each structure in decode, by hand: what its state moves for a sequence.

MOVED = {
    # 4 heads of 16·12 in 32 bits, 3 tokens of 112 channels in 16; both read and written.
    ("qwen3_next", "delta_rule"): 2 * 4 * 16 * 12 * 4,
    ("qwen3_next", "state_convolution"): 2 * 3 * 112 * 2,
    ("kimi_linear", "channelwise_delta_rule"): 2 * 4 * 16 * 16 * 4,
    ("minimax", "lightning_attention"): 2 * 8 * 8 * 8 * 4,
    ("mamba2", "mamba2_scan"): 2 * 8 * 8 * 16 * 4,
    ("mamba", "selective_scan"): 2 * 128 * 8 * 4,
    ("mamba", "channel_convolution"): 2 * 3 * 128 * 2,
    ("lfm2", "short_convolution"): 2 * 2 * 64 * 2,
}


@pytest.mark.parametrize(("family", "operator"), MOVED)
def test_a_decode_step_reads_and_writes_the_state(family: str, operator: str) -> None:
    where = point(tiny(family), batch_size=5, context_len=77)
    work = next(work for work in phases.decode_step(where) if work.name == operator)
    assert float(work.cost.kv_bytes) == 5 * MOVED[family, operator]
    assert float(work.cost.tensor_flops) == 0


def test_flops_of_a_layer_with_a_delta_net() -> None:
    # A prompt of 10 tokens, in one chunk: 55 pairs, 45 of different tokens; 4 heads.
    where = point(tiny("qwen3_next"), isl=10)
    found = {work.name: work.cost for work in phases.prefill(where)}
    of_pairs = 2 * 4 * (45 * (2 * 16 + 12) + 55 * (16 + 12))
    assert float(found["delta_rule"].tensor_flops) == 6 * 10 * 768 + of_pairs
    assert float(found["delta_projection"].tensor_flops) == 2 * 10 * 64 * 168
    assert float(found["state_output_projection"].tensor_flops) == 2 * 10 * 48 * 64


# Laws.


@pytest.mark.parametrize("family", STATE_MODELS)
def test_a_state_costs_the_same_at_any_context(family: str) -> None:
    layers = tiny(family)
    names = state_names(layers)
    assert names
    short, long = (
        {w.name: spent(w.cost) for w in phases.decode_step(point(layers, context_len=context))}
        for context in (10, 100_000)
    )
    assert {name: short[name] for name in names} == {name: long[name] for name in names}
    assert (short == long) == (family in (*PURE, "falcon_mamba"))


@pytest.mark.parametrize("family", PURE)
def test_without_attention_all_decode_steps_are_alike(family: str) -> None:
    names = ("decode_step_latency", "e2e_latency", "ttft", "kv_cache_memory", "tpot")
    found = price(names, tiny(family), batch_size=4, isl=100, osl=33, context_len=5000)
    assert found["tpot"] == pytest.approx(float(found["decode_step_latency"]))
    decoded = found["e2e_latency"] - found["ttft"]
    assert decoded == pytest.approx(32 * float(found["decode_step_latency"]))
    longer = price(("kv_cache_memory",), tiny(family), batch_size=4, isl=10_000, osl=33)
    assert longer["kv_cache_memory"] == found["kv_cache_memory"]


def test_memory_grows_by_the_cache_of_attention_alone() -> None:
    layers = tiny("nemotron_h")
    with jax.enable_x64(True):
        where = point(layers, isl=10, osl=10)
        empty, full = (float(memory.kv_bytes_per_sequence(where, n)) for n in (0.0, 1000.0))
    # 8 heads of 8 rows and 16 columns, and 3 tokens of 128 + 2·2·8 channels; 2 KV heads of 8.
    assert empty == 8 * 8 * 16 * 4 + 3 * 160 * 2
    assert full - empty == 1000 * 2 * 2 * 8 * 2


def test_states_limit_how_many_requests_fit() -> None:
    # One Mamba-2 model: nothing of a request grows, so that its length changes nothing.
    layers = tiny("mamba2")
    small = hardware(memory_bytes=2e6)
    numbers = {"max_num_tokens": 64, "max_batch_size": 64, "kv_cache_fraction": 1.0}
    names = ("max_concurrency", "weight_memory")
    found = price(names, layers, small, isl=10, osl=10, **numbers)
    longer = price(names, layers, small, isl=5000, osl=900, **numbers)
    assert found["max_concurrency"] == longer["max_concurrency"]
    # The state of 4 layers, 8 heads of 8·16 and 3·160 inputs; the residual stream, its normed copy
    # and the mixer's input, 2·64 + 2·2·8 + 2·128 wide; an exchange needs nothing on one GPU.
    state, width = 4 * (8 * 8 * 16 * 4 + 3 * 160 * 2), 2 * 64 + 32 + 256
    working = max(64 * width * 2, 64 * 512 * (2 + 4))
    assert found["weight_memory"] == 178_208 * 2
    assert found["max_concurrency"] == min((2e6 - 178_208 * 2 - working) // state, 64)


@pytest.mark.parametrize("family", ["qwen3_next", "mamba", "nemotron_h", "lfm2"])
def test_tensor_parallelism_splits_states(family: str) -> None:
    layers = tiny(family)
    with jax.enable_x64(True):
        one, two = (point(layers, tp=tp, isl=10, osl=10) for tp in (1, 2))
        whole, half = (float(memory.kv_bytes_per_sequence(p, 0.0)) for p in (one, two))
        assert half == whole / 2


def test_groups_are_copied_beyond_their_number() -> None:
    # Two groups of keys on four GPUs: each has one, of 2·16 columns where a quarter were 16; so
    # has each of three layers, with 4 taps of the convolution.
    layers = tiny("qwen3_next")
    names = ("weight_memory", "infeasible_reason")
    four = price(names, layers, tp=4, isl=1, osl=1)
    even = sum(
        int(b.count) * t.elements * (1 if t.sharding == "copied" else 1 / 4)
        for b, t in tensors(layers)
        if t.sharding != "kv_heads"
    )
    keys_and_values = 64 * 2 * 2 * 16 / 2
    assert four["weight_memory"] == 2 * (even + keys_and_values + 3 * 16 * (64 + 4))
    assert four["infeasible_reason"] == 0


@pytest.mark.parametrize(
    ("family", "tp", "reason"),
    [("qwen3_next", 8, 2), ("qwen3_next", 4, 0), ("mamba2", 16, 2), ("mamba2", 8, 0)],
)
def test_tp_that_does_not_divide_the_heads_of_states(family: str, tp: int, reason: int) -> None:
    found = price(("infeasible_reason",), tiny(family), tp=tp, isl=1, osl=1, batch_size=1)
    assert int(found["infeasible_reason"]) & 2 == reason


def test_a_hybrid_without_states_is_the_plain_decoder() -> None:
    plain = blocks("llama", num_hidden_layers=4, partial_rotary_factor=0.5)
    assert tiny("bamba", attn_layer_indices=[0, 1, 2, 3]) == plain
    gated = tiny("qwen3_5", layer_types=["full_attention"] * 4)
    assert len(gated) == 3
    assert gated[1].state is None
    assert not state_names(gated)


# Prompts, whole, in chunks and beside sequences that decode.


@pytest.mark.parametrize("family", ["mamba2", "qwen3_next", "lfm2"])
def test_a_lump_of_prompts_takes_the_scans_of_a_prefill(family: str) -> None:
    layers = tiny(family)
    with jax.enable_x64(True):
        where = point(layers, batch_size=3, isl=40, osl=5)
        lump = phases.prefill_attention_latency(where, sequences=3.0, chunk=40.0, chunks=1.0)
        whole = sum(
            float(work.count * work.seconds.latency)
            for work in phases.prefill(where)
            if OPERATORS[work.name].state is not None or OPERATORS[work.name].attention is not None
        )
        assert float(lump) == pytest.approx(whole)


def test_a_mixed_pass_updates_only_the_states_of_sequences_that_decode() -> None:
    layers = tiny("mamba2")
    with jax.enable_x64(True):
        where = point(layers, isl=40, osl=5)
        alone, beside = (
            float(phases.mixed_latency(where, 3.0, prompt_tokens=tokens)) for tokens in (0.0, 40.0)
        )
        wide = phases.decode_pass(where, 43.0)
    # The prompt's tokens pass the projections and norms, whose rows share the weights.
    assert alone < beside < float(wide.others)


def test_chunks_of_a_prompt_but_the_first_read_a_state() -> None:
    layers = tiny("mamba2")
    block = layers[1]
    operator = OPERATORS["mamba2_scan"]
    with jax.enable_x64(True):
        step = phases._step(point(layers), query_len=10.0, decoding=False, sequences=2.0)
        for chunks, moves in ((1.0, 1.0), (4.0, 1.75)):
            cost = operator.cost(block, dataclasses.replace(step, chunks=chunks), 10.0)
            assert float(cost.kv_bytes) == moves * 2 * 8 * 8 * 16 * 4


def test_serving_a_model_of_states_takes_longer_for_longer_prompts() -> None:
    names = ("inflight_output_throughput", "inflight_ttft", "inflight_iteration_latency")
    short, long = (
        price(names, tiny("qwen3_next"), isl=isl, osl=50, concurrency=8) for isl in (100, 9000)
    )
    assert short["inflight_output_throughput"] > long["inflight_output_throughput"] > 0
    assert short["inflight_ttft"] < long["inflight_ttft"]


# What is said of it.


@pytest.mark.slow
def test_an_explanation_names_the_operators_and_the_state() -> None:
    spec = ModelSpec(name="tiny", config=keys_of_state_model("mamba2"))
    numbers = {"batch_size": 4, "isl": 90, "osl": 20, "tp": 1}
    cell: dict[str, Any] = {axis: [value] for axis, value in numbers.items()}
    grid = Grid(models=[spec], hardware=[TOY], precision=[FP16], variables=["ttft"], **cell)
    found = explain(grid)
    assert found.memory["state"] == found.memory["kv_cache_memory"] == 4 * 4 * (4096 + 960)
    assert {"mamba2_scan", "state_convolution"} <= {p.operator for p in found.phases[1].parts}
    rows = {row["figure"]: row for row in figure_rows(found)}
    assert rows["of it, states of fixed size"]["value"] == 4 * 4 * (4096 + 960)
    plain = ModelSpec(name="plain", config={"model_type": "llama", **_llama()})
    grid = grid.model_copy(update={"models": [plain]})
    assert "state" not in explain(grid).memory


def _llama() -> dict[str, Any]:
    return {
        key: value
        for key, value in keys_of_state_model("bamba").items()
        if not key.startswith(("mamba", "attn", "model_type"))
    }


# Configs that cannot be read.

NESTED = {
    "linear_attn_config": [
        *({"kda_layers": [1, 2]}, {"full_attn_layers": [0], "kda_layers": [1, 2, 3]}),
        *({"full_attn_layers": [5], "kda_layers": [1, 2, 3]}, {"num_heads": 0}, {"num_heads": "4"}),
        *(
            {"head_dim": 10**18},
            {"use_full_rank_gate": 1},
            {"kda_layers": "1"},
            {"head_dim": []},
        ),
    ],
    "layer_types": [["full_attention"], ["conv"] * 3, [1, 2, 3, 4], "full_attention"],
}


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        *(("kimi_linear", key, value) for key in NESTED for value in NESTED[key]),
        ("qwen3_next", "linear_num_value_heads", 3),
        ("qwen3_next", "linear_key_head_dim", 0),
        ("qwen3_next", "layer_types", ["sliding"] * 4),
        ("qwen3_next", "attention_bias", True),
        ("qwen3_5", "attn_output_gate", False),
        ("qwen3_5", "mamba_ssm_dtype", "float8"),
        ("qwen3_5", "mamba_ssm_dtype", 32),
        ("mamba2", "n_groups", 3),
        ("mamba2", "head_dim", 10),
        ("mamba2", "chunk_size", 10**18),
        ("mamba", "time_step_rank", "all"),
        ("falcon_h1", "mamba_d_ssm", 100),
        ("falcon_h1", "mamba_rms_norm", "yes"),
        ("bamba", "attn_layer_indices", [4]),
        ("bamba", "attn_layer_indices", [True]),
        ("granitemoehybrid", "layer_types", ["mamba"] * 3),
        ("granitemoehybrid", "shared_intermediate_size", None),
        ("jamba", "attn_layer_offset", 4),
        ("jamba", "num_experts_per_tok", 9),
        ("nemotron_h", "hybrid_override_pattern", "ME+"),
        ("nemotron_h", "hybrid_override_pattern", ""),
        ("nemotron_h", "hybrid_override_pattern", None),
        ("nemotron_h", "layers_block_type", []),
        ("nemotron_h", "layers_block_type", ["mamba", "conv"]),
        ("nemotron_h", "num_hidden_layers", 5),
        ("nemotron_h", "mlp_bias", True),
        ("nemotron_h", "moe_latent_size", -1),
        ("lfm2", "conv_L_cache", "3"),
        ("lfm2", "conv_dim", 32),
        ("lfm2", "block_ffn_dim_multiplier", -1.0),
        ("lfm2", "block_use_swiglu", False),
        ("lfm2", "layer_types", ["conv"] * 5),
        ("minimax", "attn_type_list", [0, 1, 2, 1]),
        ("minimax", "block_size", 0),
        ("minimax", "sliding_window", 48),
        ("kimi_linear", "attn_res_block_size", 0),
        ("kimi_linear", "routed_expert_hidden_size", "24"),
        ("kimi_linear", "mla_use_output_gate", "no"),
    ],
)
def test_a_malformed_key_is_one_error_of_one_line_that_names_it(family, key, value) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SpecError) as refusal:
            read_blocks(keys_of_state_model(family, **{key: value}), "some/config.json")
    said = str(refusal.value)
    assert said.startswith("some/config.json: ")
    assert "\n" not in said
    other = {"mamba_d_ssm": "mamba_d_head", "linear_num_value_heads": "linear_num_key_heads"}
    assert other.get(key, key) in said


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_further_parts_are_counted_and_priced(family: str, changes: dict[str, Any]) -> None:
    layers = tiny(family, **changes)
    found = price(("decode_step_latency", "ttft"), layers, context_len=50, isl=50)
    assert found["decode_step_latency"] > 0
    more = sum(int(b.count) * t.elements for b, t in tensors(layers)) - STATE_MODELS[family][1]
    expected = {
        # Experts of 24: 8·2·32·(24 − 64) and two matrices of 64·24.
        "nemotron_h": -8 * 2 * 32 * 40 + 2 * 64 * 24,
        "falcon_h1": 4 * 96,
        # Three full gates of 64·64 for 64·16 + 16·64; a gate of 64·128; queries of rank 24 for
        # 64·192; three layers of experts of 24 with a norm; two vectors twice a layer, and last.
        "kimi_linear": 3 * (64 * 64 - 2 * 64 * 16)
        + 64 * 128
        + 24 * (64 + 192 + 1)
        - 64 * 192
        + 3 * (-8 * 3 * 32 * 40 + 2 * 64 * 24 + 24)
        + 4 * 4 * 64
        + 2 * 64,
    }
    assert more == expected[family]
    assert K3["mla_use_nope"] is False
