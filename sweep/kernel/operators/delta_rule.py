"""The gated delta rule: a token replaces what the state holds under its key, and decays the rest.

Covers the gated delta net [1], with one decay for each head, and Kimi delta attention [2], with
one for each element of the keys.

References:
    [1] Yang, Kautz, Hatamizadeh, "Gated delta networks", ICLR 2025.
    [2] Kimi Team, "Kimi Linear: an expressive, efficient attention architecture",
    arXiv 2510.26692, 2025.
"""

from sweep.kernel.operators.cost import Cost, Scalar

GATE_FLOPS = 4
"""Element-wise FLOPs of a decay or of a gate from its projection."""
GATE_SPECIALS = 3
"""Exponentials and logarithms of the same: a softplus and the decay that follows from it."""
NORM_FLOPS = 3
"""Element-wise FLOPs for each element of a query or key to make its length 1."""


def delta_rule_step(
    sequences: Scalar,
    *,
    heads: Scalar,
    groups: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    gates: Scalar,
    element_bytes: Scalar,
    state_bytes: Scalar,
) -> Cost:
    """Cost of one new token per sequence, which reads the state, updates it and writes it back.

    For each element of the state: a multiplication by the decay and three multiply-adds, for what
    the key finds, for the correction, and for the output: seven FLOPs on the vector units. A layer
    of Qwen3-Next has 32·128·128 elements: in 32 bits, 2·2.10e6 bytes move for each sequence.

    Args:
        sequences: Sequences that get a token. [count]
        heads: Heads on this GPU. [count]
        groups: Groups of heads on this GPU that share keys and queries. [count]
        key_dim: Rows of a head's state. [count]
        value_dim: Columns of a head's state. [count]
        gates: Elements of a token that a decay or a gate is computed from. [count]
        element_bytes: Storage of one activation. [byte]
        state_bytes: Storage of one element of the state. [byte]
    """
    states = sequences * heads * key_dim * value_dim
    keys, values = 2 * groups * key_dim, heads * value_dim
    return Cost(
        vector_flops=7 * states + sequences * (NORM_FLOPS * keys + GATE_FLOPS * gates),
        special_ops=sequences * (2 * groups + GATE_SPECIALS * gates),
        kv_bytes=2 * states * state_bytes,
        activation_bytes=sequences * (keys + 2 * values + gates) * element_bytes,
    )


def delta_rule_scan(
    sequences: Scalar,
    query_len: Scalar,
    *,
    pairs: Scalar,
    resumed: Scalar,
    heads: Scalar,
    groups: Scalar,
    key_dim: Scalar,
    value_dim: Scalar,
    gates: Scalar,
    decays: Scalar,
    element_bytes: Scalar,
    state_bytes: Scalar,
) -> Cost:
    """Cost of a prompt in chunks, by the WY form of the products of a chunk [1].

    Each pair of different tokens of a chunk takes the product of their keys and a step of two
    triangular systems, one as wide as a key and one as a value; each pair, with a token and itself,
    takes the product of query and key and its share of the weighted sum of values. Each token
    takes what the state holds under its key, its output from the state, and the update, six FLOPs
    an element. The triangular systems are solved directly: the inverse that kernels form first
    adds C²/3 FLOPs a token, about 1 %. The state stays on chip until the prompt ends.

    Args:
        sequences: Prompts, or chunks of prompts. [count]
        query_len: New tokens of each. [count]
        pairs: Pairs of a token and one before it in its chunk of the scan, or itself. [count]
        resumed: Share of them that continue from a stored state. [1]
        heads: Heads on this GPU. [count]
        groups: Groups of heads on this GPU that share keys and queries. [count]
        key_dim: Rows of a head's state. [count]
        value_dim: Columns of a head's state. [count]
        gates: Elements of a token that a decay or a gate is computed from. [count]
        decays: Exponentials of decays of a token, in addition to those of its gates. [count]
        element_bytes: Storage of one activation. [byte]
        state_bytes: Storage of one element of the state. [byte]

    References:
        [1] Yang et al., "Parallelizing linear transformers with the delta rule over sequence
        length", NeurIPS 2024.
    """
    tokens = sequences * query_len
    scores, others = sequences * heads * pairs, sequences * heads * (pairs - query_len)
    keys, values = 2 * groups * key_dim, heads * value_dim
    states = heads * key_dim * value_dim
    return Cost(
        tensor_flops=6 * tokens * states
        + 2 * others * (2 * key_dim + value_dim)
        + 2 * scores * (key_dim + value_dim),
        vector_flops=tokens * (NORM_FLOPS * keys + GATE_FLOPS * gates + 2 * decays),
        special_ops=tokens * (2 * groups + GATE_SPECIALS * gates + decays),
        kv_bytes=(1 + resumed) * sequences * states * state_bytes,
        activation_bytes=tokens * (keys + 2 * values + gates) * element_bytes,
    )
