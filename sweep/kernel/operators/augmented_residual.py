"""Alternating updates: several copies of the residual stream around a layer that runs on one."""

from sweep.kernel.operators.cost import Cost, Scalar

TANH_OPS = 2
"""Exponential and reciprocal of a hyperbolic tangent. [count]"""
NORM_FLOPS = 4
"""Element-wise FLOPs of an RMSNorm for one element. [count]"""


def altup_predict(
    tokens: Scalar, hidden_size: Scalar, streams: Scalar, *, element_bytes: Scalar
) -> Cost:
    """Cost of predicting every stream after a layer from all of them before it [1].

    The active stream is normalised and projected to one number per stream, these to n × n
    coefficients, with which each stream becomes itself and a weighted sum of all. For 4 streams of
    2048 the sums of a token take 2·4²·2048 + 4·2048 = 73728 element-wise FLOPs, and 16-bit
    streams move 2·4·2048·2 = 32768 bytes.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of one stream. [count]
        streams: Streams n. [count]
        element_bytes: Storage of one element, weights included. [byte]

    References:
        [1] Baykal et al., "Alternating updates for efficient transformers", NeurIPS 2023.
    """
    weights = streams * hidden_size + streams**3
    sums = 2 * streams**2 * hidden_size + streams * hidden_size
    return Cost(
        tensor_flops=2 * tokens * weights,
        row_flops=2 * weights,
        vector_flops=tokens * (NORM_FLOPS * hidden_size + sums),
        special_ops=tokens * (1 + TANH_OPS * streams),
        weight_bytes=(hidden_size + weights) * element_bytes,
        activation_bytes=2 * tokens * streams * hidden_size * element_bytes,
    )


def altup_correct(
    tokens: Scalar, hidden_size: Scalar, streams: Scalar, *, element_bytes: Scalar
) -> Cost:
    """Cost of correcting every predicted stream by what the layer changed in the active one [1].

    The layer's output gives one coefficient per stream; each stream adds the difference between
    output and prediction, times its coefficient. The active stream is then scaled element by
    element.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of one stream. [count]
        streams: Streams n. [count]
        element_bytes: Storage of one element, weights included. [byte]

    References:
        [1] Baykal et al., "Alternating updates for efficient transformers", NeurIPS 2023.
    """
    weights = streams * hidden_size + streams**2
    sums = (2 + 2 * streams) * hidden_size
    return Cost(
        tensor_flops=2 * tokens * weights,
        row_flops=2 * weights,
        vector_flops=tokens * (NORM_FLOPS * hidden_size + sums),
        special_ops=tokens * (1 + TANH_OPS * streams),
        weight_bytes=(2 * hidden_size + weights) * element_bytes,
        activation_bytes=tokens * (2 * streams + 1) * hidden_size * element_bytes,
    )
