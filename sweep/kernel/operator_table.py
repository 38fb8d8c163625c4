"""Every operator by name, and what a model's blocks say of its weights and its attention.

A family's list of operators stands in `families/`, their binding to a block's sizes in
`bindings/`, the formulas in `operators/`.
"""

from collections.abc import Iterator, Sequence

from sweep.kernel.bindings.attention import ATTENTION
from sweep.kernel.bindings.attention_variants import ATTENTION_VARIANTS
from sweep.kernel.bindings.embedding_and_head import ENDS
from sweep.kernel.bindings.experts import EXPERTS
from sweep.kernel.bindings.feed_forward import FEED_FORWARD
from sweep.kernel.bindings.latent_attention import LATENT_ATTENTION
from sweep.kernel.bindings.operator import Attention, Operator, Tensor
from sweep.kernel.block import Block

OPERATORS: dict[str, Operator] = {
    **ENDS,
    **ATTENTION,
    **ATTENTION_VARIANTS,
    **LATENT_ATTENTION,
    **FEED_FORWARD,
    **EXPERTS,
}


def tensors(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, Tensor]]:
    """Every weight that a layer of each block stores; the blocks' sizes are integers."""
    for block in blocks:
        for name in block.operators:
            for tensor in OPERATORS[name].weights(block):
                yield block, tensor


def attentions(block: Block) -> list[Attention]:
    """How the operators of `block` that attend to the context do so."""
    found = (OPERATORS[name].attention for name in block.operators)
    return [attention for attention in found if attention is not None]


def operator_names(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Names of the operators a model runs, in the order they first run."""
    return tuple(dict.fromkeys(name for block in blocks for name in block.operators))
