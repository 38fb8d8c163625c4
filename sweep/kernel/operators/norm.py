"""Layer normalisation, with or without a mean and a shift."""

from sweep.kernel.operators.cost import Cost, Scalar


def norm(
    rows: Scalar,
    width: Scalar,
    *,
    vectors: Scalar,
    input_bytes: Scalar,
    output_bytes: Scalar,
) -> Cost:
    """Cost of normalising `rows` vectors of `width` elements.

    RMSNorm [1] keeps one vector of weights and takes four FLOPs per element (square, add,
    scale, weigh); LayerNorm [2] keeps two and takes three more (mean, subtract, shift).

    Args:
        rows: Vectors to normalise. [count]
        width: Elements of each. [count]
        vectors: Weight vectors kept: 1 for RMSNorm, 2 for LayerNorm. [count]
        input_bytes: Storage of one input or weight element. [byte]
        output_bytes: Storage of one output element. [byte]

    References:
        [1] Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019.
        [2] Ba, Kiros, Hinton, "Layer normalization", arXiv 1607.06450, 2016.
    """
    return Cost(
        vector_flops=rows * ((1 + 3 * vectors) * width),
        special_ops=1.0 * rows,
        weight_bytes=vectors * width * input_bytes,
        activation_bytes=rows * (width * (input_bytes + output_bytes)),
    )
