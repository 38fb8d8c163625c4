"""Costs worked out by hand: each operator alone, then the layers of models people know."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
from factories import (
    FP16,
    TOY,
    point,
)
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from sweep.kernel import phases
from sweep.kernel.iteration_curve import Curve
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
    with pytest.raises(TypeCheckError):
        causal_pairs(jnp.ones(2))
    with pytest.raises(TypeCheckError):
        Cost(tensor_flops="five")
    ends = jnp.ones(2), jnp.ones((2, 2)), 1.0, 1.0
    Curve(jnp.ones(2), jnp.ones(2), *ends)
    with pytest.raises(TypeCheckError):  # a node without a time
        Curve(jnp.ones(2), jnp.ones(3), *ends)
