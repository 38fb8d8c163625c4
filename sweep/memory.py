"""What a configuration keeps in device memory, and whether it can run at all."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from sweep.operators.cost import Scalar
from sweep.params import Point
from sweep.transformer import attentions, kv_heads_per_gpu
from sweep.variables import INFEASIBLE_REASONS


def weight_memory(point: Point) -> Scalar:
    """Weights on each GPU. [byte]

    Each weight is split over the tensor-parallel group, but keys' and values' only down to one
    KV head, and norms, biases of outputs and routers are copied.
    """
    tp, precision = point.tp, point.precision
    kv_heads = jnp.stack([jnp.asarray(b.kv_heads, float) for b in point.model.blocks]).max()
    storage = jnp.stack(
        [jnp.asarray(x) for x in (precision.weight, precision.head, precision.hidden)]
    )
    share = jnp.stack([1 / tp, jnp.maximum(1 / tp, 1 / kv_heads), jnp.ones_like(tp)])
    return jnp.sum(point.model.elements * storage[:, None] * share[None, :])


def kv_bytes_per_sequence(point: Point, tokens: Scalar) -> Scalar:
    """KV cache of one sequence of `tokens` tokens on each GPU. [byte]

    Windowed and chunked layers keep their window or chunk and no more.
    """
    total = jnp.zeros(())
    for block in point.model.blocks:
        for attention in attentions(block):
            elements = attention.cached(block, point.tp) * attention.kept(block, tokens)
            total = total + block.count * elements * point.precision.kv
    return total


def longest(point: Point) -> Scalar:
    """Tokens of a sequence at its longest: input and output, or else the context. [count]"""
    if point.isl is None:
        return point.length("context_len")
    return point.isl if point.osl is None else point.isl + point.osl


def kv_cache_memory(point: Point) -> Scalar:
    """KV cache of the whole batch at its longest on each GPU. [byte]"""
    return point.batch_size * kv_bytes_per_sequence(point, longest(point))


def activation_memory(point: Point) -> Scalar:
    """Widest moment of a step on each GPU. [byte]

    The residual stream, an operator's input and its output live together; the widest output
    is a fused projection's. At the end the logits of each sequence live beside the hidden state.
    """
    new_tokens = 1.0 if point.isl is None else point.isl
    tokens = point.batch_size * new_tokens
    width = jnp.zeros(())
    logits: Scalar = 0.0
    for block in point.model.blocks:
        heads = block.heads / point.tp + 2 * kv_heads_per_gpu(block, point.tp)
        routed = jnp.maximum(block.experts_per_token, 1.0)
        outputs = jnp.maximum(heads * block.head_dim, 2 * routed * block.ffn_size / point.tp)
        if block.in_transformer:
            width = jnp.maximum(width, 2 * block.hidden_size + outputs)
        if "lm_head" in block.operators:
            logits = point.batch_size * block.vocab_size / point.tp
    return jnp.maximum(tokens * width, logits) * point.precision.hidden


def memory_required(point: Point) -> Scalar:
    """Weights, KV cache and activations on each GPU. [byte]"""
    return weight_memory(point) + kv_cache_memory(point) + activation_memory(point)


def infeasible_reason(point: Point) -> Int[Array, ""]:
    """Sum of the bits of `variables.INFEASIBLE_REASONS` that hold; 0 if the point can run."""
    tp, group = point.tp, point.precision.group
    layers = [block for block in point.model.blocks if block.in_transformer]
    positions = sum(block.positions for block in point.model.blocks)

    def indivisible(size: Scalar, parts: Scalar) -> Array:
        return jnp.mod(size, parts) != 0

    def heads_split(kv_heads: Scalar) -> Array:
        return jnp.where(tp <= kv_heads, indivisible(kv_heads, tp), indivisible(tp, kv_heads))

    def splits_group(size: Scalar) -> Array:
        return (group > 0) & indivisible(size / tp, jnp.maximum(group, 1.0))

    def any_layer(*tests: Array) -> Array:
        return jnp.any(jnp.stack([jnp.asarray(test) for test in tests]))

    holds = {
        "exceeds_memory": memory_required(point) > point.hardware.memory,
        "tp_does_not_divide_heads": any_layer(
            *(indivisible(b.heads, tp) for b in layers), *(heads_split(b.kv_heads) for b in layers)
        ),
        "tp_does_not_divide_ffn": any_layer(*(indivisible(b.ffn_size, tp) for b in layers)),
        "tp_splits_quantisation_group": any_layer(
            *(splits_group(b.ffn_size) for b in layers),
            *(splits_group(b.heads * b.head_dim) for b in layers),
        ),
        "exceeds_learned_positions": (positions > 0) & (longest(point) > positions),
        "no_link_between_gpus": (tp > 1) & jnp.isinf(point.hardware.link),
    }
    return sum(
        (jnp.where(holds[name], bit, 0) for name, bit in INFEASIBLE_REASONS.items()),
        start=jnp.zeros((), int),
    )
