"""A causal convolution over a few tokens, each channel on its own."""

from sweep.kernel.operators.cost import Cost, Scalar

SILU_FLOPS = 4
"""Element-wise FLOPs of a SiLU in addition to its exponential and reciprocal."""


def short_convolution(
    sequences: Scalar,
    query_len: Scalar,
    *,
    moves: Scalar,
    channels: Scalar,
    kernel: Scalar,
    bias: Scalar,
    gates: int,
    activated: bool,
    element_bytes: Scalar,
) -> Cost:
    """Cost of a convolution over new tokens and the last ones before them.

    A sequence keeps the inputs of its last kernel − 1 tokens. The 8192 channels of a layer of
    Qwen3-Next, of four taps, keep 3·8192·2 = 49 152 bytes in 16 bits.

    Args:
        sequences: Sequences. [count]
        query_len: New tokens of each. [count]
        moves: Times that the state of a sequence is read or written: 2 in decode. [count]
        channels: Channels on this GPU. [count]
        kernel: Taps. [count]
        bias: 1 with a bias, 0 without. [1]
        gates: Further inputs that multiply the input or the output. [count]
        activated: Whether a SiLU follows.
        element_bytes: Storage of one activation, weight or element of the state. [byte]
    """
    elements = sequences * query_len * channels
    silu = SILU_FLOPS if activated else 0
    return Cost(
        vector_flops=elements * (2 * kernel + bias + gates + silu),
        special_ops=2 * elements if activated else 0.0,
        weight_bytes=channels * (kernel + bias) * element_bytes,
        kv_bytes=moves * sequences * (kernel - 1) * channels * element_bytes,
        activation_bytes=elements * (2 + gates) * element_bytes,
    )
