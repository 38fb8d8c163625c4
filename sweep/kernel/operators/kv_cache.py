"""Writing new keys and values into the KV cache."""

from sweep.kernel.operators.cost import Cost, Scalar


def kv_cache_append(
    tokens: Scalar, elements_per_token: Scalar, *, input_bytes: Scalar, kv_bytes: Scalar
) -> Cost:
    """Cost of moving the keys and values of `tokens`, or their latents, into the cache.

    Args:
        tokens: Tokens in the step. [count]
        elements_per_token: Elements each token adds on this GPU. [count]
        input_bytes: Storage of one element as projected. [byte]
        kv_bytes: Storage of one cached element. [byte]
    """
    return Cost(
        kv_bytes=tokens * (elements_per_token * kv_bytes),
        activation_bytes=tokens * (elements_per_token * input_bytes),
    )
