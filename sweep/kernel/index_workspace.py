"""Working memory of an indexer: its queries, and the scores that it writes before it selects."""

import jax.numpy as jnp

from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.operators.indexer import SCORE_BYTES
from sweep.kernel.params import Point

MOST_SCORES = 512.0 * 2**20
"""Most memory that scores take: beyond it, engines score a prompt in parts. It is the default of
`VLLM_SPARSE_INDEXER_MAX_LOGITS_MB` of vLLM. [byte]"""
SCORERS = ("index_scores", "compressed_index_scores", "block_index_scores")


def selects(block: Block) -> bool:
    """Whether an indexer selects what the layers of `block` attend to."""
    return any(name.startswith(("selected_", *SCORERS)) for name in block.operators)


def selecting_elements(block: Block, tp: Scalar) -> Scalar:
    """Elements of the widest output of one token: of the indexer or of absorbed queries. [count]"""
    absorbed = block.heads / tp * (block.latent_dim + block.rotary_dim)
    return jnp.maximum(absorbed, block.index_heads * block.index_dim)


def index_workspace(point: Point, tokens: Scalar, context: Scalar) -> Scalar:
    """Scores of a pass of `tokens` over sequences of `context` tokens, on each GPU. [byte]"""
    most: Scalar = 0.0
    for block in point.model.blocks:
        for name in block.operators:
            attention = OPERATORS[name].attention
            if name not in SCORERS or attention is None:
                continue
            scores = attention.entries(block, context)
            if name == "block_index_scores":
                heads = jnp.maximum(block.index_heads / point.tp, 1.0)
                scores = scores / block.index_block * heads
            most = jnp.maximum(most, tokens * scores * SCORE_BYTES)
    return jnp.minimum(most, MOST_SCORES)
