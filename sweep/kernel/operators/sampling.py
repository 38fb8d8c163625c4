"""Choosing the next token from the logits."""

from sweep.kernel.operators.cost import Cost, Scalar


def sampling(sequences: Scalar, vocab_size: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of a softmax over the logits this GPU holds: subtract, add, divide, one exponential.

    Args:
        sequences: Tokens to sample. [count]
        vocab_size: Logits of each on this GPU. [count]
        element_bytes: Storage of one logit. [byte]
    """
    logits = sequences * vocab_size
    return Cost(
        vector_flops=3 * logits, special_ops=1.0 * logits, activation_bytes=logits * element_bytes
    )
