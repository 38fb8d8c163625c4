"""Mixtral: Llama's layer with routed experts in place of the feed-forward."""

import dataclasses

from sweep.architecture import Block
from sweep.families.config import Config
from sweep.families.llama import gated_decoder, layer_windows
from sweep.families.parts import ATTENTION, EXPERTS, pre_norm

LAYER = pre_norm(ATTENTION, EXPERTS)


def read_mixtral(config: Config) -> tuple[Block, ...]:
    """Mixtral 8x7B and 8x22B."""
    experts = config.size("num_local_experts", default=8)
    used = config.size("num_experts_per_tok", default=2)
    if used > experts:
        raise config.error("num_experts_per_tok", f"{used} is more than the {experts} experts")
    first, *layers, last = gated_decoder(config, LAYER, windows=layer_windows(config))
    routed = [dataclasses.replace(b, experts=experts, experts_per_token=used) for b in layers]
    return (first, *routed, last)
