"""The feed-forward's non-linearity, alone or gating a second projection."""

from sweep.kernel.operators.cost import Cost, Scalar

SIGMOID_FLOPS = 4
"""Element-wise FLOPs of a SiLU or GELU in addition to its exponential and reciprocal."""


def activation(
    rows: Scalar, width: Scalar, *, gated: bool, input_bytes: Scalar, output_bytes: Scalar
) -> Cost:
    """Cost of the non-linearity over `rows × width` outputs.

    A gated unit [1] reads two projections, multiplies one by the activated other, and so
    reads twice as much as it writes.

    Args:
        rows: Tokens, or tokens times experts each visits. [count]
        width: Feed-forward width on this GPU. [count]
        gated: Whether a second projection is gated.
        input_bytes: Storage of one projected element. [byte]
        output_bytes: Storage of one output element. [byte]

    References:
        [1] Shazeer, "GLU variants improve transformer", arXiv 2002.05202, 2020.
    """
    inputs = 2 if gated else 1
    return Cost(
        vector_flops=rows * ((SIGMOID_FLOPS + inputs - 1) * width),
        special_ops=rows * (2 * width),
        activation_bytes=rows * (width * (inputs * input_bytes + output_bytes)),
    )
