"""Qwen3: Llama's layer with a norm on each query and key head, dense or with routed experts."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    before,
    decoder,
    gated_layer,
    late_windows,
    layer_count,
    pre_norm,
    windowed_decoder,
    with_window,
)
from sweep.models.layers import LAYER as LLAMA_LAYER

LAYER = before(LLAMA_LAYER, "rotary", "qk_norm")
EXPERT_LAYER = pre_norm(before(ATTENTION, "rotary", "qk_norm"), EXPERTS)


def read_qwen3(config: Config) -> tuple[Block, ...]:
    """Qwen3, dense."""
    return windowed_decoder(config, _layer(config), late_windows(config))


def read_qwen3_moe(config: Config) -> tuple[Block, ...]:
    """Qwen3 with experts in every `decoder_sparse_step`-th layer but those `mlp_only_layers`."""
    experts, used = config.experts("num_experts", "num_experts_per_tok")
    dense = _layer(config)
    routed = dataclasses.replace(
        dense,
        operators=EXPERT_LAYER,
        ffn_size=config.size("moe_intermediate_size"),
        experts=experts,
        experts_per_token=used,
    )
    step = config.size("decoder_sparse_step", default=1)
    dense_layers = config.integers("mlp_only_layers")
    layers = [
        routed if (i + 1) % step == 0 and i not in dense_layers else dense
        for i in range(layer_count(config))
    ]
    windows = late_windows(config)
    return decoder(config, [with_window(b, w) for b, w in zip(layers, windows, strict=True)])


def _layer(config: Config) -> Block:
    bias = config.flag("attention_bias", False)
    return gated_layer(config, LAYER, qkv_bias=bias, output_bias=bias, head_dim=128)
