"""GLM-4.5: dense first layers, then routed and shared experts under a corrected router."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    SHARED_EXPERT,
    before,
    decoder,
    gated_layer,
    layer_count,
    pre_norm,
)
from sweep.models.layers import LAYER as LLAMA_LAYER

EXPERT_LAYER = pre_norm(ATTENTION, (*SHARED_EXPERT, *EXPERTS))


def read_glm4_moe(config: Config) -> tuple[Block, ...]:
    """GLM-4.5 and GLM-4.5-Air."""
    bias = config.flag("attention_bias", False)
    dense = gated_layer(config, LLAMA_LAYER, qkv_bias=bias)
    routed = with_experts(config, dense, EXPERT_LAYER, router_bias=True)
    first = config.natural("first_k_dense_replace")
    layers = [dense if i < first else routed for i in range(layer_count(config))]
    if config.flag("use_qk_norm", False):
        layers = [
            dataclasses.replace(b, operators=before(b.operators, "rotary", "qk_norm"))
            for b in layers
        ]
    return decoder(config, layers)


def with_experts(
    config: Config, dense: Block, operators: tuple[str, ...], *, router_bias: bool
) -> Block:
    """The layer with routed and shared experts in place of its feed-forward, DeepSeek's keys."""
    experts, used = config.experts("n_routed_experts", "num_experts_per_tok")
    size = config.size("moe_intermediate_size")
    return dataclasses.replace(
        dense,
        operators=operators,
        ffn_size=size,
        experts=experts,
        experts_per_token=used,
        shared_size=size * config.size("n_shared_experts", default=1),
        router_bias=int(router_bias),
    )
