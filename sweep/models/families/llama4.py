"""Llama 4: routed and shared experts in some layers, chunked attention in most."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layer_kinds import no_rotary
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    GATED_FFN,
    RMS_NORM,
    SHARED_EXPERT,
    before,
    embedding,
    grouped,
    head,
    pre_norm,
    with_window,
    without,
)

DENSE_LAYER = pre_norm(ATTENTION, GATED_FFN)
EXPERT_LAYER = pre_norm(ATTENTION, (*SHARED_EXPERT, *EXPERTS))
FULL_ATTENTION_STEP = 4
"""Every fourth layer attends to the whole context and has no rotary embedding."""
DEFAULT_CHUNK = 8192
DEFAULT_HEAD_DIM = 128


def read_llama4(config: Config) -> tuple[Block, ...]:
    """Read the text part of Llama 4 Scout or Maverick."""
    count = config.size("layers")
    routed_layers = _routed(config, count)
    unrotated = no_rotary(config, count, period=FULL_ATTENTION_STEP)
    chunk = config.size("attention_chunk_size", default=DEFAULT_CHUNK)
    norm = config.flag("use_qk_norm", True)
    dense, routed = _kinds(config)
    layers = [
        _attend(routed if routed_layers[i] else dense, chunk, full=unrotated[i], norm=norm)
        for i in range(count)
    ]
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    tied = config.flag("tie_word_embeddings", False)
    return (
        embedding(vocab_size, hidden_size),
        *grouped(layers),
        head(vocab_size, hidden_size, tied=tied),
    )


def _routed(config: Config, count: int) -> list[bool]:
    """Routed layers: those of a list, or every `interleave_moe_layer_step`-th."""
    step = config.size("interleave_moe_layer_step", default=1)
    listed = config.integers("moe_layers")
    if listed:
        return [layer in listed for layer in range(count)]
    return [(layer + 1) % step == 0 for layer in range(count)]


def _kinds(config: Config) -> tuple[Block, Block]:
    """Read a dense layer and a routed one."""
    hidden_size, heads = config.size("hidden_size"), config.size("heads")
    head_dim = config.size("head_dim", default=DEFAULT_HEAD_DIM)
    bias = int(config.flag("attention_bias", False))
    dense = Block(
        DENSE_LAYER,
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        heads=heads,
        kv_heads=config.kv_heads("kv_heads", heads=heads),
        head_dim=head_dim,
        rotary_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        ffn_size=config.size("intermediate_size_mlp"),
    )
    experts, used = config.experts()
    expert_size = config.size("intermediate_size")
    return dense, dataclasses.replace(
        dense,
        operators=EXPERT_LAYER,
        ffn_size=expert_size,
        experts=experts,
        experts_per_token=used,
        shared_size=expert_size,
    )


def _attend(layer: Block, chunk: int, *, full: bool, norm: bool) -> Block:
    """Attend to the whole context, or rotate and attend to chunks of it."""
    if full:
        return dataclasses.replace(
            layer, operators=without(layer.operators, "rotary"), rotary_dim=0
        )
    if norm:
        operators = before(layer.operators, "kv_cache_append", "qk_unit_norm")
        layer = dataclasses.replace(layer, operators=operators)
    return with_window(layer, chunk, "chunked")
