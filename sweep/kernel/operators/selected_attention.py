"""Attention over entries selected from a latent cache, or compressed, for a prompt."""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Cost, Scalar


def entry_pairs(query_len: Scalar, tokens_per_entry: Scalar, limit: Scalar) -> Scalar:
    """Pairs of a token and an entry before it, at most `limit` for a token. [count]

    Token i has ⌊i/m⌋ complete entries of m tokens before it. For 10 tokens and m = 4 these are
    3·0 + 4·1 + 3·2 = 10 pairs, and 7 if one entry is selected.

    Args:
        query_len: Tokens. [count]
        tokens_per_entry: Tokens that share an entry. [count]
        limit: Entries that a token attends to at most, infinite if all. [count]
    """
    below = jnp.minimum(query_len, limit * tokens_per_entry)
    whole = jnp.floor(below / tokens_per_entry)
    rest = below - whole * tokens_per_entry
    inside = tokens_per_entry * whole * (whole - 1) / 2 + whole * (rest + 1)
    beyond = query_len - below
    return inside + jnp.where(beyond > 0, beyond * whole, 0.0)


def gathered_attention(
    queries: Scalar,
    pairs: Scalar,
    read: Scalar,
    *,
    heads: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    query_bytes: Scalar,
    output_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of a prompt that attends to entries that all heads share, each query to its own.

    Keys and values are the same entries, as in the absorbed form of latent attention: a kernel
    gathers them for each query [1]. For 128 heads of DeepSeek-V3.2 a pair takes
    2·128·(576 + 512) = 278 528 FLOPs.

    Args:
        queries: Queries. [count]
        pairs: Pairs of a query and an entry that it attends to. [count]
        read: Entries read from the cache. [count]
        heads: Query heads on this GPU. [count]
        key_dim: Width of an entry. [count]
        value_dim: Width of the part of it that is also the value. [count]
        query_bytes: Storage of one query element. [byte]
        output_bytes: Storage of one output element. [byte]
        kv_bytes: Storage of one cached element. [byte]

    References:
        [1] DeepSeek-AI, "DeepSeek-V3.2", arXiv 2512.02556, 2025, section 2.1.
    """
    scores = heads * pairs
    return Cost(
        tensor_flops=2 * scores * (key_dim + value_dim),
        special_ops=1.0 * scores,
        kv_bytes=read * key_dim * kv_bytes,
        activation_bytes=queries * heads * (key_dim * query_bytes + value_dim * output_bytes),
    )
