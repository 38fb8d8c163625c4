"""An indexer of sparse attention: scores of all cached keys, and the selection of the best."""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Cost, Scalar

SCORE_BYTES = 4.0
"""Storage of one score, which published kernels write to memory in 32 bits. [byte]"""
INDEX_BYTES = 4.0
"""Storage of the number of one selected entry. [byte]"""


def keys_read(
    queries: Scalar,
    entries: Scalar,
    *,
    query_bytes: Scalar,
    cache_bytes: Scalar,
    pairs: Scalar,
    reach: Scalar = jnp.inf,
) -> Scalar:
    """Entries that a sequence reads for a prompt, or for a chunk of one. [count]

    Entries pass through the chip once for each on-chip cache full of queries, the input-output
    complexity of [1], Theorem 2, and never more often than each query reads its own. In a windowed
    layer each pass reads what those queries reach.

    Args:
        queries: Queries of the sequence. [count]
        entries: Entries in its cache, on average over its queries. [count]
        query_bytes: Storage of one query, all heads that share the entries. [byte]
        cache_bytes: On-chip cache. [byte]
        pairs: Pairs of a query and an entry that it reads. [count]
        reach: Entries that a query attends to at most, infinite if nothing limits it. [count]

    References:
        [1] Dao et al., "FlashAttention", NeurIPS 2022.
    """
    passes = jnp.maximum(1.0, queries * query_bytes / cache_bytes)
    return jnp.minimum(passes * jnp.minimum(entries, reach + queries / passes), pairs)


def index_scores(
    pairs: Scalar,
    queries: Scalar,
    read: Scalar,
    *,
    heads: Scalar,
    head_dim: Scalar,
    query_bytes: Scalar,
    key_bytes: Scalar,
) -> Cost:
    """Cost of scoring keys by several small heads, whose scores are weighed and added.

    The score of a key is the sum over heads of a weight times the positive part of a dot product
    [1, equation 1], so three element-wise FLOPs per head follow each dot product. DeepSeek-V3.2
    takes 2·64·128 = 16 384 matrix FLOPs for a query and a key, and reads 132 bytes of a key in
    8 bits.

    Args:
        pairs: Pairs of a query and a key. [count]
        queries: Queries. [count]
        read: Keys read from the cache. [count]
        heads: Heads of the indexer on this GPU. [count]
        head_dim: Width of one of them. [count]
        query_bytes: Storage of one query element. [byte]
        key_bytes: Storage of one cached element, its share of a scale included. [byte]

    References:
        [1] DeepSeek-AI, "DeepSeek-V3.2", arXiv 2512.02556, 2025, section 2.1.
    """
    query = heads * (head_dim * query_bytes + SCORE_BYTES)
    return Cost(
        tensor_flops=2 * pairs * heads * head_dim,
        vector_flops=3 * pairs * heads,
        kv_bytes=read * head_dim * key_bytes,
        activation_bytes=queries * query + pairs * SCORE_BYTES,
    )


def block_index_scores(
    pairs: Scalar,
    queries: Scalar,
    read: Scalar,
    *,
    heads: Scalar,
    head_dim: Scalar,
    block_size: Scalar,
    query_bytes: Scalar,
    key_bytes: Scalar,
) -> Cost:
    """Cost of scoring blocks of keys, each head for itself: a block scores as its best key [1].

    MiniMax-M3 has 4 heads of 128 and blocks of 128 tokens, so that a query takes 2·4·128 = 1024
    FLOPs for a key and writes 4 scores of 4 bytes for a block.

    Args:
        pairs: Pairs of a query and a key. [count]
        queries: Queries. [count]
        read: Keys read from the cache. [count]
        heads: Heads of the indexer on this GPU. [count]
        head_dim: Width of one of them. [count]
        block_size: Keys of a block. [count]
        query_bytes: Storage of one query element. [byte]
        key_bytes: Storage of one cached element. [byte]

    References:
        [1] MiniMax, "MiniMax sparse attention", arXiv 2606.13392, 2026; `MiniMaxM3VLIndexer` of
        Hugging Face Transformers.
    """
    return Cost(
        tensor_flops=2 * pairs * heads * head_dim,
        vector_flops=1.0 * pairs * heads,
        kv_bytes=read * head_dim * key_bytes,
        activation_bytes=queries * heads * head_dim * query_bytes
        + pairs * heads / block_size * SCORE_BYTES,
    )


def index_selection(scores: Scalar, lists: Scalar, selected: Scalar) -> Cost:
    """Cost of finding the best of the scores: a comparison each at least.

    Args:
        scores: Scores of all lists. [count]
        lists: Lists that entries are selected from: one a query, or one a query and head. [count]
        selected: Entries selected from each; shorter lists are padded. [count]
    """
    return Cost(
        vector_flops=1.0 * scores,
        activation_bytes=scores * SCORE_BYTES + lists * selected * INDEX_BYTES,
    )
