"""Costs worked out by hand: each operator alone, then the layers of models people know."""

import dataclasses
import math

import jax
import pytest
from factories import (
    CONFIGS,
    FP16,
    TOY,
    all_families,
    blocks,
    config,
    point,
    shipped,
    shipped_model,
)
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from model_families import OTHER_FAMILIES
from state_models import STATE_MODELS, VARIANTS, tiny

from sweep.kernel import phases
from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.draft import AFTER, BEFORE
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.attention import (
    causal_pairs,
    chunked_pairs,
    decode_attention,
    prefill_attention,
    windowed_pairs,
)
from sweep.kernel.operators.collectives import all_reduce, expert_exchange, pipeline_send
from sweep.kernel.operators.cost import Cost
from sweep.kernel.operators.embedding import embedding, position_embedding
from sweep.kernel.operators.experts import distinct_experts, expert_combine, expert_gemm
from sweep.kernel.operators.gemm import gemm
from sweep.kernel.operators.kv_cache import kv_cache_append
from sweep.kernel.operators.latent_attention import latent_decode_attention, latent_up_projection
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.residual import residual
from sweep.kernel.operators.rotary import rotary
from sweep.kernel.operators.sampling import sampling
from sweep.models.read import read_blocks

HALF = {"input_bytes": 2.0, "output_bytes": 2.0}


def spent(cost: Cost) -> dict[str, float]:
    """The entries of a cost that are not zero; a span and what a row would add are no expense."""
    beside = ("network_span", "row_flops", "expert_row_flops", "one_shot_bytes")
    names = [f.name for f in dataclasses.fields(cost) if f.name not in beside]
    entries = {name: float(getattr(cost, name)) for name in names}
    return {name: value for name, value in entries.items() if value}


def costs(model, recipe=FP16, *, decoding: bool, **numbers) -> dict[str, dict[str, float]]:
    """What one layer of a model spends on each operator, exactly."""
    with jax.enable_x64(True):
        where = point(model, TOY, recipe, **numbers)
        works = phases.decode_step(where) if decoding else phases.prefill(where)
        return {work.name: spent(work.cost) for work in works}


# Each operator alone.


def test_gemm_counts_two_flops_per_multiply_add_and_each_operand_once() -> None:
    cost = gemm(256.0, 4096.0, 4096.0, weight_bytes=2.0, **HALF)
    assert spent(cost) == {
        "tensor_flops": 8_589_934_592,  # 2·256·4096²
        "weight_bytes": 33_554_432,  # 4096²·2
        "activation_bytes": 4_194_304,  # 256·(4096 + 4096)·2
    }


def test_a_bias_is_read_once_and_added_to_every_row() -> None:
    plain = gemm(10.0, 8.0, 6.0, weight_bytes=2.0, **HALF)
    biased = gemm(10.0, 8.0, 6.0, weight_bytes=2.0, **HALF, bias=1.0)
    assert plain.vector_flops == 0
    assert biased.vector_flops == 60  # 10·6
    assert biased.weight_bytes - plain.weight_bytes == 12  # 6·2


def test_four_bit_weights_carry_their_scales() -> None:
    # 0.5 byte a weight and 2 bytes for every 128 of them: 4096²·(0.5 + 2/128) = 8 650 752.
    cost = gemm(1.0, 4096.0, 4096.0, weight_bytes=0.5 + 2 / 128, **HALF)
    assert cost.weight_bytes == 8_650_752


def test_decode_attention_reads_kv_once_per_kv_head() -> None:
    sizes = {"head_dim": 128.0, "query_bytes": 2.0, "output_bytes": 2.0, "kv_bytes": 2.0}
    grouped = decode_attention(1.0, 1024.0, heads=64.0, kv_heads=8.0, **sizes)
    assert spent(grouped) == {
        "tensor_flops": 33_554_432,  # 4·64·128·1024
        "special_ops": 65_536,  # 64·1024
        "kv_bytes": 4_194_304,  # 2·8·128·1024·2
        "activation_bytes": 32_768,  # 64·128·(2 + 2)
    }
    ungrouped = decode_attention(1.0, 1024.0, heads=64.0, kv_heads=64.0, **sizes)
    assert ungrouped.kv_bytes == 8 * grouped.kv_bytes
    assert ungrouped.tensor_flops == grouped.tensor_flops


PREFILL = {
    "heads": 32.0,
    "kv_heads": 32.0,
    "head_dim": 128.0,
    "query_bytes": 2.0,
    "output_bytes": 2.0,
    "kv_bytes": 2.0,
}


WHOLE = {"attended": 1024.0, "reach": math.inf, "pairs": causal_pairs(1024.0)}
"""A prompt of 1024 tokens in one piece, nothing before it."""


def test_prefill_attention_is_causal() -> None:
    cost = prefill_attention(1.0, 1024.0, cache_bytes=5e7, **WHOLE, **PREFILL)
    assert spent(cost) == {
        # 1024·1025/2 = 524 800 pairs, in 32 heads 16 793 600 scores, 4·128 FLOPs each.
        "tensor_flops": 8_598_323_200,
        "special_ops": 16_793_600,
        "kv_bytes": 16_777_216,  # 2·32·128·1024·2, read once: the queries fit on chip
        "activation_bytes": 16_777_216,  # 1024·32·128·(2 + 2)
    }


@given(st.integers(1, 60), st.integers(1, 80))
def test_prefill_scores_are_those_of_a_walk_over_the_tokens(length: int, window: int) -> None:
    sizes = PREFILL | {"heads": 1.0, "kv_heads": 1.0, "attended": float(length)}
    pairs = windowed_pairs(float(length), float(window))
    cost = prefill_attention(
        1.0, float(length), reach=float(window), pairs=pairs, cache_bytes=5e7, **sizes
    )
    assert cost.special_ops == sum(min(token, window) for token in range(1, length + 1))


def test_queries_that_overflow_the_cache_read_keys_and_values_again() -> None:
    # 1024 queries of one head take 1024·128·2 = 262 144 bytes: four caches of 65 536.
    small = prefill_attention(1.0, 1024.0, cache_bytes=65_536.0, **WHOLE, **PREFILL)
    assert small.kv_bytes == 4 * 16_777_216
    # Four query heads share each KV head, so four times the queries pass by its K and V.
    grouped = PREFILL | {"kv_heads": 8.0}
    shared = prefill_attention(1.0, 1024.0, cache_bytes=65_536.0, **WHOLE, **grouped)
    assert shared.kv_bytes == 16 * 4_194_304  # 2·8·128·1024·2 each time
    # Under a window of 100 each quarter of the queries reads its 256 tokens and 100 before.
    windowed = WHOLE | {"reach": 100.0}
    near = prefill_attention(1.0, 1024.0, cache_bytes=65_536.0, **windowed, **PREFILL)
    assert near.kv_bytes == 4 * 16_777_216 * 356 / 1024


def test_a_mean_chunk_reads_half_of_what_stands_before_it() -> None:
    # Four chunks of 256 read 256, 512, 768 and 1024 tokens: 640 on average, as 256·(4 + 1)/2.
    chunk = WHOLE | {"attended": 640.0, "pairs": causal_pairs(1024.0) / 4}
    found = prefill_attention(1.0, 256.0, cache_bytes=5e7, **chunk, **PREFILL)
    whole = prefill_attention(1.0, 1024.0, cache_bytes=5e7, **WHOLE, **PREFILL)
    assert 4 * found.tensor_flops == whole.tensor_flops
    assert 4 * found.kv_bytes == 2.5 * whole.kv_bytes


def test_one_token_sees_eight_bit_keys_at_half_the_bytes() -> None:
    sizes = {"heads": 8.0, "kv_heads": 8.0, "head_dim": 64.0, "query_bytes": 2.0}
    wide = decode_attention(3.0, 100.0, **sizes, output_bytes=2.0, kv_bytes=2.0)
    narrow = decode_attention(3.0, 100.0, **sizes, output_bytes=2.0, kv_bytes=1.0)
    assert narrow.kv_bytes == wide.kv_bytes / 2 == 307_200  # 2·3·8·64·100
    assert narrow.activation_bytes == wide.activation_bytes


def test_cache_append_reads_what_it_writes() -> None:
    cost = kv_cache_append(5.0, 2 * 8.0 * 128.0, input_bytes=2.0, kv_bytes=1.0)
    assert spent(cost) == {"kv_bytes": 10_240, "activation_bytes": 20_480}  # 2·5·8·128 elements


def test_gated_activation_reads_two_projections() -> None:
    assert spent(activation(1.0, 11008.0, gated=True, **HALF)) == {
        "vector_flops": 55_040,  # 11008·(4 + 1)
        "special_ops": 22_016,  # an exponential and a reciprocal
        "activation_bytes": 66_048,  # 11008·(2·2 + 2)
    }
    assert spent(activation(1.0, 11008.0, gated=False, **HALF)) == {
        "vector_flops": 44_032,  # 11008·4
        "special_ops": 22_016,
        "activation_bytes": 44_032,  # 11008·(2 + 2)
    }


def test_layer_norm_keeps_two_vectors_and_does_more() -> None:
    assert spent(norm(3.0, 4096.0, vectors=1.0, **HALF)) == {
        "vector_flops": 49_152,  # 4·3·4096
        "special_ops": 3,
        "weight_bytes": 8192,  # 4096·2
        "activation_bytes": 49_152,  # 3·4096·(2 + 2)
    }
    assert spent(norm(3.0, 4096.0, vectors=2.0, **HALF)) == {
        "vector_flops": 86_016,  # 7·3·4096
        "special_ops": 3,
        "weight_bytes": 16_384,
        "activation_bytes": 49_152,
    }


def test_rotary_takes_three_flops_an_element() -> None:
    # 5 tokens of 40 heads of 128: 25 600 elements, read and written in place.
    cost = rotary(5.0, 40.0, 128.0, element_bytes=2.0)
    assert spent(cost) == {"vector_flops": 76_800, "activation_bytes": 102_400}


def test_residual_reads_two_and_writes_one() -> None:
    cost = residual(5.0, 4096.0, element_bytes=2.0)
    assert spent(cost) == {"vector_flops": 20_480, "activation_bytes": 122_880}


def test_embedding_gathers_one_row_per_token() -> None:
    cost = embedding(5.0, 4096.0, weight_bytes=2.0, output_bytes=2.0)
    assert spent(cost) == {"weight_bytes": 40_960, "activation_bytes": 40_960}


def test_position_embedding_adds_one_row_per_token() -> None:
    cost = position_embedding(5.0, 768.0, element_bytes=2.0)
    assert spent(cost) == {
        "vector_flops": 3840,
        "weight_bytes": 7680,
        "activation_bytes": 15_360,  # the stream is read and written
    }


def test_sampling_takes_one_exponential_per_logit() -> None:
    cost = sampling(2.0, 32_000.0, element_bytes=2.0)
    assert spent(cost) == {
        "vector_flops": 192_000,
        "special_ops": 64_000,
        "activation_bytes": 128_000,
    }


def test_ring_all_reduce_sends_almost_two_buffers() -> None:
    cost = all_reduce(10.0, 8192.0, 4.0, element_bytes=2.0)
    # 2·3/4 of 10·8192·2, scattered and gathered.
    assert spent(cost) == {"network_bytes": 245_760, "network_hops": 2}
    assert cost.network_span == 4
    # At once it reads the buffers of three others.
    assert cost.one_shot_bytes == 491_520
    assert spent(all_reduce(10.0, 8192.0, 1.0, element_bytes=2.0)) == {}


EXCHANGE = {"dp_attention": 8.0, "tp": 1.0, "element_bytes": 2.0}


def test_tokens_travel_to_the_experts_that_are_elsewhere() -> None:
    # 10 tokens of 4096, 8 experts each, on 8 GPUs: 7 of 8 copies leave, but a GPU needs one only.
    spread = expert_exchange(10.0, 4096.0, 8.0, ep=8.0, **EXCHANGE)
    assert spread.network_bytes == 10 * 7 * 4096 * 2
    # One expert each: 7/8 of one copy leaves.
    single = expert_exchange(10.0, 4096.0, 1.0, ep=8.0, **EXCHANGE)
    assert single.network_bytes == 10 * 7 / 8 * 4096 * 2
    # Experts split over all GPUs need every token everywhere.
    split = expert_exchange(10.0, 4096.0, 1.0, ep=1.0, **EXCHANGE)
    assert split.network_bytes == 10 * 7 * 4096 * 2
    assert split.network_span == 8


def test_sending_tokens_to_all_groups_is_never_less_than_to_their_experts() -> None:
    # Two experts each on 8 GPUs: 2·7/8 = 1.75 copies leave, 7 if all groups get the token;
    # halfway is 1.75 + 5.25/2 = 4.375.
    halfway = expert_exchange(10.0, 4096.0, 2.0, ep=8.0, everywhere_share=0.5, **EXCHANGE)
    assert halfway.network_bytes == 10 * 4.375 * 4096 * 2
    # Two groups of 4 GPUs, eight experts each: 7 copies leave, of which the other group's 4 GPUs
    # need one each. That is more than the one copy of a token that all groups get.
    wide = EXCHANGE | {"dp_attention": 2.0, "tp": 4.0}
    for share in (0.0, 0.5, 1.0):
        cost = expert_exchange(10.0, 4096.0, 8.0, ep=8.0, everywhere_share=share, **wide)
        assert cost.network_bytes == 10 / 4 * 4 * 4096 * 2
        assert cost.network_span == 8


def test_one_attention_group_exchanges_nothing() -> None:
    alone = EXCHANGE | {"dp_attention": 1.0, "tp": 4.0}
    assert spent(expert_exchange(10.0, 4096.0, 8.0, ep=4.0, **alone)) == {}


def test_stages_hand_on_the_residual_stream() -> None:
    cost = pipeline_send(10.0, 4096.0, pp=4.0, tp=2.0, span=8.0, element_bytes=2.0)
    # Three hand-overs of 10·4096·2 bytes, half from each of two GPUs.
    assert spent(cost) == {"network_bytes": 122_880, "network_hops": 3}
    alone = pipeline_send(10.0, 4096.0, pp=1.0, tp=2.0, span=2.0, element_bytes=2.0)
    assert spent(alone) == {}


@given(st.integers(1, 200), st.integers(1, 60))
def test_chunked_scores_are_those_of_a_walk_over_the_tokens(length: int, chunk: int) -> None:
    walked = sum((token - 1) % chunk + 1 for token in range(1, length + 1))
    assert chunked_pairs(float(length), float(chunk)) == walked


def test_latent_attention_reads_one_cache_for_all_heads() -> None:
    # DeepSeek-V3: 128 heads, latent 512, rotated 64. One sequence of 1000 tokens.
    cost = latent_decode_attention(
        1.0,
        1000.0,
        heads=128.0,
        latent_dim=512.0,
        rotary_dim=64.0,
        query_bytes=2.0,
        output_bytes=2.0,
        kv_bytes=2.0,
    )
    assert cost.kv_bytes == 1_152_000  # 1000·576·2
    assert cost.tensor_flops == 278_528_000  # 128 000 scores, 2·(576 + 512) each
    assert cost.activation_bytes == 278_528  # 128·(576 + 512)·2


def test_latent_projection_takes_as_much_absorbed_as_expanded() -> None:
    sizes = {"heads": 128.0, "latent_dim": 512.0, "key_dim": 128.0, "value_dim": 128.0}
    both = [
        latent_up_projection(*tokens, weight_bytes=2.0, element_bytes=2.0, **sizes)
        for tokens in ((3.0, 0.0), (0.0, 3.0))
    ]
    assert {c.tensor_flops for c in both} == {100_663_296}  # 2·3·512·128·256
    assert {c.weight_bytes for c in both} == {33_554_432}  # 512·128·256·2
    assert [c.activation_bytes for c in both] == [983_040, 199_680]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (1.0, 2.0),
        # Two tokens pick 4 experts, of which 2·2/8 = 0.5 twice on average.
        (2.0, 3.5),
        # 0.75³² = 1.00452e-4 of the 8 experts stay untouched: 8 − 8.0362e-4.
        (32.0, 7.99919638),
    ],
)
def test_distinct_experts_of_mixtral(tokens: float, expected: float) -> None:
    assert float(distinct_experts(tokens, 8.0, 2.0)) == pytest.approx(expected, rel=1e-6)


def test_distinct_experts_of_a_small_case_counted_out() -> None:
    # Two tokens, one of three experts each: 3 of 9 outcomes agree, (3·1 + 6·2)/9 = 5/3.
    assert float(distinct_experts(2.0, 3.0, 1.0)) == pytest.approx(5 / 3, rel=1e-6)


def test_all_experts_are_read_where_every_token_uses_all() -> None:
    assert float(distinct_experts(1.0, 4.0, 4.0)) == 4.0


@given(st.integers(1, 10_000), st.integers(1, 256), st.data())
def test_distinct_experts_are_between_one_tokens_and_all(tokens, experts, data) -> None:
    used = data.draw(st.integers(1, experts))
    hit = float(distinct_experts(float(tokens), float(experts), float(used)))
    assert used * (1 - 1e-5) <= hit <= min(experts, tokens * used) * (1 + 1e-5)


def test_expert_matrices_are_read_once_per_expert_hit() -> None:
    # Mixtral 8x7B, gate and up: 4096·28672 = 117 440 512 weights an expert, 2 bytes each.
    def cost(tokens: float) -> Cost:
        return expert_gemm(
            tokens * 2.0,
            4096.0,
            28_672.0,
            experts_read=distinct_experts(tokens, 8.0, 2.0),
            weight_bytes=2.0,
            bias=0.0,
            **HALF,
        )

    with jax.enable_x64(True):
        assert float(cost(1.0).weight_bytes) == pytest.approx(469_762_048, rel=1e-12)  # 2 experts
        assert float(cost(2.0).weight_bytes) == pytest.approx(822_083_584, rel=1e-12)  # 3.5
        assert float(cost(1e6).weight_bytes) == pytest.approx(1_879_048_192, rel=1e-12)  # all 8
    assert cost(2.0).tensor_flops == 939_524_096  # 2·2·2·117 440 512, two experts a token
    assert cost(2.0).activation_bytes == 262_144  # 2·2·(4096 + 28672)·2


def test_combining_experts_reads_each_output() -> None:
    cost = expert_combine(3.0, 4096.0, 2.0, element_bytes=2.0)
    assert spent(cost) == {
        "vector_flops": 49_152,  # 3·4096·2 multiply-adds
        "activation_bytes": 73_728,  # 3·4096·(2 + 1)·2
    }


def test_a_cost_sums_its_parts() -> None:
    cost = Cost(
        tensor_flops=1.0, vector_flops=2.0, weight_bytes=4.0, kv_bytes=8.0, activation_bytes=16.0
    )
    assert (cost.flops, cost.memory_bytes) == (3.0, 28.0)


def test_types_of_the_kernel_are_checked_in_these_tests() -> None:
    with pytest.raises(TypeCheckError):
        residual("five", 4096.0, element_bytes=2.0)


# Operators in models.


LLAMA_2_7B_DECODE = {
    "embedding": {"weight_bytes": 8192, "activation_bytes": 8192},  # a row of 4096·2
    "attention_norm": {
        "vector_flops": 16_384,  # 4·4096
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,  # 4096·(2 + 2)
    },
    "qkv_projection": {
        "tensor_flops": 100_663_296,  # 2·4096·3·4096
        "weight_bytes": 100_663_296,
        "activation_bytes": 32_768,  # (4096 + 12288)·2
    },
    # 32 query and 32 key heads of 128: 8192 elements.
    "rotary": {"vector_flops": 24_576, "activation_bytes": 32_768},
    "kv_cache_append": {"kv_bytes": 16_384, "activation_bytes": 16_384},
    "attention": {
        "tensor_flops": 16_777_216,  # 4·32·128·1024
        "special_ops": 32_768,  # 32·1024
        "kv_bytes": 16_777_216,  # 2·32·128·1024·2
        "activation_bytes": 16_384,
    },
    "output_projection": {
        "tensor_flops": 33_554_432,
        "weight_bytes": 33_554_432,
        "activation_bytes": 16_384,
    },
    "attention_all_reduce": {},
    "attention_residual": {"vector_flops": 4096, "activation_bytes": 24_576},
    "ffn_norm": {
        "vector_flops": 16_384,
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,
    },
    "gate_up_projection": {
        "tensor_flops": 180_355_072,  # 2·4096·2·11008
        "weight_bytes": 180_355_072,
        "activation_bytes": 52_224,  # (4096 + 22016)·2
    },
    "gated_activation": {
        "vector_flops": 55_040,
        "special_ops": 22_016,
        "activation_bytes": 66_048,
    },
    "down_projection": {
        "tensor_flops": 90_177_536,  # 2·11008·4096
        "weight_bytes": 90_177_536,
        "activation_bytes": 30_208,
    },
    "ffn_all_reduce": {},
    "ffn_residual": {"vector_flops": 4096, "activation_bytes": 24_576},
    "pipeline_send": {},
    "final_norm": {
        "vector_flops": 16_384,
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,
    },
    "lm_head": {
        "tensor_flops": 262_144_000,  # 2·4096·32000
        "weight_bytes": 262_144_000,
        "activation_bytes": 72_192,  # (4096 + 32000)·2
    },
    "sampling": {"vector_flops": 96_000, "special_ops": 32_000, "activation_bytes": 64_000},
}


def test_every_operator_of_one_llama_2_7b_decode_step() -> None:
    found = costs(shipped_model("llama-2-7b"), decoding=True, context_len=1024)
    assert list(found) == list(LLAMA_2_7B_DECODE)
    assert found == LLAMA_2_7B_DECODE


def test_a_prompt_scales_tokens_and_leaves_weights() -> None:
    decode = LLAMA_2_7B_DECODE
    found = costs(shipped_model("llama-2-7b"), decoding=False, isl=1024)
    for name in ("qkv_projection", "gate_up_projection", "down_projection", "ffn_norm"):
        for entry, value in decode[name].items():
            times = 1 if entry == "weight_bytes" else 1024
            assert found[name][entry] == times * value, (name, entry)
    assert found["attention"] == {
        "tensor_flops": 8_598_323_200,  # 1024·1025/2 pairs, see above
        "special_ops": 16_793_600,
        "kv_bytes": 16_777_216,
        "activation_bytes": 16_777_216,
    }
    assert found["kv_cache_append"]["kv_bytes"] == 16_777_216  # 1024 tokens of 16384


def test_only_the_last_position_of_a_prompt_reaches_the_head() -> None:
    found = costs(shipped_model("llama-2-7b"), decoding=False, isl=1024)
    assert found["lm_head"] == LLAMA_2_7B_DECODE["lm_head"]
    assert found["sampling"] == LLAMA_2_7B_DECODE["sampling"]


@pytest.mark.parametrize(
    ("operator", "decoding", "flops", "bytes_moved"),
    [
        # Yuan et al., "LLM inference unveiled", arXiv 2402.16363, table 1: layers of
        # LLaMA-2-7B, sequence length 2048, batch size 1, 16 bits.
        ("output_projection", False, 69e9, 67e6),
        ("down_projection", False, 185e9, 152e6),
        ("output_projection", True, 34e6, 34e6),
        ("down_projection", True, 90e6, 90e6),
        # Their q, k and v in one product of ours; gate and up as well.
        ("qkv_projection", True, 3 * 34e6, 3 * 34e6),
        ("gate_up_projection", True, 2 * 90e6, 2 * 90e6),
        # Their qk_matmul and sv_matmul, fused.
        ("attention", True, 2 * 17e6, 2 * 17e6),
    ],
)
def test_published_layers_of_llama_2_7b(operator, decoding, flops, bytes_moved) -> None:
    numbers = {"context_len": 2048} if decoding else {"isl": 2048}
    cost = costs(shipped_model("llama-2-7b"), decoding=decoding, **numbers)[operator]
    moved = sum(cost.get(kind, 0) for kind in ("weight_bytes", "kv_bytes", "activation_bytes"))
    # The table rounds to two digits, and 0.5 in 17 is 3 %.
    assert cost["tensor_flops"] == pytest.approx(flops, rel=0.03)
    assert moved == pytest.approx(bytes_moved, rel=0.03)


@pytest.mark.parametrize(
    ("tp", "kv_bytes"),
    [
        (1, 4_194_304),  # 8 KV heads: 2·8·128·1024·2, an eighth of 64 query heads'
        (8, 524_288),  # one KV head a GPU
        (16, 524_288),  # still one: KV heads are copied, not cut
    ],
)
def test_llama_2_70b_reads_its_kv_heads_and_no_more(tp: int, kv_bytes: int) -> None:
    found = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024, tp=tp)
    assert found["attention"]["kv_bytes"] == kv_bytes
    assert found["attention"]["tensor_flops"] == 33_554_432 / tp  # 4·64·128·1024
    assert found["kv_cache_append"]["kv_bytes"] == kv_bytes / 1024


def test_grouped_kv_narrows_the_projection_of_llama_2_70b() -> None:
    found = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024)
    # 8192 × (64 + 2·8)·128 = 8192·10240 weights, two FLOPs and two bytes each.
    assert found["qkv_projection"]["weight_bytes"] == 167_772_160
    assert found["rotary"]["vector_flops"] == 27_648  # 3·(64 + 8)·128


def test_a_mean_chunk_of_a_prompt_reads_half_of_what_is_before_it() -> None:
    # 40 tokens in 4 chunks of 10: a chunk reads 10·(1 + 2 + 3 + 4)/4 = 25 of 2·2·8 elements in 2
    # bytes; 40·41/2 = 820 pairs, 205 for each, with 4·4·8 FLOPs and an exponential a head.
    block = Block(operators=("attention",), hidden_size=32, heads=4, kv_heads=2, head_dim=8)
    where = point((block,))
    step = Step(
        decoding=False,
        sequences=1.0,
        query_len=10.0,
        layout=where.layout,
        precision=where.precision,
        cache=where.hardware.cache,
        chunks=4.0,
    )
    assert spent(OPERATORS["attention"].cost(block, step, 0.0)) == {
        "tensor_flops": 26_240,
        "special_ops": 820,
        "kv_bytes": 1600,
        "activation_bytes": 1280,  # 10·4·8·(2 + 2)
    }


def test_tensor_parallelism_splits_matrices_and_copies_norms() -> None:
    whole = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024)
    part = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024, tp=4)
    split = ("qkv_projection", "output_projection", "gate_up_projection", "lm_head")
    for name in (*split, "down_projection"):
        assert part[name]["tensor_flops"] == whole[name]["tensor_flops"] / 4
        assert part[name]["weight_bytes"] == whole[name]["weight_bytes"] / 4
    assert part["ffn_norm"] == whole["ffn_norm"]
    # 2·3/4 of one token of 8192 in 2 bytes, after attention and after the feed-forward.
    assert (
        part["attention_all_reduce"]
        == part["ffn_all_reduce"]
        == {
            "network_bytes": 24_576,
            "network_hops": 2,
        }
    )


def test_experts_of_one_mixtral_decode_step() -> None:
    found = costs(shipped_model("mixtral-8x7b"), decoding=True, batch_size=2, context_len=64)
    assert found["expert_gate_up_projection"]["weight_bytes"] == pytest.approx(822_083_584)
    assert found["expert_gate_up_projection"]["tensor_flops"] == 939_524_096  # as above
    # 14336·4096 = 58 720 256 weights, 3.5 experts of 2 bytes.
    assert found["expert_down_projection"]["weight_bytes"] == pytest.approx(411_041_792)
    # The router is a 4096 × 8 product for each token.
    assert found["router"] == {
        "tensor_flops": 131_072,  # 2·2·4096·8
        "weight_bytes": 65_536,
        "activation_bytes": 16_416,  # 2·(4096 + 8)·2
    }
    # Two tokens visit two experts each: four rows of 14336.
    assert found["expert_gated_activation"]["special_ops"] == 114_688


def test_a_window_caps_the_context_of_a_decode_step() -> None:
    # Gemma-2-27B: 16 KV heads of 128; half the layers see 4096 of the 10 000 tokens.
    found = costs(shipped_model("gemma-2-27b"), decoding=True, context_len=10_000)
    assert found["windowed_attention"]["kv_bytes"] == 33_554_432  # 2·16·128·4096·2
    assert found["attention"]["kv_bytes"] == 81_920_000  # 2·16·128·10000·2


def test_a_window_caps_the_scores_of_a_prompt() -> None:
    # Window 48, 100 tokens: 48·49/2 + 52·48 = 3672 pairs, in 8 heads.
    windowed = read_blocks(config("mistral"), "mistral")
    assert costs(windowed, decoding=False, isl=100)["windowed_attention"]["special_ops"] == 29_376


LLAMA_LAYER = [
    "attention_norm",
    "qkv_projection",
    "rotary",
    "kv_cache_append",
    "attention",
    "output_projection",
    "attention_all_reduce",
    "attention_residual",
    "ffn_norm",
    "gate_up_projection",
    "gated_activation",
    "down_projection",
    "ffn_all_reduce",
    "ffn_residual",
]
"""The 14 operators of a pre-norm layer with a gated feed-forward."""


def layer(family: str, **changes) -> list[str]:
    (first, *_) = [b for b in blocks(family, **changes) if b.in_transformer]
    return list(first.operators)


@pytest.mark.parametrize("family", ["llama", "Yi", "internlm2", "gemma", "chatglm"])
def test_families_that_run_llamas_layer(family: str) -> None:
    assert layer(family) == LLAMA_LAYER


def test_gpt2_has_plain_feed_forwards_and_no_rotary() -> None:
    assert layer("gpt2") == layer("bloom") == layer("opt")
    assert "rotary" not in layer("gpt2")
    assert "gate_up_projection" not in layer("gpt2")
    assert {"up_projection", "activation", "down_projection"} < set(layer("gpt2"))


def test_parallel_layers_share_a_norm_and_an_all_reduce() -> None:
    for operators in (layer("gptj"), layer("falcon", new_decoder_architecture=None)):
        assert [name for name in operators if name.endswith("norm")] == ["attention_norm"]
        reduced = [name for name in operators if name.endswith("all_reduce")]
        assert reduced == ["layer_all_reduce"]


def test_new_falcon_has_a_norm_for_each_branch() -> None:
    norms = [name for name in layer("falcon") if name.endswith("norm")]
    assert norms == ["attention_norm", "ffn_norm"]
    one = [name for name in layer("falcon", num_ln_in_parallel_attn=1) if name.endswith("norm")]
    assert one == ["attention_norm"]


def test_sequential_falcon_has_two_all_reduces_and_alibi_no_rotary() -> None:
    old = layer("falcon", new_decoder_architecture=None, parallel_attn=False, alibi=True)
    assert sum(name.endswith("all_reduce") for name in old) == 2
    assert "rotary" not in old


def test_gemma2_normalises_before_and_after() -> None:
    norms = [name for name in layer("gemma2") if name.endswith("norm")]
    assert norms == ["attention_norm", "attention_output_norm", "ffn_norm", "ffn_output_norm"]


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_queries_and_keys_are_normalised_before_they_turn(family: str) -> None:
    operators = layer(family)
    assert operators.index("qk_norm") + 1 == operators.index("rotary")


def test_windows_alternate_as_published() -> None:
    def windows(family: str, **changes) -> list[tuple[int, int]]:
        layers = [b for b in blocks(family, **changes) if b.in_transformer]
        return [(b.count, b.window) for b in layers]

    assert windows("gemma2") == [(2, 48), (2, 0)]  # every other of 4
    assert windows("gemma3") == [(6, 48), (1, 0)]  # five of six: layer 6 of 7 sees all
    assert windows("mistral") == [(3, 48)]
    assert windows("mistral", sliding_window=None) == [(3, 0)]
    assert windows("qwen2") == [(2, 0), (1, 48)]  # from layer max_window_layers on
    assert windows("qwen2", use_sliding_window=False) == [(3, 0)]


def test_glm_turns_half_of_each_head_and_phi_a_stated_part() -> None:
    assert [b.rotary_dim for b in blocks("chatglm") if b.in_transformer] == [4]
    partial = blocks("phi3", partial_rotary_factor=0.75)
    assert [b.rotary_dim for b in partial if b.in_transformer] == [6]


def test_narrow_opt_projects_in_and_out() -> None:
    first, _, last = blocks("opt")
    assert first.operators == ("embedding", "embedding_projection", "position_embedding")
    assert last.operators == (
        "pipeline_send",
        "final_norm",
        "head_projection",
        "lm_head",
        "sampling",
    )
    wide = blocks("opt", word_embed_proj_dim=64, do_layer_norm_before=False)
    assert wide[0].operators == ("embedding", "position_embedding")
    assert wide[2].operators == ("pipeline_send", "lm_head", "sampling")


@pytest.mark.slow
@pytest.mark.parametrize("family", all_families())
def test_one_token_takes_two_flops_with_every_matrix_element_it_uses(family: str) -> None:
    layers = blocks(family, **({} if "text_config" in CONFIGS[family] else UNTIED))
    with jax.enable_x64(True):
        works = iter(phases.decode_step(point(layers, TOY, FP16, context_len=10)))
    for block in layers:
        for name in block.operators:
            found = spent(next(works).cost)
            matrices = [t for t in OPERATORS[name].weights(block) if len(t.shape) > 1]
            used = 2 * sum(tensor.active_elements for tensor in matrices)
            if name in ("embedding", "position_embedding"):
                assert "tensor_flops" not in found
            elif matrices and (name != "lm_head" or block.untied):
                assert found["tensor_flops"] == used > 0, name


UNTIED = {"tie_word_embeddings": False}


@pytest.mark.filterwarnings("ignore:mllama")
def test_every_operator_runs_in_some_family() -> None:
    configs = {**CONFIGS, **{family: config for family, (config, _) in OTHER_FAMILIES.items()}}
    read = [read_blocks({"model_type": name, **data}, name) for name, data in configs.items()]
    read += [tiny(name) for name in STATE_MODELS]
    read += [tiny(family, **changes) for family, changes in VARIANTS]
    run = {name for model in read for block in model for name in block.operators}
    assert run | {*BEFORE, AFTER} == set(OPERATORS)


LLAMA_2_70B_SHARED_DECODE = {
    # A quarter of 64 + 2·8 heads of 128, of 28672 and of 32000; two tokens; one byte a weight,
    # an input of a product and an element of the cache, two for all else.
    "embedding": {"weight_bytes": 32_768, "activation_bytes": 32_768},  # 2·8192·2
    "attention_norm": {
        "vector_flops": 65_536,  # 4·2·8192
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 49_152,  # 2·8192·(2 + 1)
    },
    "qkv_projection": {
        "tensor_flops": 83_886_080,  # 2·2·8192·(16 + 2·2)·128
        "weight_bytes": 20_971_520,
        "activation_bytes": 26_624,  # 2·(8192 + 2560·2)
    },
    # 2·(16 + 2)·128 = 4608 elements.
    "rotary": {"vector_flops": 13_824, "activation_bytes": 18_432},
    "kv_cache_append": {"kv_bytes": 1024, "activation_bytes": 2048},  # 2·2·2·128 elements
    "attention": {
        "tensor_flops": 16_777_216,  # 4·2·16·128·1024
        "special_ops": 32_768,
        "kv_bytes": 1_048_576,  # 2·2·2·128·1024
        "activation_bytes": 12_288,  # 2·16·128·(2 + 1)
    },
    "output_projection": {
        "tensor_flops": 67_108_864,  # 2·2·2048·8192
        "weight_bytes": 16_777_216,
        "activation_bytes": 36_864,  # 2·(2048 + 8192·2)
    },
    "attention_all_reduce": {
        "network_bytes": 49_152,  # 2·3/4·2·8192·2
        "network_hops": 2,
    },
    "attention_residual": {"vector_flops": 16_384, "activation_bytes": 98_304},
    "ffn_norm": {
        "vector_flops": 65_536,
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 49_152,
    },
    "gate_up_projection": {
        "tensor_flops": 469_762_048,  # 2·2·8192·14336
        "weight_bytes": 117_440_512,
        "activation_bytes": 73_728,  # 2·(8192 + 14336·2)
    },
    "gated_activation": {
        "vector_flops": 71_680,  # 5·2·7168
        "special_ops": 28_672,
        "activation_bytes": 71_680,  # 14336·(2·2 + 1)
    },
    "down_projection": {
        "tensor_flops": 234_881_024,  # 2·2·7168·8192
        "weight_bytes": 58_720_256,
        "activation_bytes": 47_104,  # 2·(7168 + 8192·2)
    },
    "ffn_all_reduce": {"network_bytes": 49_152, "network_hops": 2},
    "ffn_residual": {"vector_flops": 16_384, "activation_bytes": 98_304},
    "pipeline_send": {},
    "final_norm": {
        "vector_flops": 65_536,
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 65_536,  # 2·8192·(2 + 2): no product of 8-bit inputs follows
    },
    "lm_head": {
        "tensor_flops": 262_144_000,  # 2·2·8192·8000
        "weight_bytes": 131_072_000,  # the head stays in two bytes
        "activation_bytes": 64_768,  # 2·(8192 + 8000)·2
    },
    "sampling": {"vector_flops": 48_000, "special_ops": 16_000, "activation_bytes": 32_000},
}


def test_every_operator_of_a_shared_llama_2_70b_step_in_eight_bits() -> None:
    recipe = shipped().precision("fp8")
    numbers = {"batch_size": 2, "context_len": 1024, "tp": 4}
    found = costs(shipped_model("llama-2-70b"), recipe, decoding=True, **numbers)
    assert found == LLAMA_2_70B_SHARED_DECODE
