"""Mixture of experts: which experts a step touches, their matrices, and mixing their outputs."""

from sweep.kernel.operators.any_of import any_of
from sweep.kernel.operators.cost import Cost, Scalar


def distinct_experts(tokens: Scalar, experts: Scalar, experts_per_token: Scalar) -> Scalar:
    """Expected number of experts that at least one of `tokens` is routed to.

    With k of E experts drawn evenly for each token, an expert is missed by all of T tokens
    with probability (1 − k/E)^T. For Mixtral (k = 2, E = 8) one token reads 2 experts, two
    tokens 8·(1 − 0.75²) = 3.5, and 32 tokens 7.999.

    Args:
        tokens: Tokens in the step. [count]
        experts: Experts of the layer. [count]
        experts_per_token: Experts each token is routed to. [count]
    """
    return experts * any_of(tokens, experts_per_token / experts)


def expert_gemm(
    rows: Scalar,
    inner: Scalar,
    columns: Scalar,
    *,
    experts_read: Scalar,
    weight_bytes: Scalar,
    input_bytes: Scalar,
    output_bytes: Scalar,
    bias: Scalar,
) -> Cost:
    """Cost of one matrix of each expert on this GPU, read once if any token is routed to it.

    Args:
        rows: Tokens routed to experts of this GPU, one copy for each expert. [count]
        inner: Width of the input on this GPU. [count]
        columns: Width of the output on this GPU. [count]
        experts_read: Experts of this GPU that any token is routed to. [count]
        weight_bytes: Storage of one weight, scales included. [byte]
        input_bytes: Storage of one input element. [byte]
        output_bytes: Storage of one output or bias element. [byte]
        bias: 1 with a bias vector for each expert, 0 without. [1]
    """
    return Cost(
        tensor_flops=rows * (2 * inner * columns),
        expert_row_flops=2 * experts_read * inner * columns,
        vector_flops=rows * (bias * columns),
        weight_bytes=experts_read * columns * (inner * weight_bytes + bias * output_bytes),
        activation_bytes=rows * (inner * input_bytes + columns * output_bytes),
    )


def expert_combine(
    tokens: Scalar, hidden_size: Scalar, experts_per_token: Scalar, *, element_bytes: Scalar
) -> Cost:
    """Cost of the weighted sum of the outputs of k experts.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Width of the residual stream. [count]
        experts_per_token: Experts each token is routed to. [count]
        element_bytes: Storage of one element. [byte]
    """
    return Cost(
        vector_flops=tokens * (2 * hidden_size * experts_per_token),
        activation_bytes=tokens * (hidden_size * (experts_per_token + 1) * element_bytes),
    )
