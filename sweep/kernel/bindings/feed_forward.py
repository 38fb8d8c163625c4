"""The feed-forward, plain or gated, and what surrounds it."""

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
from sweep.kernel.bindings.operator import Operator

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
    "activation": activation_of(gated=False),
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
