"""Attention without a cache: a head keeps one matrix, which each token decays and adds to.

Covers lightning attention [1] and the state-space duality of Mamba-2 [2], where B and C are keys
and queries.

References:
    [1] MiniMax, "MiniMax-01: scaling foundation models with lightning attention",
    arXiv 2501.08313, 2025, section 2.2.
    [2] Dao, Gu, "Transformers are SSMs", ICML 2024, sections 5 and 6.
"""

from sweep.kernel.operators.cost import Cost, Scalar

GATE_FLOPS = 4
"""Element-wise FLOPs of a decay or of a gate from its projection."""
GATE_SPECIALS = 3
"""Exponentials and logarithms of the same: a softplus and the decay that follows from it."""


def linear_attention_step(
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

    For each element of the state: a multiplication by the decay, a multiply-add of key times
    value, and one for the output, five FLOPs. No two sequences share a matrix, so the vector units
    do the work. A Nemotron 3 Nano layer has 64·128·64 elements: in 32 bits, 2·2.10e6 bytes.

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
    moved = 2 * groups * key_dim + 2 * heads * value_dim + gates
    return Cost(
        vector_flops=5 * states + GATE_FLOPS * sequences * gates,
        special_ops=GATE_SPECIALS * sequences * gates,
        kv_bytes=2 * states * state_bytes,
        activation_bytes=sequences * moved * element_bytes,
    )


def linear_attention_scan(
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
    element_bytes: Scalar,
    state_bytes: Scalar,
) -> Cost:
    """Cost of a prompt in chunks: attention inside each, the state from one to the next.

    Inside a chunk a token meets those before it: the products of queries and keys are shared in a
    group, their sums with values are not. Between chunks each token adds to the state and reads
    it, four FLOPs an element. The state stays on chip until the prompt ends.

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
        element_bytes: Storage of one activation. [byte]
        state_bytes: Storage of one element of the state. [byte]
    """
    tokens = sequences * query_len
    states = heads * key_dim * value_dim
    scores = sequences * pairs
    moved = 2 * groups * key_dim + 2 * heads * value_dim + gates
    return Cost(
        tensor_flops=4 * tokens * states + 2 * scores * (groups * key_dim + heads * value_dim),
        vector_flops=2 * scores * heads + GATE_FLOPS * tokens * gates,
        special_ops=scores * heads + GATE_SPECIALS * tokens * gates,
        kv_bytes=(1 + resumed) * sequences * states * state_bytes,
        activation_bytes=tokens * moved * element_bytes,
    )
