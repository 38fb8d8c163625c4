"""Compressing the entries of several tokens into one, before they are cached."""

from sweep.kernel.operators.cost import Cost, Scalar

BUFFER_BYTES = 4.0
"""Storage of one element that waits for its entry to be complete, in 32 bits. [byte]"""


def compression(
    tokens: Scalar,
    *,
    width: Scalar,
    series: Scalar,
    tokens_per_entry: Scalar,
    rotary_dim: Scalar,
    input_bytes: Scalar,
    buffer_bytes: Scalar,
    kv_bytes: Scalar,
) -> Cost:
    """Cost of pooling the values of several tokens into one entry, weighed by learned gates.

    Each element of an entry is a mean over tokens, weighed by a softmax of their gates [1, section
    2.3]. With two series an entry overlaps with the one before it: each token has one value for
    its own entry and one for the next. A value and its gate are projected, wait in a buffer and
    are pooled: per element of a value a bias and an exponential of its gate, a weight and two
    sums. The entry is then normalised and rotated.

    Args:
        tokens: Tokens in the step. [count]
        width: Elements of an entry. [count]
        series: Entries that a token contributes to, 1 or 2. [count]
        tokens_per_entry: Tokens from the start of an entry to that of the next. [count]
        rotary_dim: Elements of an entry that are rotated. [count]
        input_bytes: Storage of one projected element. [byte]
        buffer_bytes: Storage of one element in the buffer, 0 if it does not pass through. [byte]
        kv_bytes: Storage of one cached element. [byte]

    References:
        [1] DeepSeek-AI, "DeepSeek-V4", 2026; `DeepseekV4CSACompressor` and
        `DeepseekV4HCACompressor` of Hugging Face Transformers.
    """
    values = tokens * series * width
    entries = tokens / tokens_per_entry
    return Cost(
        vector_flops=4 * values + entries * (4 * width + 3 * rotary_dim),
        special_ops=values + entries * (width + 1),
        weight_bytes=(tokens_per_entry * series + 1) * width * input_bytes,
        kv_bytes=4 * values * buffer_bytes + entries * width * kv_bytes,
        activation_bytes=2 * values * input_bytes,
    )
