"""The global roofline: one arithmetic intensity for a whole decode step.

Transformer layers only; operations over parameter bytes and KV-cache bytes, activations left
out, as if one GPU held everything: tensor parallelism divides both sides and leaves the
intensity as it is. A mixture of experts counts the parameters of all experts and the operations
of those a token is routed to.
"""

from collections.abc import Iterator

import jax.numpy as jnp

from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Layout, Point
from sweep.kernel.roofline import peak_rate
from sweep.schema.terms import PARTS


def step_flops(point: Point) -> Scalar:
    """Operations of one decode step in the transformer layers of all GPUs. [count]

    Two for each parameter a token uses, and those of attention and of states.
    """
    step = _step(point)
    total = (
        2 * point.length("batch_size") * jnp.sum(jnp.asarray(point.model.active_layer_parameters))
    )
    for block, operator, attended in _attentions(point):
        total = total + block.count * operator.cost(block, step, attended).tensor_flops
    for block, operator in _states(point):
        total = total + block.count * operator.cost(block, step, 1.0).flops
    return total


def step_bytes(point: Point) -> Scalar:
    """Parameters, KV cache and states that one decode step moves, on all GPUs. [byte]"""
    step = _step(point)
    storage = jnp.stack([jnp.asarray(point.precision.part(part).weight) for part in PARTS])
    total = jnp.sum(point.model.layer_parameters * storage)
    for block, operator, attended in _attentions(point):
        total = total + block.count * operator.cost(block, step, attended).kv_bytes
    for block, operator in _states(point):
        total = total + block.count * operator.cost(block, step, 1.0).kv_bytes
    return total


def arithmetic_intensity(point: Point) -> Scalar:
    """Operations per byte of one decode step. [FLOP/byte]"""
    return step_flops(point) / step_bytes(point)


def attainable_flops(point: Point) -> Scalar:
    """The lower of the peak and intensity times bandwidth, of one GPU. [FLOP/s]"""
    return jnp.minimum(_peak(point), arithmetic_intensity(point) * point.hardware.bandwidth)


def step_latency(point: Point) -> Scalar:
    """Time of one decode step at the attainable rate. [s]"""
    return step_flops(point) / point.layout.gpus / attainable_flops(point)


def _peak(point: Point) -> Scalar:
    """Rate at which the linear layers compute, parts weighted by their operations. [FLOP/s]"""
    active = jnp.asarray(point.model.active_layer_parameters)
    peaks = [peak_rate(point.hardware, point.precision.peak(part)) for part in PARTS]
    return jnp.sum(active) / jnp.sum(active / jnp.stack(peaks))


def _attentions(point: Point) -> Iterator[tuple[Block, Operator, Scalar]]:
    """Attention of each kind of layer, with the tokens it attends to."""
    context_len = point.length("context_len")
    for block in point.model.blocks:
        for name in block.operators:
            operator = OPERATORS[name]
            if operator.attention is not None:
                yield block, operator, operator.attention.reach(block, context_len)


def _states(point: Point) -> Iterator[tuple[Block, Operator]]:
    """Operators of each kind of layer that keep a state of fixed size."""
    for block in point.model.blocks:
        for name in block.operators:
            if OPERATORS[name].state is not None:
                yield block, OPERATORS[name]


def _step(point: Point) -> Step:
    return Step(
        decoding=True,
        sequences=point.length("batch_size"),
        query_len=1.0,
        layout=Layout(),
        precision=point.precision,
        cache=point.hardware.cache,
    )
