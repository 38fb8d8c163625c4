"""Looking up token and position embeddings."""

from sweep.kernel.operators.cost import Cost, Scalar


def embedding(tokens: Scalar, width: Scalar, *, weight_bytes: Scalar, output_bytes: Scalar) -> Cost:
    """Cost of gathering one row of the table per token.

    Args:
        tokens: Tokens in the step. [count]
        width: Elements of a row. [count]
        weight_bytes: Storage of one table element. [byte]
        output_bytes: Storage of one output element. [byte]
    """
    return Cost(
        weight_bytes=tokens * (width * weight_bytes),
        activation_bytes=tokens * (width * output_bytes),
    )


def position_embedding(tokens: Scalar, width: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of adding one row of a learned position table to each token.

    Args:
        tokens: Tokens in the step. [count]
        width: Elements of a row. [count]
        element_bytes: Storage of one element. [byte]
    """
    return Cost(
        vector_flops=tokens * (1.0 * width),
        weight_bytes=tokens * (width * element_bytes),
        activation_bytes=tokens * (2 * width * element_bytes),
    )
