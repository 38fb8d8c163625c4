"""Summing partial results over the GPUs of a tensor-parallel group."""

from sweep.operators.cost import Cost, Scalar


def all_reduce(tokens: Scalar, hidden_size: Scalar, tp: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of one ring all-reduce: each GPU sends 2·(tp − 1)/tp of the buffer [1].

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Elements per token. [count]
        tp: GPUs in the group. [count]
        element_bytes: Storage of one element. [byte]

    References:
        [1] Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 69(2), 2009.
    """
    return Cost(network_bytes=2 * (tp - 1) / tp * tokens * hidden_size * element_bytes)
