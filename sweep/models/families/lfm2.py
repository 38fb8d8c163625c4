"""LFM2: gated short convolutions in most layers, attention in some."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, know, read_decoder
from sweep.models.state_layers import FULL, kinds, short_convolution, with_mixer
from sweep.models.traits import ALWAYS, Experts, Switch, Traits, Windows

Adjustment = Callable[[Config, int], int]
"""Function from a config and the feed-forward width it states to the width that it means."""
CONVOLUTION = "conv"
TRAITS = Traits(
    qk_norm=ALWAYS,
    tied=True,
    windows=Windows(others=(CONVOLUTION,)),
    defaults={"kv_heads": 8},
    nested={
        "hidden_size": 2560,
        "ffn_size": 12_288,
        "layers": 32,
        "heads": 32,
        "vocab_size": 65_536,
    },
)
MOE_TRAITS = replace(
    TRAITS,
    experts=Experts(router_bias=Switch(("routing_bias",), on=True), dense_first=2),
    nested={
        **TRAITS.nested,
        "hidden_size": 2048,
        "ffn_size": 7168,
        "expert_size": 1792,
        "experts": 32,
        "experts_per_token": 4,
    },
)
SAME_SIZES = (
    *("block_dim", "block_norm_eps", "block_use_xavier_init", "conv_use_xavier_init"),
    *("block_mlp_init_scale", "block_out_init_scale", "use_pos_enc", "theta"),
)
"""Keys that repeat another or belong to the training."""


def read_lfm2(config: Config) -> tuple[Block, ...]:
    """Read LFM2, or the text part of LFM2-VL.

    Raises:
        SpecError: A key is missing or malformed.
    """
    return _read(config, TRAITS, _adjusted)


def read_lfm2_moe(config: Config) -> tuple[Block, ...]:
    """Read LFM2-MoE.

    Raises:
        SpecError: A key is missing or malformed.
    """
    return _read(config, MOE_TRAITS, lambda config, size: size)


def _read(config: Config, traits: Traits, adjusted: Adjustment) -> tuple[Block, ...]:
    config.passes_over(*SAME_SIZES)
    if not config.flag("block_use_swiglu", True):
        raise config.error("block_use_swiglu", "false is not supported")
    know(config, traits)
    tied = config.flag(("tie_embedding", "tie_word_embeddings"), traits.tied)
    listed = _kinds(config, config.size("layers"))
    mixer = short_convolution(config, config.size("hidden_size"))

    def change(index: int, layer: Block) -> Block:
        if not layer.experts:
            layer = dataclasses.replace(layer, ffn_size=adjusted(config, int(layer.ffn_size)))
        return with_mixer(layer, mixer) if listed[index] == CONVOLUTION else layer

    *others, head = read_decoder(config, traits, each(change))
    return (*others, dataclasses.replace(head, untied=int(not tied)))


def _kinds(config: Config, count: int) -> list[str]:
    """Return the kind of each layer, as a list says or the numbers of those with attention."""
    attending = config.integers("full_attn_idxs")
    if config.given("layer_kinds") is not None:
        return kinds(config, count, (FULL, CONVOLUTION), 1)
    if "full_attn_idxs" not in config:
        return [FULL] * count
    if not all(0 <= index < count for index in attending):
        raise config.error("full_attn_idxs", f"must number layers from 0 to {count - 1}")
    return [FULL if index in attending else CONVOLUTION for index in range(count)]


def _adjusted(config: Config, size: int) -> int:
    """Return two thirds of a width, times a factor, rounded up to a multiple. [count]"""
    if not config.flag("block_auto_adjust_ff_dim", True):
        config.passes_over("block_ffn_dim_multiplier", "block_multiple_of")
        return size
    factor = config.get("block_ffn_dim_multiplier", 1.0)
    size = int(2 * size / 3)
    if factor is None:
        return max(size, 1)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= 1000:
        problem = f"must be a number above 0 and at most 1000, not {factor!r:.40}"
        raise config.error("block_ffn_dim_multiplier", problem)
    multiple = config.size("block_multiple_of", default=256)
    return multiple * max(-(-int(factor * size) // multiple), 1)
