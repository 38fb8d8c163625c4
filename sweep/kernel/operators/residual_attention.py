"""Attention over the outputs of earlier layers, in place of their plain sum."""

from sweep.kernel.operators.cost import Cost, Scalar


def residual_attention(
    tokens: Scalar, hidden_size: Scalar, sources: Scalar, *, element_bytes: Scalar
) -> Cost:
    """Cost of the sum of `sources` vectors, weighed by a softmax of products with a learned query.

    Each source is normalised (four FLOPs an element), multiplied with the query (two) and added
    (two) [1]. Sources are read once; the query and the weights of the norm are two vectors.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of the residual stream. [count]
        sources: Earlier outputs, with the embedding. [count]
        element_bytes: Storage of one element. [byte]

    References:
        [1] Kimi Team, "Attention residuals", arXiv 2603.15031, 2026.
    """
    return Cost(
        vector_flops=tokens * (8 * sources * hidden_size),
        special_ops=tokens * (2 * sources),
        weight_bytes=2 * hidden_size * element_bytes,
        activation_bytes=tokens * ((sources + 1) * hidden_size * element_bytes),
    )
