"""Multi-head latent attention: one latent per token replaces the keys and values of all heads."""

from sweep.kernel.operators.cost import Cost, Scalar


def latent_decode_attention(
    sequences: Scalar,
    context: Scalar,
    *,
    heads: Scalar,
    latent_dim: Scalar,
    rotary_dim: Scalar,
    query_bytes: Scalar,
    output_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of one new token per sequence attending to `context` latents, in absorbed form.

    Queries are carried into the latent space, so a score takes latent_dim + rotary_dim
    multiply-adds and its share of the output latent_dim; the cache is read once for all
    heads [1]. DeepSeek-V3 reads (512 + 64)·2 = 1152 bytes of 16-bit cache per token and layer.

    Args:
        sequences: Sequences in the batch. [count]
        context: Tokens attended to. [count]
        heads: Query heads on this GPU. [count]
        latent_dim: Width of the latent. [count]
        rotary_dim: Width of the rotated key shared by all heads. [count]
        query_bytes: Storage of one query element. [byte]
        output_bytes: Storage of one output element. [byte]
        kv_bytes: Storage of one cached element. [byte]

    References:
        [1] DeepSeek-AI, "DeepSeek-V2", arXiv 2405.04434, 2024, section 2.1.
    """
    scores = sequences * heads * context
    width = latent_dim + rotary_dim
    return Cost(
        tensor_flops=2 * scores * (width + latent_dim),
        special_ops=scores,
        kv_bytes=sequences * context * width * kv_bytes,
        activation_bytes=sequences * heads * (width * query_bytes + latent_dim * output_bytes),
    )


def latent_prefill_attention(
    sequences: Scalar,
    query_len: Scalar,
    *,
    pairs: Scalar,
    heads: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    element_bytes: Scalar,
    output_bytes: Scalar,
) -> Cost:
    """Cost of a prompt attending to itself, causally, with keys and values expanded per head.

    Args:
        sequences: Sequences in the batch. [count]
        query_len: Prompt tokens of each. [count]
        pairs: Pairs of a token and one it attends to, in one sequence. [count]
        heads: Query heads on this GPU. [count]
        key_dim: Width of a query or key, rotated part included. [count]
        value_dim: Width of a value. [count]
        element_bytes: Storage of one query, key or value element. [byte]
        output_bytes: Storage of one output element. [byte]
    """
    scores = sequences * heads * pairs
    tokens = sequences * query_len * heads
    return Cost(
        tensor_flops=2 * scores * (key_dim + value_dim),
        special_ops=scores,
        activation_bytes=tokens
        * ((2 * key_dim + value_dim) * element_bytes + value_dim * output_bytes),
    )


def latent_up_projection(
    absorbed_tokens: Scalar,
    expanded_tokens: Scalar,
    *,
    heads: Scalar,
    latent_dim: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    weight_bytes: Scalar,
    element_bytes: Scalar,
) -> Cost:
    """Cost of the matrices between the latent and each head's keys and values.

    In a prompt they expand the latent to keys and values; in absorbed form they carry queries
    into the latent space and outputs back. Both take as many multiply-adds.

    Args:
        absorbed_tokens: New tokens of sequences that decode. [count]
        expanded_tokens: Prompt tokens. [count]
        heads: Query heads on this GPU. [count]
        latent_dim: Width of the latent. [count]
        key_dim: Width of a head's keys without their rotated part. [count]
        value_dim: Width of a head's values. [count]
        weight_bytes: Storage of one weight, scales included. [byte]
        element_bytes: Storage of one activation. [byte]
    """
    expanded = heads * (key_dim + value_dim)
    moved = absorbed_tokens * (expanded + 2 * heads * latent_dim) + expanded_tokens * (
        expanded + latent_dim
    )
    return Cost(
        tensor_flops=2 * (absorbed_tokens + expanded_tokens) * latent_dim * expanded,
        row_flops=2 * latent_dim * expanded,
        weight_bytes=latent_dim * expanded * weight_bytes,
        activation_bytes=moved * element_bytes,
    )
