"""Llama 4: routed and shared experts in some layers, chunked attention in most."""

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
    with_window,
    without,
)
from sweep.models.layers import LAYER as DENSE_LAYER

EXPERT_LAYER = pre_norm(ATTENTION, (*SHARED_EXPERT, *EXPERTS))
FULL_ATTENTION_STEP = 4
"""Every fourth layer attends to the whole context and has no rotary embedding."""
DEFAULT_CHUNK = 8192


def read_llama4(config: Config) -> tuple[Block, ...]:
    """Llama 4 Scout and Maverick, the text part."""
    text = config.section("text_config")
    bias = text.flag("attention_bias", False)
    experts, used = text.experts("num_local_experts", "num_experts_per_tok")
    base = gated_layer(text, DENSE_LAYER, qkv_bias=bias, output_bias=bias, head_dim=128)
    expert_size = base.ffn_size
    dense = dataclasses.replace(base, ffn_size=text.size("intermediate_size_mlp"))
    routed = dataclasses.replace(
        base,
        operators=EXPERT_LAYER,
        experts=experts,
        experts_per_token=used,
        shared_size=expert_size,
    )
    step = text.size("interleave_moe_layer_step", default=1)
    chunk = text.size("attention_chunk_size", default=DEFAULT_CHUNK)
    norm = text.flag("use_qk_norm", True)
    layers = [
        _attend(routed if (i + 1) % step == 0 else dense, i, chunk, norm=norm)
        for i in range(layer_count(text))
    ]
    return decoder(text, layers)


def _attend(layer: Block, index: int, chunk: int, *, norm: bool) -> Block:
    """The layer with full attention, or with rotary embedding and attention in chunks."""
    if (index + 1) % FULL_ATTENTION_STEP == 0:
        return dataclasses.replace(
            layer, operators=without(layer.operators, "rotary"), rotary_dim=0
        )
    if norm:
        operators = before(layer.operators, "kv_cache_append", "qk_unit_norm")
        layer = dataclasses.replace(layer, operators=operators)
    return with_window(layer, chunk, "chunked")
