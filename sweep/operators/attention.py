"""Fused scaled-dot-product attention, for a prompt and for one new token."""

import jax.numpy as jnp

from sweep.operators.cost import Cost, Scalar


def decode_attention(
    sequences: Scalar,
    context: Scalar,
    *,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
    query_bytes: Scalar,
    output_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of one new token per sequence attending to `context` tokens, itself included.

    Scores and weighted sum take two FLOPs per multiply-add each; the scores never leave the
    chip [1]. K and V are read once per KV head: for LLaMA-2-70B (64 query, 8 KV heads of 128)
    one sequence of 1024 tokens reads 2·8·128·1024·2 = 4.19e6 bytes, an eighth of what 64 KV
    heads would.

    Args:
        sequences: Sequences in the batch. [count]
        context: Tokens attended to. [count]
        heads: Query heads on this GPU. [count]
        kv_heads: KV heads on this GPU. [count]
        head_dim: Width of one head. [count]
        query_bytes: Storage of one query element. [byte]
        output_bytes: Storage of one output element. [byte]
        kv_bytes: Storage of one cached element. [byte]

    References:
        [1] Dao et al., "FlashAttention", NeurIPS 2022.
    """
    scores = sequences * heads * context
    return Cost(
        tensor_flops=4 * scores * head_dim,
        special_ops=scores,
        kv_bytes=2 * sequences * kv_heads * head_dim * context * kv_bytes,
        activation_bytes=sequences * heads * head_dim * (query_bytes + output_bytes),
    )


def prefill_attention(
    sequences: Scalar,
    query_len: Scalar,
    *,
    window: Scalar | None,
    cache_bytes: Scalar,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
    query_bytes: Scalar,
    output_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of a prompt attending to itself, causally.

    Token i attends to min(i, window) tokens, so S tokens make S·(S + 1)/2 pairs without a
    window. K and V of a head pass through the chip once for each on-chip cache full of the
    queries that share them, the input-output complexity of [1], Theorem 2.

    Args:
        sequences: Sequences in the batch. [count]
        query_len: Prompt tokens of each. [count]
        window: Tokens a sliding window lets through, `None` for all. [count]
        cache_bytes: On-chip cache. [byte]
        heads: Query heads on this GPU. [count]
        kv_heads: KV heads on this GPU. [count]
        head_dim: Width of one head. [count]
        query_bytes: Storage of one query element. [byte]
        output_bytes: Storage of one output element. [byte]
        kv_bytes: Storage of one cached element. [byte]

    References:
        [1] Dao et al., "FlashAttention", NeurIPS 2022.
    """
    reach = query_len if window is None else jnp.minimum(query_len, window)
    pairs = reach * (reach + 1) / 2 + (query_len - reach) * reach
    scores = sequences * heads * pairs
    sharing_queries = query_len * head_dim * heads / kv_heads
    passes = jnp.maximum(1.0, sharing_queries * query_bytes / cache_bytes)
    return Cost(
        tensor_flops=4 * scores * head_dim,
        special_ops=scores,
        kv_bytes=passes * 2 * sequences * kv_heads * head_dim * query_len * kv_bytes,
        activation_bytes=sequences * query_len * heads * head_dim * (query_bytes + output_bytes),
    )
