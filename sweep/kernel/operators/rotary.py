"""Rotary position embedding of queries and keys."""

from sweep.kernel.operators.cost import Cost, Scalar


def rotary(tokens: Scalar, heads: Scalar, rotary_dim: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of rotating `rotary_dim` elements of each head in place [1].

    A pair of elements takes four multiplications and two additions: three FLOPs an element.

    Args:
        tokens: Tokens in the step. [count]
        heads: Query and key heads on this GPU. [count]
        rotary_dim: Elements rotated in each head. [count]
        element_bytes: Storage of one element, read and written. [byte]

    References:
        [1] Su et al., "RoFormer", arXiv 2104.09864, 2021.
    """
    elements = heads * rotary_dim
    return Cost(
        vector_flops=tokens * (3 * elements),
        activation_bytes=tokens * (2 * elements * element_bytes),
    )
