"""Attention over keys and values: projections, norms, rotation, cache, and its three spans."""

import dataclasses
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sweep.kernel.bindings.common import (
    ALL_REDUCE,
    OUTPUT_NORM,
    RESIDUAL,
    hidden_norm,
    kv_heads_per_gpu,
    linear,
    matrix,
    vector,
)
from sweep.kernel.bindings.operator import Attention, Operator, Span, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import (
    causal_pairs,
    chunked_pairs,
    decode_attention,
    prefill_attention,
    windowed_pairs,
)
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.kv_cache import kv_cache_append
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.rotary import rotary


def _qkv_cost(b: Block, s: Step, _: Scalar) -> Cost:
    columns = (b.heads / s.tp + 2 * kv_heads_per_gpu(b, s.tp)) * b.head_dim
    return linear(s, "attention", b.hidden_size, columns, bias=b.qkv_bias)


def _qkv_weights(b: Block) -> tuple[Tensor, ...]:
    q, kv = b.heads * b.head_dim, b.kv_heads * b.head_dim
    return (
        matrix("attention", q, b.hidden_size),
        matrix("attention", 2 * kv, b.hidden_size, "kv_heads"),
        vector(b.qkv_bias * q, "split"),
        vector(b.qkv_bias * 2 * kv, "kv_heads"),
    )


def _qk_norm(vectors: Callable[[Block], Scalar]) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        def normed(heads: Scalar) -> Cost:
            return norm(
                s.tokens * heads,
                b.head_dim,
                vectors=vectors(b),
                input_bytes=s.precision.hidden,
                output_bytes=s.precision.hidden,
            )

        queries, keys = normed(b.heads / s.tp), normed(kv_heads_per_gpu(b, s.tp))
        both: Cost = jax.tree.map(operator.add, queries, keys)
        return both

    return Operator(cost, lambda b: (vector(2 * vectors(b) * b.head_dim),))


def _rotary_cost(b: Block, s: Step, _: Scalar) -> Cost:
    heads = b.heads / s.tp + kv_heads_per_gpu(b, s.tp)
    return rotary(s.tokens, heads, b.rotary_dim, element_bytes=s.precision.hidden)


def _kv_cache_append_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return kv_cache_append(
        s.tokens,
        2 * kv_heads_per_gpu(b, s.tp) * b.head_dim,
        input_bytes=s.precision.hidden,
        kv_bytes=s.precision.kv,
    )


def _attention(span: Span) -> Operator:
    pairs: dict[Span, Callable[[Block, Scalar], Scalar]] = {
        "all": lambda _, length: causal_pairs(length),
        "window": lambda block, length: windowed_pairs(length, block.window),
        "chunk": lambda block, length: chunked_pairs(length, block.window),
    }
    attention = Attention(lambda b, tp: 2 * kv_heads_per_gpu(b, tp) * b.head_dim, span)

    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        sinks = b.sinks * b.heads / s.tp * s.precision.hidden
        shape = {
            "heads": b.heads / s.tp,
            "kv_heads": kv_heads_per_gpu(b, s.tp),
            "head_dim": b.head_dim,
            "query_bytes": s.precision.hidden,
            "output_bytes": s.precision.attention.activation,
            "kv_bytes": s.precision.kv,
        }
        if s.decoding:
            cost = decode_attention(s.sequences, attended, **shape)
            return dataclasses.replace(cost, weight_bytes=sinks)
        cost = prefill_attention(
            s.sequences,
            s.query_len,
            attended=s.tokens_before,
            reach=jnp.inf if span == "all" else b.window,
            pairs=s.prompt_pairs(lambda length: pairs[span](b, length)),
            cache_bytes=s.cache,
            **shape,
        )
        return dataclasses.replace(cost, weight_bytes=sinks)

    def weights(b: Block) -> tuple[Tensor, ...]:
        return (vector(b.sinks * b.heads, "split"),)

    return Operator(cost, weights, attention=attention)


ATTENTION: dict[str, Operator] = {
    "attention_norm": hidden_norm("attention"),
    "qkv_projection": Operator(_qkv_cost, _qkv_weights, role="attention"),
    "qk_norm": _qk_norm(lambda b: b.norm_vectors),
    "qk_unit_norm": _qk_norm(lambda _: 0),
    "rotary": Operator(_rotary_cost),
    "kv_cache_append": Operator(_kv_cache_append_cost),
    "attention": _attention("all"),
    "windowed_attention": _attention("window"),
    "chunked_attention": _attention("chunk"),
    "output_projection": Operator(
        lambda b, s, _: linear(
            s,
            "attention",
            b.heads * b.head_dim / s.tp,
            b.hidden_size,
            bias=b.output_bias,
        ),
        lambda b: (
            matrix("attention", b.hidden_size, b.heads * b.head_dim),
            vector(b.output_bias * b.hidden_size),
        ),
        role="attention",
    ),
    "attention_all_reduce": ALL_REDUCE,
    "attention_output_norm": OUTPUT_NORM,
    "attention_residual": RESIDUAL,
}
