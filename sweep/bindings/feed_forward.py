"""The feed-forward, plain or gated, and what surrounds it."""

from sweep.bindings.base import Operator
from sweep.bindings.pieces import (
    ALL_REDUCE,
    HIDDEN_NORM,
    OUTPUT_NORM,
    RESIDUAL,
    activation_of,
    linear,
    matrix,
    vector,
)

FEED_FORWARD: dict[str, Operator] = {
    "ffn_norm": HIDDEN_NORM,
    "up_projection": Operator(
        lambda b, s, _: linear(s, b.hidden_size, b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            matrix(b.ffn_size, b.hidden_size),
            vector(b.ffn_bias * b.ffn_size, "split"),
        ),
    ),
    "activation": activation_of(gated=False),
    "gate_up_projection": Operator(
        lambda b, s, _: linear(s, b.hidden_size, 2 * b.ffn_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            matrix(2 * b.ffn_size, b.hidden_size),
            vector(b.ffn_bias * 2 * b.ffn_size, "split"),
        ),
    ),
    "gated_activation": activation_of(gated=True),
    "down_projection": Operator(
        lambda b, s, _: linear(s, b.ffn_size / s.tp, b.hidden_size, bias=b.ffn_bias),
        lambda b: (matrix(b.hidden_size, b.ffn_size), vector(b.ffn_bias * b.hidden_size)),
    ),
    "ffn_all_reduce": ALL_REDUCE,
    "ffn_output_norm": OUTPUT_NORM,
    "ffn_residual": RESIDUAL,
    "layer_all_reduce": ALL_REDUCE,
}
