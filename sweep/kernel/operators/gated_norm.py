"""A norm whose output a second input gates."""

from sweep.kernel.operators.cost import Cost, Scalar

NORM_FLOPS = 4
"""Element-wise FLOPs of RMSNorm for each element."""
GATE_FLOPS = 5
"""Element-wise FLOPs of a SiLU and of the product with it, but its two special operations."""


def gated_norm(
    rows: Scalar, width: Scalar, *, weights: Scalar, input_bytes: Scalar, output_bytes: Scalar
) -> Cost:
    """Cost of normalising `rows` vectors of `width` elements, each times the SiLU of a gate [1].

    Args:
        rows: Vectors to normalise. [count]
        width: Elements of each. [count]
        weights: Weights kept, which rows may share. [count]
        input_bytes: Storage of one input, gate or weight. [byte]
        output_bytes: Storage of one output element. [byte]

    References:
        [1] Dao, Gu, "Transformers are SSMs", ICML 2024, section 7.
    """
    return Cost(
        vector_flops=rows * ((NORM_FLOPS + GATE_FLOPS) * width),
        special_ops=rows * (1 + 2 * width),
        weight_bytes=weights * input_bytes,
        activation_bytes=rows * (width * (2 * input_bytes + output_bytes)),
    )
