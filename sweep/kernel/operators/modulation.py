"""Modulation: norms and residuals that the condition of an image scales, shifts and gates."""

from sweep.kernel.operators.cost import Cost, Scalar


def modulated_norm(
    tokens: Scalar, width: Scalar, *, input_bytes: Scalar, output_bytes: Scalar
) -> Cost:
    """Cost of a LayerNorm without weights of its own, scaled and shifted by the image's vectors.

    The mean and the variance take four FLOPs per element, scale and shift three more [1]. The
    vectors, two for each image, stay on the chip.

    Args:
        tokens: Tokens in the step. [count]
        width: Width of the residual stream. [count]
        input_bytes: Storage of one input element. [byte]
        output_bytes: Storage of one output element. [byte]

    References:
        [1] Peebles, Xie, "Scalable diffusion models with transformers", ICCV 2023, adaLN-Zero.
    """
    return Cost(
        vector_flops=tokens * (7 * width),
        special_ops=1.0 * tokens,
        activation_bytes=tokens * (width * (input_bytes + output_bytes)),
    )


def gated_residual(tokens: Scalar, width: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of adding a half's output to the residual stream, weighed by the image's gate.

    Args:
        tokens: Tokens in the step. [count]
        width: Width of the residual stream. [count]
        element_bytes: Storage of one element. [byte]
    """
    return Cost(
        vector_flops=tokens * (2 * width), activation_bytes=tokens * (3 * width * element_bytes)
    )
