"""Adding a block's output to the residual stream."""

from sweep.kernel.operators.cost import Cost, Scalar


def residual(tokens: Scalar, hidden_size: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of reading two vectors per token and writing their sum.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of the residual stream. [count]
        element_bytes: Storage of one element. [byte]
    """
    return Cost(
        vector_flops=tokens * (1.0 * hidden_size),
        activation_bytes=tokens * (3 * hidden_size * element_bytes),
    )
