"""Embeddings that each layer has of its own, in the blocks before, in and after the layers."""

import dataclasses
from typing import Any

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import replaced

BEFORE_LAYERS = (
    "layer_embedding",
    "layer_inputs_projection",
    "layer_inputs_norm",
    "layer_inputs_sum",
)
"""Operators that compute the embeddings of all layers, before the first."""
IN_A_LAYER = (
    "layer_input_gate",
    "layer_input_activation",
    "layer_input_projection",
    "layer_input_norm",
    "layer_input_residual",
)
"""Operators that bring a layer's own embedding into the residual stream, at its end."""
ROWS = 262_144
"""Rows of the table where no key says. [count]"""


def with_layer_inputs(config: Config, blocks: tuple[Block, ...], width: int) -> tuple[Block, ...]:
    """Return the blocks of a decoder whose layers have embeddings of `width` of their own.

    Raises:
        SpecError: The number of rows is malformed.
    """
    if not width:
        config.passes_over("vocab_size_per_layer_input")
        return blocks
    first, *layers, last = blocks
    sizes = {"input_size": width, "inputs_width": width * sum(int(b.count) for b in layers)}
    rows = config.size("vocab_size_per_layer_input", default=ROWS)
    return (
        _with(first, (*first.operators, *BEFORE_LAYERS), **sizes, input_rows=rows),
        *(_with(b, (*b.operators, *IN_A_LAYER), input_size=width) for b in layers),
        _with(last, replaced(last.operators, "pipeline_send", "streams_send"), **sizes),
    )


def _with(block: Block, operators: tuple[str, ...], **sizes: Any) -> Block:
    return dataclasses.replace(block, operators=operators, **sizes)
