"""Mixtral: Llama's layer with routed experts in place of the feed-forward."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    gated_layer,
    pre_norm,
    uniform_windows,
    windowed_decoder,
)

LAYER = pre_norm(ATTENTION, EXPERTS)


def read_mixtral(config: Config) -> tuple[Block, ...]:
    """Mixtral 8x7B and 8x22B."""
    experts, used = config.experts("num_local_experts", "num_experts_per_tok")
    layer = gated_layer(config, LAYER)
    routed = dataclasses.replace(layer, experts=experts, experts_per_token=used)
    return windowed_decoder(config, routed, uniform_windows(config))
