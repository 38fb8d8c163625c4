"""Layers that draft tokens for speculative decoding.

Without a model of its own, a draft is one layer like the model's last kind that attends, behind a
projection of the embedding of the newest token and the output of the layers. It shares embedding
and head with the model. Modules for further tokens of DeepSeek-V3 [1] and the heads of EAGLE [2]
are such layers.

References:
    [1] DeepSeek-AI, "DeepSeek-V3", arXiv 2412.19437, 2024, section 2.2.
    [2] Li et al., "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty", ICML 2024.
"""

import dataclasses
from collections.abc import Sequence

from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS

BEFORE = ("next_token_embedding_norm", "next_token_hidden_norm", "next_token_projection")
AFTER = "next_token_final_norm"
OF_THE_HEAD = ("head_projection", "lm_head", "sampling")


def further_tokens(layer: Block, count: int) -> Block:
    """Modules that predict further tokens with a layer like `layer`."""
    return dataclasses.replace(
        layer,
        operators=(*BEFORE, *layer.operators, AFTER),
        in_transformer=False,
        count=count,
    )


def draft_of(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """Blocks that draft a token with one layer, and those of them whose weights are its own.

    A model that stores modules for further tokens drafts with one of them. Of one without attention
    or without a head, such as a model of images, there is no draft.
    """
    stored = [block for block in blocks if block.idle and BEFORE[0] in block.operators]
    layers = [block for block in blocks if block.in_transformer and _attends(block)]
    head = blocks[-1]
    if "lm_head" not in head.operators or not (stored or layers):
        return (), ()
    layer = (
        dataclasses.replace(stored[0], idle=False, count=1)
        if stored
        else further_tokens(layers[-1], 1)
    )
    kept = tuple(name for name in head.operators if name in OF_THE_HEAD)
    own = () if stored else (layer,)
    return (layer, dataclasses.replace(head, operators=kept)), own


def whole_model(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks of a model that drafts for another, on the GPUs of the other's last stage."""
    return tuple(
        dataclasses.replace(
            block,
            operators=tuple(name for name in block.operators if name != "pipeline_send"),
            in_transformer=False,
        )
        for block in blocks
        if not block.idle
    )


def _attends(block: Block) -> bool:
    return any(OPERATORS[name].attention is not None for name in block.operators)
