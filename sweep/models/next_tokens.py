"""Weights of the layers that predict further tokens, for models whose file asks to count them.

A module normalises the embedding of the next token and the output of the layers, projects both to
the hidden size, and runs a layer as large as the last one and a final norm; it shares embedding
and head with the model [1]. It drafts no tokens here: its weights take memory on the last stage of
a pipeline, and no time.

References:
    [1] DeepSeek-AI, "DeepSeek-V3", arXiv 2412.19437, 2024, section 2.2.
"""

import dataclasses

from sweep.errors import SpecError
from sweep.kernel.block import Block
from sweep.kernel.draft import further_tokens
from sweep.models.config import Config

COUNTED = ("deepseek_v3", "glm4_moe", "mimo")
"""Families whose modules are known to be like those of DeepSeek-V3."""


def with_next_tokens(
    config: Config, blocks: tuple[Block, ...], family: str, where: str
) -> tuple[Block, ...]:
    """Return the blocks of a model together with its modules for further tokens.

    Raises:
        SpecError: The config has none, or those of its family are of unknown size.
    """
    if family not in COUNTED:
        known = ", ".join(COUNTED)
        raise SpecError(f"{where}: mtp: unknown for family {family!r}; known are {known}")
    count = config.natural("extra_tokens")
    if not count:
        raise SpecError(f"{where}: mtp: the config has no num_nextn_predict_layers above 0")
    *others, head = blocks
    layer = next(block for block in reversed(others) if block.in_transformer)
    module = dataclasses.replace(further_tokens(layer, count), idle=True)
    return *others, module, head
