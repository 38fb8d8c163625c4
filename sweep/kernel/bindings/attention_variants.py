"""Parts that some models add to attention: gates, wider norms, values narrower than keys."""

import dataclasses
import operator

import jax

from sweep.kernel.bindings.attention import ATTENTION
from sweep.kernel.bindings.common import kv_heads_per_gpu, linear, matrix, vector
from sweep.kernel.bindings.operator import Attention, Operator, Span, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.kv_cache import kv_cache_append
from sweep.kernel.operators.norm import norm


def _norm_of_width(s: Step, rows: Scalar, width: Scalar) -> Cost:
    hidden = s.precision.hidden
    return norm(rows, width, vectors=1, input_bytes=hidden, output_bytes=hidden)


def _qk_width_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    queries = _norm_of_width(s, s.tokens, b.heads / s.tp * b.head_dim)
    keys = _norm_of_width(s, s.tokens, kv_heads_per_gpu(b, s.tp) * b.head_dim)
    both: Cost = jax.tree.map(operator.add, queries, keys)
    return both


def _output_width(b: Block) -> Scalar:
    return b.heads * b.head_dim


def _gate_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return activation(
        s.tokens,
        _output_width(b) / s.tp,
        gated=True,
        input_bytes=s.precision.hidden,
        output_bytes=s.precision.attention.activation,
    )


def _mean_width(b: Block) -> Block:
    """The block with heads as wide as the mean of a key and a value."""
    return dataclasses.replace(b, head_dim=(b.head_dim + b.value_dim) / 2)


def _values_only(b: Block) -> Block:
    """The block with heads as wide as their values."""
    return dataclasses.replace(b, head_dim=b.value_dim)


def _uneven_attention(span: Span) -> Operator:
    plain = ATTENTION["attention" if span == "all" else "windowed_attention"]

    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        found = plain.cost(_mean_width(b), s, attended)
        outputs = s.precision.attention.activation
        rows = s.sequences if s.decoding else s.sequences * s.query_len
        moved = rows * b.heads / s.tp * (b.head_dim * s.precision.hidden + b.value_dim * outputs)
        return dataclasses.replace(found, activation_bytes=moved)

    attention = Attention(lambda b, tp: kv_heads_per_gpu(b, tp) * (b.head_dim + b.value_dim), span)
    return Operator(cost, plain.weights, attention=attention)


def _uneven_qkv_cost(b: Block, s: Step, _: Scalar) -> Cost:
    keys_and_values = kv_heads_per_gpu(b, s.tp) * (b.head_dim + b.value_dim)
    columns = b.heads / s.tp * b.head_dim + keys_and_values
    return linear(s, "attention", b.hidden_size, columns, bias=b.qkv_bias)


def _uneven_qkv_weights(b: Block) -> tuple[Tensor, ...]:
    queries, both = b.heads * b.head_dim, b.kv_heads * (b.head_dim + b.value_dim)
    return (
        matrix("attention", queries, b.hidden_size),
        matrix("attention", both, b.hidden_size, "kv_heads"),
        vector(b.qkv_bias * queries, "split"),
        vector(b.qkv_bias * both, "kv_heads"),
    )


def _uneven_cache_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return kv_cache_append(
        s.tokens,
        kv_heads_per_gpu(b, s.tp) * (b.head_dim + b.value_dim),
        input_bytes=s.precision.hidden,
        kv_bytes=s.precision.kv,
    )


ATTENTION_VARIANTS: dict[str, Operator] = {
    "qk_width_norm": Operator(
        _qk_width_norm_cost,
        lambda b: (
            vector(b.heads * b.head_dim, "split"),
            vector(b.kv_heads * b.head_dim, "kv_heads"),
        ),
    ),
    "attention_gate_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.hidden_size, b.gate_size / s.tp),
        lambda b: (matrix("attention", b.gate_size, b.hidden_size),),
        role="attention",
    ),
    "attention_gate": Operator(_gate_cost),
    "latent_gate": Operator(lambda b, s, c: _gate_cost(_values_only(b), s, c)),
    "attention_inner_norm": Operator(
        lambda b, s, _: _norm_of_width(s, s.tokens, _output_width(b) / s.tp),
        lambda b: (vector(_output_width(b), "split"),),
    ),
    "uneven_qkv_projection": Operator(_uneven_qkv_cost, _uneven_qkv_weights, role="attention"),
    "uneven_kv_cache_append": Operator(_uneven_cache_cost),
    "uneven_attention": _uneven_attention("all"),
    "windowed_uneven_attention": _uneven_attention("window"),
    "uneven_output_projection": Operator(
        lambda b, s, _: linear(
            s, "attention", b.heads * b.value_dim / s.tp, b.hidden_size, bias=b.output_bias
        ),
        lambda b: (
            matrix("attention", b.hidden_size, b.heads * b.value_dim),
            vector(b.output_bias * b.hidden_size),
        ),
        role="attention",
    ),
}
