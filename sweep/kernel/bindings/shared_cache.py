"""Attention that projects fewer keys and values than it reads.

Layers may read the cache of an earlier layer of the same kind and keep none of their own, or use
their keys as values before norm and rotation, which then are cached apart from each other.
"""

import dataclasses

from sweep.kernel.bindings.attention import ATTENTION
from sweep.kernel.bindings.common import kv_heads_per_gpu, linear, matrix, vector
from sweep.kernel.bindings.operator import Attention, Operator, Span, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.rotary import rotary


def _query_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return _head_norm(b, s, b.heads / s.tp, b.norm_vectors)


def _head_norm(b: Block, s: Step, heads: Scalar, vectors: Scalar) -> Cost:
    hidden = s.precision.hidden
    rows = s.tokens * heads
    return norm(rows, b.head_dim, vectors=vectors, input_bytes=hidden, output_bytes=hidden)


def _shared_attention(span: Span) -> Operator:
    """Attention over the cache of another layer: as much is read, nothing is kept."""
    plain = ATTENTION["attention" if span == "all" else "windowed_attention"]
    return dataclasses.replace(plain, attention=Attention(lambda _, __: 0.0, span))


def _tied_projection_cost(b: Block, s: Step, _: Scalar) -> Cost:
    columns = (b.heads / s.tp + kv_heads_per_gpu(b, s.tp)) * b.head_dim
    return linear(s, "attention", b.hidden_size, columns, bias=b.qkv_bias)


def _tied_projection_weights(b: Block) -> tuple[Tensor, ...]:
    q, k = b.heads * b.head_dim, b.kv_heads * b.head_dim
    return (
        matrix("attention", q, b.hidden_size),
        matrix("attention", k, b.hidden_size, "kv_heads"),
        vector(b.qkv_bias * q, "split"),
        vector(b.qkv_bias * k, "kv_heads"),
    )


def _tied_attention() -> Operator:
    plain = ATTENTION["attention"]
    assert plain.attention is not None
    return dataclasses.replace(plain, attention=dataclasses.replace(plain.attention, projected=0.5))


SHARED_CACHE: dict[str, Operator] = {
    "lone_query_projection": Operator(
        lambda b, s, _: linear(
            s, "attention", b.hidden_size, b.heads / s.tp * b.head_dim, bias=b.qkv_bias
        ),
        lambda b: (
            matrix("attention", b.heads * b.head_dim, b.hidden_size),
            vector(b.qkv_bias * b.heads * b.head_dim, "split"),
        ),
        role="attention",
    ),
    "lone_query_norm": Operator(_query_norm_cost, lambda b: (vector(b.norm_vectors * b.head_dim),)),
    "lone_query_rotary": Operator(
        lambda b, s, _: rotary(
            s.tokens, b.heads / s.tp, b.rotary_dim, element_bytes=s.precision.hidden
        )
    ),
    "shared_cache_attention": _shared_attention("all"),
    "windowed_shared_cache_attention": _shared_attention("window"),
    "tied_kv_projection": Operator(
        _tied_projection_cost, _tied_projection_weights, role="attention"
    ),
    "tied_kv_attention": _tied_attention(),
    "value_unit_norm": Operator(lambda b, s, _: _head_norm(b, s, kv_heads_per_gpu(b, s.tp), 0)),
}
