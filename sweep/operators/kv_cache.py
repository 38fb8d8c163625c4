"""Writing new keys and values into the KV cache."""

from sweep.operators.cost import Cost, Scalar


def kv_cache_append(
    tokens: Scalar, kv_heads: Scalar, head_dim: Scalar, *, input_bytes: Scalar, kv_bytes: Scalar
) -> Cost:
    """Cost of moving the keys and values of `tokens` into the cache.

    Args:
        tokens: Tokens in the step. [count]
        kv_heads: KV heads on this GPU. [count]
        head_dim: Width of one head. [count]
        input_bytes: Storage of one element as projected. [byte]
        kv_bytes: Storage of one cached element. [byte]
    """
    elements = 2 * tokens * kv_heads * head_dim
    return Cost(kv_bytes=elements * kv_bytes, activation_bytes=elements * input_bytes)
