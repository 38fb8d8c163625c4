"""gpt-oss: routed experts with biases, attention sinks, a window in every other layer."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.families.mixtral import LAYER
from sweep.models.layers import gated_layer, layer_count, windowed_decoder


def read_gpt_oss(config: Config) -> tuple[Block, ...]:
    """gpt-oss 20B and 120B; layers alternate between a window and full attention."""
    config.passes_over("experts_per_token")
    experts, used = config.experts("num_local_experts", "num_experts_per_tok")
    bias = config.flag("attention_bias", True)
    layer = dataclasses.replace(
        gated_layer(config, LAYER, qkv_bias=bias, output_bias=bias),
        experts=experts,
        experts_per_token=used,
        expert_bias=1,
        sinks=1,
    )
    layers = layer_count(config)
    window = config.size("sliding_window")
    held = config.sliding_layers(layers, [index % 2 == 0 for index in range(layers)])
    return windowed_decoder(config, layer, [window if h else None for h in held])
