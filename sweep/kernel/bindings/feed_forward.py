"""The feed-forward, plain or gated, and what surrounds it."""

import dataclasses

from sweep.kernel.bindings.common import (
    ALL_REDUCE,
    OUTPUT_NORM,
    RESIDUAL,
    activation_of,
    hidden_norm,
    linear,
    matrix,
    vector,
)
from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.norm import norm

PLAIN_ACTIVATION = activation_of(gated=False)


def _learned_activation_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    """Cost of an activation with two parameters of its own, as xIELU has."""
    found = PLAIN_ACTIVATION.cost(b, s, attended)
    return dataclasses.replace(found, weight_bytes=2 * s.precision.hidden)


FEED_FORWARD: dict[str, Operator] = {
    "ffn_norm": hidden_norm("ffn"),
    "up_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.hidden_size, b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", b.ffn_size, b.hidden_size),
            vector(b.ffn_bias * b.ffn_size, "split"),
        ),
        role="ffn",
    ),
    "activation": PLAIN_ACTIVATION,
    "learned_activation": Operator(_learned_activation_cost, lambda _: (vector(2),)),
    "ffn_inner_norm": Operator(
        lambda b, s, _: norm(
            s.tokens,
            b.ffn_size / s.tp,
            vectors=1,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.ffn.activation,
        ),
        lambda b: (vector(b.ffn_size, "split"),),
    ),
    "gate_up_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.hidden_size, 2 * b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", 2 * b.ffn_size, b.hidden_size),
            vector(b.ffn_bias * 2 * b.ffn_size, "split"),
        ),
        role="ffn",
    ),
    "gated_activation": activation_of(gated=True),
    "down_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.ffn_size / s.tp, b.hidden_size, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", b.hidden_size, b.ffn_size),
            vector(b.ffn_bias * b.hidden_size),
        ),
        role="ffn",
    ),
    "ffn_all_reduce": ALL_REDUCE,
    "ffn_output_norm": OUTPUT_NORM,
    "ffn_residual": RESIDUAL,
    "layer_all_reduce": ALL_REDUCE,
}
