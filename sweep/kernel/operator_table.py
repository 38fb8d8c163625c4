"""Table of every operator by name, and the weights and attention of a model's blocks.

`operators/` has the formulas, `bindings/` applies them to the sizes of a block, and
`models/families/` lists the operators that each family runs.
"""

from collections.abc import Iterator, Sequence

from sweep.kernel.bindings.attention import ATTENTION
from sweep.kernel.bindings.attention_variants import ATTENTION_VARIANTS
from sweep.kernel.bindings.augmented_residual import AUGMENTED_RESIDUAL
from sweep.kernel.bindings.compressed_attention import COMPRESSED_ATTENTION
from sweep.kernel.bindings.diffusion import DIFFUSION
from sweep.kernel.bindings.embedding_and_head import ENDS
from sweep.kernel.bindings.experts import EXPERTS
from sweep.kernel.bindings.feed_forward import FEED_FORWARD
from sweep.kernel.bindings.hyper_connections import HYPER_CONNECTIONS
from sweep.kernel.bindings.indexer import INDEXER
from sweep.kernel.bindings.latent_attention import LATENT_ATTENTION
from sweep.kernel.bindings.latent_experts import LATENT_EXPERTS
from sweep.kernel.bindings.layer_inputs import LAYER_INPUTS
from sweep.kernel.bindings.layer_parts import LAYER_PARTS
from sweep.kernel.bindings.linear_attention import LINEAR_ATTENTION
from sweep.kernel.bindings.operator import Attention, Operator, Tensor
from sweep.kernel.bindings.selected_attention import SELECTED_ATTENTION
from sweep.kernel.bindings.selective_scan import SELECTIVE_SCAN
from sweep.kernel.bindings.shared_cache import SHARED_CACHE
from sweep.kernel.bindings.state import STATE
from sweep.kernel.block import Block, running
from sweep.kernel.operators.cost import Scalar

OPERATORS: dict[str, Operator] = {
    **ENDS,
    **ATTENTION,
    **ATTENTION_VARIANTS,
    **LATENT_ATTENTION,
    **INDEXER,
    **SELECTED_ATTENTION,
    **COMPRESSED_ATTENTION,
    **HYPER_CONNECTIONS,
    **FEED_FORWARD,
    **EXPERTS,
    **DIFFUSION,
    **LATENT_EXPERTS,
    **STATE,
    **LINEAR_ATTENTION,
    **SELECTIVE_SCAN,
    **SHARED_CACHE,
    **AUGMENTED_RESIDUAL,
    **LAYER_INPUTS,
    **LAYER_PARTS,
}


def tensors(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, Tensor]]:
    """Yield every weight that a layer of each block stores; sizes are integers."""
    for block in blocks:
        for name in block.operators:
            for tensor in OPERATORS[name].weights(block):
                yield block, tensor


def attentions(block: Block) -> list[Attention]:
    """Reach and cache of each operator of `block` that runs and attends to the context."""
    found = (OPERATORS[name].attention for name in block.operators if not block.idle)
    return [attention for attention in found if attention is not None]


def state_bytes(block: Block, tp: Scalar, hidden: Scalar) -> Scalar:
    """State that one layer of `block` keeps of a sequence on each GPU. [byte]"""
    kept = (OPERATORS[name].state for name in block.operators)
    return sum((state(block, tp, hidden) for state in kept if state is not None), start=0.0)


def operator_names(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Names of the operators a model runs, in the order they first run."""
    return tuple(dict.fromkeys(name for block in running(blocks) for name in block.operators))
