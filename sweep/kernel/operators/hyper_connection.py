"""Hyper-connections: several residual streams, mixed before and after each half of a layer."""

from sweep.kernel.operators.cost import Cost, Scalar


def mixing_weights(streams: Scalar) -> Scalar:
    """Weights of one token: to collapse, to expand and to mix its streams. [count]"""
    return streams * (streams + 2)


def collapse(
    tokens: Scalar,
    hidden_size: Scalar,
    *,
    streams: Scalar,
    weights: Scalar,
    element_bytes: Scalar,
) -> Cost:
    """Cost of computing a token's mixing weights, and of one input from all streams.

    All streams of a token together are normalised and projected onto its weights [1, 2]; the
    streams are read once, since those of a token fit on the chip. The normalisation of the mixing
    matrix, of a few elements, is left out.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of one stream. [count]
        streams: Residual streams. [count]
        weights: Mixing weights of a token. [count]
        element_bytes: Storage of one element or weight. [byte]

    References:
        [1] Zhu et al., "Hyper-connections", ICLR 2025.
        [2] Xie et al., "mHC: manifold-constrained hyper-connections", arXiv 2512.24880, 2025.
    """
    width = streams * hidden_size
    return Cost(
        tensor_flops=2 * tokens * width * weights,
        row_flops=2 * width * weights,
        vector_flops=tokens * width * 5,
        special_ops=tokens * (1 + 2 * weights),
        weight_bytes=width * weights * element_bytes,
        activation_bytes=tokens * (width + hidden_size + weights) * element_bytes,
    )


def expand(tokens: Scalar, hidden_size: Scalar, *, streams: Scalar, element_bytes: Scalar) -> Cost:
    """Cost of mixing the streams and adding an output to each: n·(2n + 2) FLOPs a column.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of one stream. [count]
        streams: Residual streams. [count]
        element_bytes: Storage of one element. [byte]
    """
    width = streams * hidden_size
    return Cost(
        vector_flops=tokens * width * (2 * streams + 2),
        activation_bytes=tokens * (2 * width + hidden_size) * element_bytes,
    )


def copy_to_streams(
    tokens: Scalar, hidden_size: Scalar, *, streams: Scalar, element_bytes: Scalar
) -> Cost:
    """Cost of filling all streams with the embedding of a token.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of one stream. [count]
        streams: Residual streams. [count]
        element_bytes: Storage of one element. [byte]
    """
    return Cost(activation_bytes=tokens * (streams + 1) * hidden_size * element_bytes)
