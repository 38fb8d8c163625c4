"""Llama 3.2 Vision: Llama's layers, and between them layers that attend to images.

Without an image these layers are skipped: their weights are stored and do no work [1].

References:
    [1] Grattafiori et al., "The Llama 3 herd of models", arXiv 2407.21783, 2024, section 7.
"""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import read_decoder
from sweep.models.layers import before, without
from sweep.models.traits import Traits

TRAITS = Traits(
    nested={
        "hidden_size": 4096,
        "ffn_size": 14_336,
        "layers": 40,
        "heads": 32,
        "kv_heads": 8,
        "vocab_size": 128_256,
    }
)
KEY = "cross_attention_layers"
IMAGE_ROWS = 8
"""Rows of the embedding beyond the vocabulary, one of them for images. [count]"""


def read_mllama(config: Config) -> tuple[Block, ...]:
    """Read the text part of Llama 3.2 Vision, for requests without images.

    Raises:
        SpecError: A key is missing or malformed.
    """
    first, *others = read_decoder(config, TRAITS, lambda layers: _changed(config, layers))
    return dataclasses.replace(first, vocab_size=first.vocab_size + IMAGE_ROWS), *others


def _changed(config: Config, layers: list[Block]) -> list[Block]:
    if KEY not in config:
        raise config.error(KEY, "missing; it lists the layers that attend to images")
    crossing = config.integers(KEY)
    if len(set(crossing)) != len(crossing) or not set(crossing) < set(range(len(layers))):
        problem = f"must number some of the layers from 0 to {len(layers) - 1}, each once"
        raise config.error(KEY, problem)
    return [_crossing(layer) if i in crossing else layer for i, layer in enumerate(layers)]


def _crossing(layer: Block) -> Block:
    """Return a layer whose queries meet keys and values of an image."""
    operators = before(layer.operators, "rotary", "qk_norm")
    operators = without(operators, "rotary", "kv_cache_append")
    return dataclasses.replace(layer, operators=(*operators, "half_gates"), rotary_dim=0, idle=True)
