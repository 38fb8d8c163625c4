"""Matrix products: every projection, the feed-forward matrices, the router and lm_head."""

from sweep.kernel.operators.cost import Cost, Scalar


def gemm(
    rows: Scalar,
    inner: Scalar,
    columns: Scalar,
    *,
    weight_bytes: Scalar,
    input_bytes: Scalar,
    output_bytes: Scalar,
    bias: Scalar = 0.0,
) -> Cost:
    """Cost of `rows × inner` times `inner × columns`, plus a bias where there is one.

    Each operand is read once and the result written once [1]. For 256 rows, the 4096 × 4096
    output projection of LLaMA-2-7B in 16 bits takes 2·256·4096² = 8.59e9 FLOPs and moves
    33.55e6 bytes of weights and 2·256·4096·2 = 4.19e6 bytes of activations.

    Args:
        rows: Tokens in the step. [count]
        inner: Width of the input on this GPU. [count]
        columns: Width of the output on this GPU. [count]
        weight_bytes: Storage of one weight, scales included. [byte]
        input_bytes: Storage of one input element. [byte]
        output_bytes: Storage of one output or bias element. [byte]
        bias: 1 with a bias vector, 0 without. [1]

    References:
        [1] Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """
    return Cost(
        tensor_flops=rows * (2 * inner * columns),
        row_flops=2 * inner * columns,
        vector_flops=rows * (bias * columns),
        weight_bytes=inner * columns * weight_bytes + bias * columns * output_bytes,
        activation_bytes=rows * (inner * input_bytes + columns * output_bytes),
    )
