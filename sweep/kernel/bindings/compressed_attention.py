"""Compressed attention: one shared key and value a token in a window, and compressed ones beyond.

Every GPU of a tensor-parallel group keeps the cache and computes the compression; query heads and
their outputs are split.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from sweep.kernel.bindings.common import linear, matrix, unquantised, vector
from sweep.kernel.bindings.indexer import KEY_BYTES
from sweep.kernel.bindings.operator import Attention, Operator, Span, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import windowed_pairs
from sweep.kernel.operators.compression import BUFFER_BYTES, compression
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.indexer import keys_read
from sweep.kernel.operators.latent_attention import latent_decode_attention
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.rotary import rotary
from sweep.kernel.operators.selected_attention import entry_pairs, gathered_attention


def shared_width(b: Block) -> Scalar:
    """Elements of the key of one token, which is also its value. [count]"""
    return b.latent_dim + b.rotary_dim


def _entry_tokens(b: Block) -> Scalar:
    return b.entry_tokens


def _attention_cost(
    b: Block, s: Step, attended: Scalar, pairs: Scalar, entries: Scalar, reach: Scalar
) -> Cost:
    """Cost of a decode step over `attended` entries, or of a prompt.

    A sequence of the prompt has `pairs` of a token and an entry, caches `entries`, and its tokens
    attend to the last `reach` of them.
    """
    heads, width, p = b.heads / s.tp, shared_width(b), s.precision
    if s.decoding:
        return latent_decode_attention(
            s.sequences,
            attended,
            heads=heads,
            latent_dim=width,
            rotary_dim=0.0,
            query_bytes=p.hidden,
            output_bytes=p.attention.activation,
            kv_bytes=p.kv,
        )
    read = keys_read(
        s.query_len,
        entries,
        query_bytes=heads * width * p.hidden,
        cache_bytes=s.cache,
        pairs=pairs,
        reach=reach,
    )
    return gathered_attention(
        s.own_tokens,
        s.sequences * pairs,
        s.sequences * read,
        heads=heads,
        key_dim=width,
        value_dim=width,
        query_bytes=p.hidden,
        output_bytes=p.attention.activation,
        kv_bytes=p.kv,
    )


def _windowed_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    pairs = s.prompt_pairs(lambda length: windowed_pairs(length, b.window))
    cost = _attention_cost(b, s, attended, pairs, s.tokens_before, b.window)
    return dataclasses.replace(cost, weight_bytes=b.heads / s.tp * s.precision.hidden)


def _compressed(span: Span, limit: Callable[[Block], Scalar]) -> Operator:
    """Attention to compressed entries, which reads queries and writes outputs with the window's."""

    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        pairs = s.prompt_pairs(lambda length: entry_pairs(length, b.entry_tokens, limit(b)))
        entries = s.tokens_before / b.entry_tokens
        found = _attention_cost(b, s, attended, pairs, entries, jnp.inf)
        return dataclasses.replace(found, activation_bytes=0.0)

    attention = Attention(
        lambda b, _: shared_width(b),
        span,
        by_head=False,
        limit=limit,
        tokens_per_entry=_entry_tokens,
    )
    return Operator(cost, attention=attention)


def _compression(
    width: Callable[[Block], Scalar], kv_bytes: float | None
) -> tuple[Operator, Operator]:
    """Projection of values and gates, and the compression of both into entries."""

    def projected(b: Block) -> Scalar:
        return 2 * b.entry_series * width(b)

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return compression(
            s.own_tokens,
            width=width(b),
            series=b.entry_series,
            tokens_per_entry=b.entry_tokens,
            rotary_dim=b.rotary_dim,
            input_bytes=s.precision.hidden,
            buffer_bytes=BUFFER_BYTES if s.decoding else 0.0,
            kv_bytes=s.precision.kv if kv_bytes is None else kv_bytes,
        )

    def weights(b: Block) -> tuple[Tensor, ...]:
        return (vector(b.entry_tokens * b.entry_series * width(b)), vector(width(b)))

    buffer = Attention(
        lambda b, _: projected(b),
        "buffer",
        by_head=False,
        limit=lambda b: b.entry_series * b.entry_tokens,
        element_bytes=BUFFER_BYTES,
    )
    projection = Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, projected(b)),
        lambda b: (matrix("hidden", projected(b), b.hidden_size, "copied"),),
    )
    return projection, Operator(cost, weights, attention=buffer)


def _grouped_output_cost(b: Block, s: Step, _: Scalar) -> Cost:
    """Cost of projecting the outputs of each group of heads by a matrix of its own."""
    outputs = b.heads * shared_width(b)
    cost = linear(s, "attention", outputs / b.output_groups, b.output_rank / s.tp)
    p = s.precision
    moved = outputs * p.attention.activation + b.output_rank * p.hidden
    return dataclasses.replace(cost, activation_bytes=s.tokens * moved / s.tp)


def _query_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    hidden = s.precision.hidden
    rows = s.tokens * b.heads / s.tp
    return norm(rows, shared_width(b), vectors=0.0, input_bytes=hidden, output_bytes=hidden)


def _key_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    hidden = s.precision.hidden
    return norm(s.tokens, shared_width(b), vectors=1.0, input_bytes=hidden, output_bytes=hidden)


ENTRY_PROJECTION, ENTRY_COMPRESSION = _compression(shared_width, None)
INDEX_PROJECTION, INDEX_COMPRESSION = _compression(lambda b: b.index_dim, KEY_BYTES)

COMPRESSED_ATTENTION: dict[str, Operator] = {
    "query_unit_norm": Operator(_query_norm_cost),
    "shared_kv_norm": Operator(_key_norm_cost, lambda b: (vector(shared_width(b)),)),
    # Queries and the key, and the outputs, whose values were rotated as keys.
    "shared_kv_rotary": Operator(
        lambda b, s, _: rotary(
            s.tokens, 2 * b.heads / s.tp + 1, b.rotary_dim, element_bytes=s.precision.hidden
        )
    ),
    "entry_projection": ENTRY_PROJECTION,
    "entry_compression": ENTRY_COMPRESSION,
    "index_entry_projection": INDEX_PROJECTION,
    "index_entry_compression": INDEX_COMPRESSION,
    "windowed_shared_attention": Operator(
        _windowed_cost,
        lambda b: (vector(b.heads, "split"),),
        attention=Attention(lambda b, _: shared_width(b), "window", by_head=False),
    ),
    "compressed_attention": _compressed("all", lambda _: jnp.inf),
    "selected_compressed_attention": _compressed("selected", lambda b: b.selected),
    "grouped_output_projection": Operator(
        _grouped_output_cost,
        lambda b: (
            matrix("attention", b.output_rank, b.heads * shared_width(b) / b.output_groups),
        ),
        role="attention",
    ),
    "output_up_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.output_rank / s.tp, b.hidden_size),
        lambda b: (matrix("attention", b.hidden_size, b.output_rank),),
        role="attention",
    ),
}
