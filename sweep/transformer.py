"""Binds the sizes of a block to the operators it runs, and tells the weights each operator keeps.

A family's list of operators stands in `families/`; the formulas stand in `operators/`.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from sweep.architecture import Block
from sweep.operators.activation import activation
from sweep.operators.attention import (
    causal_pairs,
    chunked_pairs,
    decode_attention,
    prefill_attention,
    windowed_pairs,
)
from sweep.operators.collectives import all_reduce, expert_exchange, pipeline_send
from sweep.operators.cost import Cost, Scalar
from sweep.operators.embedding import embedding, position_embedding
from sweep.operators.experts import distinct_experts, expert_combine, expert_gemm
from sweep.operators.gemm import gemm
from sweep.operators.kv_cache import kv_cache_append
from sweep.operators.latent_attention import (
    latent_decode_attention,
    latent_prefill_attention,
    latent_up_projection,
)
from sweep.operators.norm import norm
from sweep.operators.residual import residual
from sweep.operators.rotary import rotary
from sweep.operators.sampling import sampling
from sweep.params import Layout, Model, Precision

Engine = Literal["linear", "hidden", "head"]
Span = Literal["all", "window", "chunk"]


class Step(eqx.Module):
    """One pass of one microbatch through the model, as one attention group sees it.

    Attributes:
        decoding: Whether each sequence adds one token; else it is a whole prompt.
        sequences: Sequences of the group in the microbatch. [count]
        query_len: New tokens of each. [count]
        layout: How the replica is laid out.
        precision: Storage types.
        cache: On-chip cache. [byte]
    """

    decoding: bool = eqx.field(static=True)
    sequences: Scalar
    query_len: Scalar
    layout: Layout
    precision: Precision
    cache: Scalar

    @property
    def tokens(self) -> Scalar:
        """New tokens of the group. [count]"""
        return self.sequences * self.query_len

    @property
    def tp(self) -> Scalar:
        """GPUs that share each layer. [count]"""
        return self.layout.tp

    @property
    def expert_tokens(self) -> Scalar:
        """New tokens of all groups, which meet at the experts. [count]"""
        return self.tokens * self.layout.dp_attention

    @property
    def expert_tp(self) -> Scalar:
        """GPUs that share each expert. [count]"""
        return self.layout.stage_gpus / self.layout.ep


@dataclass(frozen=True)
class Tensor:
    """A stored weight.

    Attributes:
        shape: Elements along each side, of the whole model. [count]
        role: One of `params.ROLES`.
        sharding: One of `params.SHARDING`.
        expert_choice: Experts used and experts kept, for a tensor of routed experts. [count]
    """

    shape: tuple[int, ...]
    role: str = "linear"
    sharding: str = "split"
    expert_choice: tuple[int, int] = (1, 1)

    @property
    def elements(self) -> int:
        """Stored elements. [count]"""
        return prod(self.shape)

    @property
    def active_elements(self) -> int:
        """Elements one token uses. [count]"""
        used, kept = self.expert_choice
        return self.elements * used // kept


def _no_weights(_: Block) -> tuple[Tensor, ...]:
    return ()


@dataclass(frozen=True)
class Attention:
    """How an operator that attends to the context does so.

    Attributes:
        cached: Elements of the KV cache of one token in one layer on each GPU.
        span: Whether it attends to the whole context, to a sliding window of it, or to the
            chunk that the newest token is in.
    """

    cached: Callable[[Block, Scalar], Scalar]
    span: Span = "all"

    def reach(self, block: Block, context: Scalar) -> Scalar:
        """Tokens attended to when the context holds `context`. [count]"""
        if self.span == "all":
            return context
        if self.span == "window":
            return jnp.minimum(context, block.window)
        return jnp.mod(context - 1, block.window) + 1

    def kept(self, block: Block, tokens: Scalar) -> Scalar:
        """Tokens kept in the cache of a sequence of `tokens`. [count]"""
        return tokens if self.span == "all" else jnp.minimum(tokens, block.window)


@dataclass(frozen=True)
class Operator:
    """An operator as a block runs it.

    Attributes:
        cost: Its cost at a block's sizes, a step, and the tokens each sequence attends to.
        weights: The tensors it keeps.
        engine: Whose operand types set the rate of its matrix FLOPs; attention computes in the
            type of the residual stream whatever the cache stores.
        attention: How it attends to the context, or `None` if its cost does not depend on it.
    """

    cost: Callable[[Block, Step, Scalar], Cost]
    weights: Callable[[Block], tuple[Tensor, ...]] = _no_weights
    engine: Engine = "linear"
    attention: Attention | None = None


def kv_heads_per_gpu(block: Block, tp: Scalar) -> Scalar:
    """KV heads each GPU keeps: a share of them, and never less than one. [count]"""
    return jnp.maximum(block.kv_heads / tp, 1.0)


def _linear(step: Step, inner: Scalar, columns: Scalar, *, bias: Scalar) -> Cost:
    return gemm(
        step.tokens,
        inner,
        columns,
        weight_bytes=step.precision.weight,
        input_bytes=step.precision.activation,
        output_bytes=step.precision.hidden,
        bias=bias,
    )


def _unquantised(
    step: Step, rows: Scalar, inner: Scalar, columns: Scalar, *, bias: Scalar = 0.0
) -> Cost:
    hidden = step.precision.hidden
    return gemm(
        rows,
        inner,
        columns,
        weight_bytes=hidden,
        input_bytes=hidden,
        output_bytes=hidden,
        bias=bias,
    )


def _lm_head_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return gemm(
        s.sequences,
        b.embedding_size,
        b.vocab_size / s.tp,
        weight_bytes=b.untied * s.precision.head + (1 - b.untied) * s.precision.hidden,
        input_bytes=s.precision.hidden,
        output_bytes=s.precision.hidden,
        bias=b.head_bias,
    )


def _norm(width: Callable[[Block], Scalar], *, feeds_linear: bool) -> Operator:
    def cost(block: Block, step: Step, _: Scalar) -> Cost:
        p = step.precision
        return norm(
            step.tokens,
            width(block),
            vectors=block.norm_vectors,
            input_bytes=p.hidden,
            output_bytes=p.activation if feeds_linear else p.hidden,
        )

    return Operator(cost, lambda b: (_vector(b.norm_vectors * width(b)),))


def _vector(elements: Scalar, sharding: str = "copied") -> Tensor:
    return Tensor((int(elements),), role="hidden", sharding=sharding)


def _matrix(rows: Scalar, columns: Scalar, sharding: str = "split", role: str = "linear") -> Tensor:
    return Tensor((int(rows), int(columns)), role=role, sharding=sharding)


def _experts(block: Block, rows: Scalar, columns: Scalar) -> Tensor:
    experts, used = int(block.experts), int(block.experts_per_token)
    shape = experts, int(rows), int(columns)
    return Tensor(shape, sharding="experts", expert_choice=(used, experts))


def _expert_biases(block: Block, width: Scalar) -> Tensor:
    experts, used = int(block.experts), int(block.experts_per_token)
    elements = experts * int(block.expert_bias * width)
    return Tensor((elements,), role="hidden", sharding="experts", expert_choice=(used, experts))


def _query_width(block: Block) -> Scalar:
    return block.heads * (block.head_dim + block.rotary_dim)


def _qkv_cost(b: Block, s: Step, _: Scalar) -> Cost:
    columns = (b.heads / s.tp + 2 * kv_heads_per_gpu(b, s.tp)) * b.head_dim
    return _linear(s, b.hidden_size, columns, bias=b.qkv_bias)


def _qkv_weights(b: Block) -> tuple[Tensor, ...]:
    q, kv = b.heads * b.head_dim, b.kv_heads * b.head_dim
    return (
        _matrix(q, b.hidden_size),
        _matrix(2 * kv, b.hidden_size, "kv_heads"),
        _vector(b.qkv_bias * q, "split"),
        _vector(b.qkv_bias * 2 * kv, "kv_heads"),
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

    return Operator(cost, lambda b: (_vector(2 * vectors(b) * b.head_dim),))


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
            "output_bytes": s.precision.activation,
            "kv_bytes": s.precision.kv,
        }
        if s.decoding:
            cost = decode_attention(s.sequences, attended, **shape)
            return dataclasses.replace(cost, weight_bytes=sinks)
        length = s.query_len
        cost = prefill_attention(
            s.sequences, length, pairs=pairs[span](b, length), cache_bytes=s.cache, **shape
        )
        return dataclasses.replace(cost, weight_bytes=sinks)

    def weights(b: Block) -> tuple[Tensor, ...]:
        return (_vector(b.sinks * b.heads, "split"),)

    return Operator(cost, weights, engine="hidden", attention=attention)


def _latent_attention_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    heads, p = b.heads / s.tp, s.precision
    if s.decoding:
        return latent_decode_attention(
            s.sequences,
            attended,
            heads=heads,
            latent_dim=b.latent_dim,
            rotary_dim=b.rotary_dim,
            query_bytes=p.hidden,
            output_bytes=p.hidden,
            kv_bytes=p.kv,
        )
    return latent_prefill_attention(
        s.sequences,
        s.query_len,
        pairs=causal_pairs(s.query_len),
        heads=heads,
        key_dim=b.head_dim + b.rotary_dim,
        value_dim=b.value_dim,
        element_bytes=p.hidden,
        output_bytes=p.activation,
    )


def _latent_up_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return latent_up_projection(
        s.tokens,
        heads=b.heads / s.tp,
        latent_dim=b.latent_dim,
        key_dim=b.head_dim,
        value_dim=b.value_dim,
        absorbed=s.decoding,
        weight_bytes=s.precision.weight,
        element_bytes=s.precision.hidden,
    )


def _all_reduce_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return all_reduce(s.tokens, b.hidden_size, s.tp, element_bytes=s.precision.hidden)


def _residual_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return residual(s.tokens, b.hidden_size, element_bytes=s.precision.hidden)


def _activation(
    *, gated: bool, width: Callable[[Block], Scalar] = lambda b: b.ffn_size, routed: bool = False
) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return activation(
            _routed_rows(b, s) if routed else s.tokens,
            width(b) / (s.expert_tp if routed else s.tp),
            gated=gated,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.activation,
        )

    return Operator(cost)


def _routed_rows(b: Block, s: Step) -> Scalar:
    """Rows that the busiest GPU's experts work on. [count]"""
    share = s.layout.expert_imbalance / s.layout.ep
    return s.expert_tokens * b.experts_per_token * share


def _exchange(*, outputs: bool) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return expert_exchange(
            s.tokens,
            b.hidden_size,
            b.experts_per_token,
            dp_attention=s.layout.dp_attention,
            tp=s.tp,
            ep=s.layout.ep,
            element_bytes=s.precision.hidden if outputs else s.precision.activation,
        )

    return Operator(cost)


def _expert_cost(b: Block, s: Step, inner: Scalar, columns: Scalar, bias: Scalar) -> Cost:
    read = distinct_experts(s.expert_tokens, b.experts, b.experts_per_token) / s.layout.ep
    return expert_gemm(
        _routed_rows(b, s),
        inner,
        columns,
        experts_read=read,
        weight_bytes=s.precision.weight,
        input_bytes=s.precision.activation,
        output_bytes=s.precision.hidden,
        bias=bias,
    )


_HIDDEN_NORM = _norm(lambda b: b.hidden_size, feeds_linear=True)
_OUTPUT_NORM = _norm(lambda b: b.hidden_size, feeds_linear=False)
_ALL_REDUCE = Operator(_all_reduce_cost)
_RESIDUAL = Operator(_residual_cost)

OPERATORS: dict[str, Operator] = {
    "embedding": Operator(
        lambda b, s, _: embedding(
            s.tokens,
            b.embedding_size,
            weight_bytes=s.precision.hidden,
            output_bytes=s.precision.hidden,
        ),
        lambda b: (_matrix(b.vocab_size, b.embedding_size, role="hidden"),),
    ),
    "position_embedding": Operator(
        lambda b, s, _: position_embedding(
            s.tokens, b.hidden_size, element_bytes=s.precision.hidden
        ),
        lambda b: (_matrix(b.positions, b.hidden_size, "copied", role="hidden"),),
    ),
    "embedding_projection": Operator(
        lambda b, s, _: _unquantised(s, s.tokens, b.embedding_size, b.hidden_size),
        lambda b: (_matrix(b.embedding_size, b.hidden_size, "copied", role="hidden"),),
        engine="hidden",
    ),
    "embedding_norm": _OUTPUT_NORM,
    "attention_norm": _HIDDEN_NORM,
    "qkv_projection": Operator(_qkv_cost, _qkv_weights),
    "qk_norm": _qk_norm(lambda b: b.norm_vectors),
    "rotary": Operator(_rotary_cost),
    "kv_cache_append": Operator(_kv_cache_append_cost),
    "attention": _attention("all"),
    "windowed_attention": _attention("window"),
    "chunked_attention": _attention("chunk"),
    "qk_unit_norm": _qk_norm(lambda _: 0),
    "query_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, _query_width(b) / s.tp, bias=0.0),
        lambda b: (_matrix(_query_width(b), b.hidden_size),),
    ),
    "query_down_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, b.query_rank, bias=0.0),
        lambda b: (_matrix(b.query_rank, b.hidden_size, "copied"),),
    ),
    "query_norm": _norm(lambda b: b.query_rank, feeds_linear=True),
    "query_up_projection": Operator(
        lambda b, s, _: _linear(s, b.query_rank, _query_width(b) / s.tp, bias=0.0),
        lambda b: (_matrix(_query_width(b), b.query_rank),),
    ),
    "latent_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, b.latent_dim + b.rotary_dim, bias=0.0),
        lambda b: (_matrix(b.latent_dim + b.rotary_dim, b.hidden_size, "copied"),),
    ),
    "latent_norm": _norm(lambda b: b.latent_dim, feeds_linear=True),
    "latent_rotary": Operator(
        lambda b, s, _: rotary(
            s.tokens, b.heads / s.tp + 1, b.rotary_dim, element_bytes=s.precision.hidden
        )
    ),
    "latent_cache_append": Operator(
        lambda b, s, _: kv_cache_append(
            s.tokens,
            b.latent_dim + b.rotary_dim,
            input_bytes=s.precision.hidden,
            kv_bytes=s.precision.kv,
        )
    ),
    "latent_up_projection": Operator(
        _latent_up_cost,
        lambda b: (_matrix(b.heads * (b.head_dim + b.value_dim), b.latent_dim),),
    ),
    "latent_attention": Operator(
        _latent_attention_cost,
        engine="hidden",
        attention=Attention(lambda b, _: b.latent_dim + b.rotary_dim),
    ),
    "latent_output_projection": Operator(
        lambda b, s, _: _linear(s, b.heads * b.value_dim / s.tp, b.hidden_size, bias=0.0),
        lambda b: (_matrix(b.hidden_size, b.heads * b.value_dim),),
    ),
    "output_projection": Operator(
        lambda b, s, _: _linear(s, b.heads * b.head_dim / s.tp, b.hidden_size, bias=b.output_bias),
        lambda b: (
            _matrix(b.hidden_size, b.heads * b.head_dim),
            _vector(b.output_bias * b.hidden_size),
        ),
    ),
    "attention_all_reduce": _ALL_REDUCE,
    "attention_output_norm": _OUTPUT_NORM,
    "attention_residual": _RESIDUAL,
    "ffn_norm": _HIDDEN_NORM,
    "up_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            _matrix(b.ffn_size, b.hidden_size),
            _vector(b.ffn_bias * b.ffn_size, "split"),
        ),
    ),
    "activation": _activation(gated=False),
    "gate_up_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, 2 * b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            _matrix(2 * b.ffn_size, b.hidden_size),
            _vector(b.ffn_bias * 2 * b.ffn_size, "split"),
        ),
    ),
    "gated_activation": _activation(gated=True),
    "down_projection": Operator(
        lambda b, s, _: _linear(s, b.ffn_size / s.tp, b.hidden_size, bias=b.ffn_bias),
        lambda b: (_matrix(b.hidden_size, b.ffn_size), _vector(b.ffn_bias * b.hidden_size)),
    ),
    "router": Operator(
        lambda b, s, _: _unquantised(
            s, s.tokens, b.hidden_size, b.experts, bias=b.expert_bias + b.router_bias
        ),
        lambda b: (
            _matrix(b.experts, b.hidden_size, "copied", role="hidden"),
            _vector((b.expert_bias + b.router_bias) * b.experts),
        ),
        engine="hidden",
    ),
    "expert_gate_up_projection": Operator(
        lambda b, s, _: _expert_cost(
            b, s, b.hidden_size, 2 * b.ffn_size / s.expert_tp, b.expert_bias
        ),
        lambda b: (
            _experts(b, 2 * b.ffn_size, b.hidden_size),
            _expert_biases(b, 2 * b.ffn_size),
        ),
    ),
    "expert_gated_activation": _activation(gated=True, routed=True),
    "expert_down_projection": Operator(
        lambda b, s, _: _expert_cost(
            b, s, b.ffn_size / s.expert_tp, b.hidden_size, b.expert_bias / s.expert_tp
        ),
        lambda b: (
            _experts(b, b.hidden_size, b.ffn_size),
            _expert_biases(b, b.hidden_size),
        ),
    ),
    "shared_gate_up_projection": Operator(
        lambda b, s, _: _linear(s, b.hidden_size, 2 * b.shared_size / s.tp, bias=0.0),
        lambda b: (_matrix(2 * b.shared_size, b.hidden_size),),
    ),
    "shared_gated_activation": _activation(gated=True, width=lambda b: b.shared_size),
    "shared_down_projection": Operator(
        lambda b, s, _: _linear(s, b.shared_size / s.tp, b.hidden_size, bias=0.0),
        lambda b: (_matrix(b.hidden_size, b.shared_size),),
    ),
    "expert_dispatch": _exchange(outputs=False),
    "expert_return": _exchange(outputs=True),
    "expert_combine": Operator(
        lambda b, s, _: expert_combine(
            s.tokens, b.hidden_size, b.experts_per_token, element_bytes=s.precision.hidden
        )
    ),
    "ffn_all_reduce": _ALL_REDUCE,
    "ffn_output_norm": _OUTPUT_NORM,
    "ffn_residual": _RESIDUAL,
    "layer_all_reduce": _ALL_REDUCE,
    "pipeline_send": Operator(
        lambda b, s, _: pipeline_send(
            s.tokens,
            b.hidden_size,
            pp=s.layout.pp,
            tp=s.tp,
            span=s.layout.gpus,
            element_bytes=s.precision.hidden,
        )
    ),
    "final_norm": _norm(lambda b: b.hidden_size, feeds_linear=False),
    "head_projection": Operator(
        lambda b, s, _: _unquantised(s, s.sequences, b.hidden_size, b.embedding_size),
        lambda b: (_matrix(b.hidden_size, b.embedding_size, "copied", role="hidden"),),
        engine="hidden",
    ),
    "lm_head": Operator(
        _lm_head_cost,
        lambda b: (
            _matrix(b.untied * b.vocab_size, b.embedding_size, role="head"),
            _vector(b.head_bias * b.vocab_size, "split"),
        ),
        engine="head",
    ),
    "sampling": Operator(
        lambda b, s, _: sampling(s.sequences, b.vocab_size / s.tp, element_bytes=s.precision.hidden)
    ),
}


def tensors(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, Tensor]]:
    """Every weight that a layer of each block stores; the blocks' sizes are integers."""
    for block in blocks:
        for name in block.operators:
            for tensor in OPERATORS[name].weights(block):
                yield block, tensor


def attentions(block: Block) -> list[Attention]:
    """How the operators of `block` that attend to the context do so."""
    found = (OPERATORS[name].attention for name in block.operators)
    return [attention for attention in found if attention is not None]


def operator_names(model: Model) -> tuple[str, ...]:
    """Names of the operators a model runs, in the order they first run."""
    return tuple(dict.fromkeys(name for block in model.blocks for name in block.operators))
