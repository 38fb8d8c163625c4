"""Binds the sizes of a block to the operators it runs, and tells the weights each operator keeps.

A family's list of operators stands in `families/`; the formulas stand in `operators/`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import equinox as eqx
import jax.numpy as jnp

from sweep.architecture import Block
from sweep.operators.activation import activation
from sweep.operators.all_reduce import all_reduce
from sweep.operators.attention import decode_attention, prefill_attention
from sweep.operators.cost import Cost, Scalar
from sweep.operators.embedding import embedding, position_embedding
from sweep.operators.experts import expert_combine, expert_gemm
from sweep.operators.gemm import gemm
from sweep.operators.kv_cache import kv_cache_append
from sweep.operators.norm import norm
from sweep.operators.residual import residual
from sweep.operators.rotary import rotary
from sweep.operators.sampling import sampling
from sweep.params import Model, Precision

Engine = Literal["linear", "hidden", "head"]


class Step(eqx.Module):
    """One pass through the model on each GPU of a tensor-parallel group.

    Attributes:
        decoding: Whether each sequence adds one token; else it is a whole prompt.
        sequences: Sequences in the batch. [count]
        query_len: New tokens of each. [count]
        tp: GPUs that share each layer. [count]
        precision: Storage types.
        cache: On-chip cache. [byte]
    """

    decoding: bool = eqx.field(static=True)
    sequences: Scalar
    query_len: Scalar
    tp: Scalar
    precision: Precision
    cache: Scalar

    @property
    def tokens(self) -> Scalar:
        """New tokens of the whole batch. [count]"""
        return self.sequences * self.query_len


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
class Operator:
    """An operator as a block runs it.

    Attributes:
        cost: Its cost at a block's sizes, a step, and the context each sequence attends to.
        weights: The tensors it keeps.
        engine: Whose operand types set the rate of its matrix FLOPs; attention computes in the
            type of the residual stream whatever the cache stores.
        grows: Whether its cost depends on the context.
    """

    cost: Callable[[Block, Step, Scalar], Cost]
    weights: Callable[[Block], tuple[Tensor, ...]] = _no_weights
    engine: Engine = "linear"
    grows: bool = False


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


def _unquantised(step: Step, rows: Scalar, inner: Scalar, columns: Scalar) -> Cost:
    hidden = step.precision.hidden
    return gemm(rows, inner, columns, weight_bytes=hidden, input_bytes=hidden, output_bytes=hidden)


def _lm_head_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return gemm(
        s.sequences,
        b.embedding_size,
        b.vocab_size / s.tp,
        weight_bytes=s.precision.head,
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
    return Tensor((experts, int(rows), int(columns)), expert_choice=(used, experts))


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


def _qk_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return norm(
        s.tokens * (b.heads / s.tp + kv_heads_per_gpu(b, s.tp)),
        b.head_dim,
        vectors=b.norm_vectors,
        input_bytes=s.precision.hidden,
        output_bytes=s.precision.hidden,
    )


def _rotary_cost(b: Block, s: Step, _: Scalar) -> Cost:
    heads = b.heads / s.tp + kv_heads_per_gpu(b, s.tp)
    return rotary(s.tokens, heads, b.rotary_dim, element_bytes=s.precision.hidden)


def _kv_cache_append_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return kv_cache_append(
        s.tokens,
        kv_heads_per_gpu(b, s.tp),
        b.head_dim,
        input_bytes=s.precision.hidden,
        kv_bytes=s.precision.kv,
    )


def _attention_cost(b: Block, s: Step, context: Scalar, window: Scalar | None = None) -> Cost:
    heads, kv_heads = b.heads / s.tp, kv_heads_per_gpu(b, s.tp)
    p = s.precision
    if s.decoding:
        return decode_attention(
            s.sequences,
            context,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=b.head_dim,
            query_bytes=p.hidden,
            output_bytes=p.activation,
            kv_bytes=p.kv,
        )
    return prefill_attention(
        s.sequences,
        s.query_len,
        window=window,
        cache_bytes=s.cache,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=b.head_dim,
        query_bytes=p.hidden,
        output_bytes=p.activation,
        kv_bytes=p.kv,
    )


def _all_reduce_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return all_reduce(s.tokens, b.hidden_size, s.tp, element_bytes=s.precision.hidden)


def _residual_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return residual(s.tokens, b.hidden_size, element_bytes=s.precision.hidden)


def _activation(*, gated: bool, routed: bool = False) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return activation(
            s.tokens * b.experts_per_token if routed else s.tokens,
            b.ffn_size / s.tp,
            gated=gated,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.activation,
        )

    return Operator(cost)


def _expert_cost(b: Block, s: Step, inner: Scalar, columns: Scalar) -> Cost:
    return expert_gemm(
        s.tokens,
        inner,
        columns,
        experts=b.experts,
        experts_per_token=b.experts_per_token,
        weight_bytes=s.precision.weight,
        input_bytes=s.precision.activation,
        output_bytes=s.precision.hidden,
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
    "qk_norm": Operator(_qk_norm_cost, lambda b: (_vector(2 * b.norm_vectors * b.head_dim),)),
    "rotary": Operator(_rotary_cost),
    "kv_cache_append": Operator(_kv_cache_append_cost),
    "attention": Operator(_attention_cost, engine="hidden", grows=True),
    "windowed_attention": Operator(
        lambda b, s, context: _attention_cost(b, s, jnp.minimum(context, b.window), b.window),
        engine="hidden",
        grows=True,
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
        lambda b, s, _: _unquantised(s, s.tokens, b.hidden_size, b.experts),
        lambda b: (_matrix(b.experts, b.hidden_size, "copied", role="hidden"),),
        engine="hidden",
    ),
    "expert_gate_up_projection": Operator(
        lambda b, s, _: _expert_cost(b, s, b.hidden_size, 2 * b.ffn_size / s.tp),
        lambda b: (_experts(b, 2 * b.ffn_size, b.hidden_size),),
    ),
    "expert_gated_activation": _activation(gated=True, routed=True),
    "expert_down_projection": Operator(
        lambda b, s, _: _expert_cost(b, s, b.ffn_size / s.tp, b.hidden_size),
        lambda b: (_experts(b, b.hidden_size, b.ffn_size),),
    ),
    "expert_combine": Operator(
        lambda b, s, _: expert_combine(
            s.tokens, b.hidden_size, b.experts_per_token, element_bytes=s.precision.hidden
        )
    ),
    "ffn_all_reduce": _ALL_REDUCE,
    "ffn_output_norm": _OUTPUT_NORM,
    "ffn_residual": _RESIDUAL,
    "layer_all_reduce": _ALL_REDUCE,
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


def tensors(blocks: tuple[Block, ...]) -> Iterator[tuple[int, Tensor]]:
    """Every stored weight of a model given in integers, with the number of layers that have it."""
    for block in blocks:
        for name in block.operators:
            for tensor in OPERATORS[name].weights(block):
                yield int(block.count), tensor


def operator_names(model: Model) -> tuple[str, ...]:
    """Names of the operators a model runs, in the order they first run."""
    return tuple(dict.fromkeys(name for block in model.blocks for name in block.operators))
