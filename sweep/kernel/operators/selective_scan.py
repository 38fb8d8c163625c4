"""The selective scan of Mamba-1: each channel keeps a short vector of its own."""

from sweep.kernel.operators.cost import Cost, Scalar

STEP_FLOPS = 2
"""Element-wise FLOPs of a channel's time step and of its product with the input."""
GATE_FLOPS = 7
"""The same of what follows: the skip of the input, and the SiLU that gates the output."""
CHANNEL_SPECIALS = 4
"""Exponentials, logarithms and reciprocals of a channel: a softplus and a SiLU."""


def selective_scan(
    sequences: Scalar,
    query_len: Scalar,
    *,
    moves: Scalar,
    channels: Scalar,
    state_size: Scalar,
    groups: Scalar,
    element_bytes: Scalar,
    state_bytes: Scalar,
    weight_bytes: Scalar,
) -> Cost:
    """Cost of new tokens of each sequence, one after another, on the vector units.

    For each element of the state and each token: its decay (a product and an exponential), the
    input times B, a multiply-add, and one for the output, six FLOPs [1]. The state stays on chip
    from the first new token to the last. Jamba's 8192 channels of 16 keep 512 KiB in 32 bits.

    Args:
        sequences: Sequences. [count]
        query_len: New tokens of each. [count]
        moves: Times that the state of a sequence is read or written: 2 in decode. [count]
        channels: Channels on this GPU. [count]
        state_size: Elements of a channel's state. [count]
        groups: Groups of channels on this GPU that share B and C. [count]
        element_bytes: Storage of one activation. [byte]
        state_bytes: Storage of one element of the state. [byte]
        weight_bytes: Storage of one weight. [byte]

    References:
        [1] Gu, Dao, "Mamba: linear-time sequence modeling with selective state spaces",
        COLM 2024, section 3.
    """
    tokens, states = sequences * query_len, channels * state_size
    return Cost(
        vector_flops=tokens * (6 * states + (STEP_FLOPS + GATE_FLOPS) * channels),
        special_ops=tokens * (states + CHANNEL_SPECIALS * channels),
        weight_bytes=(states + channels) * weight_bytes,
        kv_bytes=moves * sequences * states * state_bytes,
        activation_bytes=tokens * (4 * channels + 2 * groups * state_size) * element_bytes,
    )
