"""The global roofline: one arithmetic intensity stands for a whole decode step.

Transformer layers only; operations over parameter bytes and KV-cache bytes, activations left
out. A mixture of experts counts the parameters of all experts and the operations of those a
token is routed to. Tensor parallelism divides both sides and leaves the intensity as it is.
"""

import jax.numpy as jnp

from sweep.architecture import Block
from sweep.operators.cost import Scalar
from sweep.params import Point
from sweep.roofline import peak_rate


def step_flops(point: Point) -> Scalar:
    """Operations of one decode step in the transformer layers of all GPUs. [count]

    Two for each parameter a token uses, and four per query head, head element and context
    token for attention.
    """
    per_sequence = jnp.zeros(())
    for block, context in _layers(point):
        experts_used = _ffn_parameters(block) * jnp.maximum(block.experts_per_token, 1.0)
        parameters = _attention_parameters(block) + experts_used
        scores = 4 * block.heads * block.head_dim * context
        per_sequence = per_sequence + block.count * (2 * parameters + scores)
    return point.batch_size * per_sequence


def step_bytes(point: Point) -> Scalar:
    """Parameters and KV cache that one decode step reads, on all GPUs. [byte]"""
    total = jnp.zeros(())
    for block, context in _layers(point):
        experts_kept = _ffn_parameters(block) * jnp.maximum(block.experts, 1.0)
        parameters = _attention_parameters(block) + experts_kept
        cache = 2 * block.kv_heads * block.head_dim * context * point.batch_size
        total = total + block.count * (
            parameters * point.precision.weight + cache * point.precision.kv
        )
    return total


def arithmetic_intensity(point: Point) -> Scalar:
    """Operations per byte of one decode step. [FLOP/byte]"""
    return step_flops(point) / step_bytes(point)


def attainable_flops(point: Point) -> Scalar:
    """The lower of the peak and intensity times bandwidth, of one GPU. [FLOP/s]"""
    peak = peak_rate(point.hardware, point.precision.linear_peak)
    return jnp.minimum(peak, arithmetic_intensity(point) * point.hardware.bandwidth)


def step_latency(point: Point) -> Scalar:
    """Time of one decode step at the attainable rate. [s]"""
    return step_flops(point) / point.tp / attainable_flops(point)


def _layers(point: Point) -> list[tuple[Block, Scalar]]:
    """Transformer layers, each kind with the tokens it attends to."""
    context_len = point.length("context_len")
    return [
        (
            block,
            jnp.minimum(context_len, block.window)
            if "windowed_attention" in block.operators
            else context_len,
        )
        for block in point.model.blocks
        if block.in_transformer
    ]


def _attention_parameters(block: Block) -> Scalar:
    return block.hidden_size * block.head_dim * 2 * (block.heads + block.kv_heads)


def _ffn_parameters(block: Block) -> Scalar:
    """Parameters of one feed-forward, or of one expert: three matrices if gated, else two."""
    gated = any("gate_up" in name for name in block.operators)
    return (3 if gated else 2) * block.hidden_size * block.ffn_size
