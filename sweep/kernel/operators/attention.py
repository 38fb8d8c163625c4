"""Fused scaled-dot-product attention, for a prompt and for one new token."""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Cost, Scalar


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
    return Cost(
        tensor_flops=4 * sequences * heads * head_dim * context,
        special_ops=sequences * heads * context,
        kv_bytes=2 * sequences * kv_heads * head_dim * kv_bytes * context,
        activation_bytes=sequences * heads * head_dim * (query_bytes + output_bytes),
    )


def causal_pairs(query_len: Scalar) -> Scalar:
    """Pairs of a token and one it attends to, itself and all before it: S·(S + 1)/2. [count]"""
    return query_len * (query_len + 1) / 2


def windowed_pairs(query_len: Scalar, window: Scalar) -> Scalar:
    """The same where token i attends to the last min(i, window). [count]"""
    reach = jnp.minimum(query_len, window)
    return causal_pairs(reach) + (query_len - reach) * reach


def chunked_pairs(query_len: Scalar, chunk: Scalar) -> Scalar:
    """The same where a token attends to those before it in its own chunk. [count]"""
    whole = jnp.floor(query_len / chunk)
    return whole * causal_pairs(chunk) + causal_pairs(query_len - whole * chunk)


def prefill_attention(
    sequences: Scalar,
    query_len: Scalar,
    *,
    attended: Scalar,
    reach: Scalar,
    pairs: Scalar,
    cache_bytes: Scalar,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
    query_bytes: Scalar,
    output_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of a prompt, or a chunk of one, attending to the tokens before it and to itself.

    K and V of a head pass through the chip once for each on-chip cache full of the
    queries that share them, the input-output complexity of [1], Theorem 2. In a windowed layer
    each pass reads what those queries reach.

    Args:
        sequences: Sequences in the batch. [count]
        query_len: New prompt tokens of each. [count]
        attended: Tokens of each in the cache, the new ones included. [count]
        reach: Tokens that a query attends to at most, infinite if nothing limits it. [count]
        pairs: Pairs of a new token and one it attends to, in one sequence. [count]
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
    # One product for both: XLA writes in-flight intermediates to memory where it sees two.
    scores = sequences * heads * pairs
    sharing_queries = query_len * head_dim * heads / kv_heads
    passes = jnp.maximum(1.0, sharing_queries * query_bytes / cache_bytes)
    read = jnp.minimum(attended, reach + query_len / passes)
    return Cost(
        tensor_flops=4 * scores * head_dim,
        special_ops=scores,
        kv_bytes=sequences * (2 * kv_heads * head_dim * kv_bytes * (passes * read)),
        activation_bytes=sequences
        * (query_len * (heads * head_dim * (query_bytes + output_bytes))),
    )
