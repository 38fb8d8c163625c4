"""Indexers of sparse attention: their projections, their cache, scores and selection.

An indexer of tokens is computed on every GPU of a tensor-parallel group, as vLLM, SGLang and
DeepSeek's own inference code do: all GPUs need the same selection, and an exchange of scores
would cost more. An indexer of blocks has a selection for each KV head, and is split as those are.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from sweep.kernel.bindings.common import linear, matrix, unquantised, vector
from sweep.kernel.bindings.operator import Attention, Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import causal_pairs
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.indexer import (
    block_index_scores,
    index_scores,
    index_selection,
    keys_read,
)
from sweep.kernel.operators.kv_cache import kv_cache_append
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.rotary import rotary
from sweep.kernel.operators.selected_attention import entry_pairs

KEY_BYTES = 1.0 + 4.0 / 128
"""Storage of one element of a cached key: FP8, and a 32-bit scale for each 128 elements, as in
DeepSeek's inference code and in vLLM, SGLang and TensorRT-LLM. [byte]"""


def index_width(b: Block) -> Scalar:
    """Elements of one token's queries of the indexer. [count]"""
    return b.index_heads * b.index_dim


def scored(s: Step, attended: Scalar, entry_tokens: Scalar | None) -> Scalar:
    """Pairs of a new token and an entry that is scored, of all sequences. [count]"""
    if s.decoding:
        return s.sequences * attended
    if entry_tokens is None:
        return s.sequences * s.prompt_pairs(causal_pairs)
    return s.sequences * s.prompt_pairs(lambda length: entry_pairs(length, entry_tokens, jnp.inf))


def _read(s: Step, pairs: Scalar, entry_tokens: Scalar | None, query_bytes: Scalar) -> Scalar:
    """Entries that the indexer reads, of all sequences. [count]"""
    if s.decoding:
        return pairs
    entries = s.tokens_before if entry_tokens is None else s.tokens_before / entry_tokens
    own = pairs / s.sequences
    return s.sequences * keys_read(
        s.query_len, entries, query_bytes=query_bytes, cache_bytes=s.cache, pairs=own
    )


def _scores(entry_tokens: Callable[[Block], Scalar] | None) -> Operator:
    """Scores of all tokens, or of all compressed entries."""

    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        shared = None if entry_tokens is None else entry_tokens(b)
        pairs = scored(s, attended, shared)
        return index_scores(
            pairs,
            s.own_tokens,
            _read(s, pairs, shared, index_width(b) * KEY_BYTES),
            heads=b.index_heads,
            head_dim=b.index_dim,
            query_bytes=KEY_BYTES,
            key_bytes=KEY_BYTES,
        )

    attention = Attention(
        lambda b, _: b.index_dim,
        by_head=False,
        tokens_per_entry=entry_tokens,
        element_bytes=KEY_BYTES,
    )
    return Operator(cost, attention=attention, eight_bit=True)


def _selection(entry_tokens: Callable[[Block], Scalar] | None) -> Operator:
    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        shared = None if entry_tokens is None else entry_tokens(b)
        return index_selection(scored(s, attended, shared), s.own_tokens, b.selected)

    attention = Attention(lambda b, _: 0.0, by_head=False, tokens_per_entry=entry_tokens)
    return Operator(cost, attention=attention)


def _block_heads(b: Block, tp: Scalar) -> Scalar:
    """Heads of an indexer of blocks on each GPU, of which there are as many as KV heads. [count]"""
    return jnp.maximum(b.index_heads / tp, 1.0)


def _block_scores_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    heads, pairs = _block_heads(b, s.tp), scored(s, attended, None)
    return block_index_scores(
        pairs,
        s.own_tokens,
        _read(s, pairs, None, heads * b.index_dim * s.precision.hidden),
        heads=heads,
        head_dim=b.index_dim,
        block_size=b.index_block,
        query_bytes=s.precision.hidden,
        key_bytes=s.precision.kv,
    )


def _block_selection_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    heads = _block_heads(b, s.tp)
    scores = scored(s, attended, None) * heads / b.index_block
    return index_selection(scores, s.own_tokens * heads, b.selected / b.index_block)


def _norm_cost(vectors: int, rows: Callable[[Block, Scalar], Scalar]) -> Operator:
    """Norm of each key, and of each query of the indexer if `rows` says so."""

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        hidden = s.precision.hidden
        found = norm(
            s.tokens * rows(b, s.tp),
            b.index_dim,
            vectors=float(vectors),
            input_bytes=hidden,
            output_bytes=hidden,
        )
        return dataclasses.replace(found, weight_bytes=2 * b.index_dim * hidden)

    def weights(b: Block) -> tuple[Tensor, ...]:
        return (vector(2 * b.index_dim),)

    return Operator(cost, weights)


def _rotary(heads: Callable[[Block, Scalar], Scalar]) -> Operator:
    """Rotation of queries and keys of the indexer, as many elements as in a head of attention."""
    return Operator(
        lambda b, s, _: rotary(
            s.tokens, heads(b, s.tp), b.rotary_dim, element_bytes=s.precision.hidden
        )
    )


INDEXER: dict[str, Operator] = {
    "index_query_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.query_rank, index_width(b)),
        lambda b: (matrix("attention", index_width(b), b.query_rank, "copied"),),
        role="attention",
    ),
    "index_key_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.hidden_size, b.index_dim),
        lambda b: (matrix("attention", b.index_dim, b.hidden_size, "copied"),),
        role="attention",
    ),
    "index_key_norm": _norm_cost(2, lambda _, __: 1.0),
    "index_weight_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, b.index_heads),
        lambda b: (matrix("hidden", b.index_heads, b.hidden_size, "copied"),),
    ),
    "index_rotary": _rotary(lambda b, _: b.index_heads + 1),
    "index_query_rotary": _rotary(lambda b, _: b.index_heads),
    "index_cache_append": Operator(
        lambda b, s, _: kv_cache_append(
            s.tokens, b.index_dim, input_bytes=s.precision.hidden, kv_bytes=KEY_BYTES
        )
    ),
    "index_scores": _scores(None),
    "index_selection": _selection(None),
    "compressed_index_scores": _scores(lambda b: b.entry_tokens),
    "compressed_index_selection": _selection(lambda b: b.entry_tokens),
    "block_index_projection": Operator(
        lambda b, s, _: linear(
            s, "attention", b.hidden_size, (_block_heads(b, s.tp) + 1) * b.index_dim
        ),
        lambda b: (
            matrix("attention", index_width(b), b.hidden_size, "kv_heads"),
            matrix("attention", b.index_dim, b.hidden_size, "copied"),
        ),
        role="attention",
    ),
    "block_index_norm": _norm_cost(1, lambda b, tp: _block_heads(b, tp) + 1),
    "block_index_rotary": _rotary(lambda b, tp: _block_heads(b, tp) + 1),
    "block_index_cache_append": Operator(
        lambda b, s, _: kv_cache_append(
            s.tokens, b.index_dim, input_bytes=s.precision.hidden, kv_bytes=s.precision.kv
        )
    ),
    "block_index_scores": Operator(
        _block_scores_cost, attention=Attention(lambda b, _: b.index_dim, by_head=False)
    ),
    "block_index_selection": Operator(
        _block_selection_cost, attention=Attention(lambda b, _: 0.0, by_head=False)
    ),
}
