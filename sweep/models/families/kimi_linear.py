"""Kimi Linear and Kimi K3: delta attention with decays of each channel beside latent attention."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, know, read_decoder
from sweep.models.layers import before, on_latent
from sweep.models.state_layers import (
    FULL,
    LINEAR,
    Mixer,
    kimi_delta_attention,
    kinds,
    with_mixer,
    without_rotary,
)
from sweep.models.traits import ALWAYS, Experts, Traits, Windows

SECTION = "linear_attn_config"
"""Section with the sizes of delta attention, and lists of layers counted from 1."""
TRAITS = Traits(
    latent=True,
    experts=Experts(shared=True, shared_count=1, router_bias=ALWAYS, dense_first=1),
    windows=Windows(others=(LINEAR,)),
    defaults={
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    },
)


def read_kimi_linear(config: Config) -> tuple[Block, ...]:
    """Read Kimi Linear, or the text part of Kimi K3.

    Raises:
        SpecError: A key is missing or malformed.
    """
    know(config, TRAITS)
    if config.flag("tie_word_embeddings", False):
        raise config.error("tie_word_embeddings", "true is not supported")
    count = config.size("layers")
    section = config.section(SECTION)
    listed, mixer = _kinds(config, section, count), _mixer(section)
    rotated = not config.flag("mla_use_nope", True)
    gated = config.flag("mla_use_output_gate", False)
    latent = _expert_latent(config)
    norm = config.flag("latent_moe_use_norm", False)
    period = config.size("attn_res_block_size") if "attn_res_block_size" in config else None

    def change(index: int, layer: Block) -> Block:
        if latent and layer.experts:
            operators = on_latent(layer.operators, norm=norm)
            layer = dataclasses.replace(layer, operators=operators, expert_latent=latent)
        if listed[index] == LINEAR:
            layer = with_mixer(layer, mixer)
        else:
            layer = _gated(layer) if gated else layer
            layer = layer if rotated else without_rotary(layer)
        return layer if period is None else _over_residuals(layer, count, period)

    embedding, *layers, head = read_decoder(config, TRAITS, each(change))
    if period is not None:
        operators = before(head.operators, "final_norm", "final_residual_attention")
        blocks = -(-count // period)
        head = dataclasses.replace(head, operators=operators, sources=blocks + 1)
    return (embedding, *layers, head)


def _mixer(section: Config) -> Mixer:
    own = section.where.endswith(SECTION)
    section.passes_over("gate_lower_bound")
    return kimi_delta_attention(
        heads=section.size("num_heads" if own else "linear_num_heads", default=32),
        head_dim=section.size("head_dim" if own else "linear_head_dim", default=128),
        kernel=section.size(
            "short_conv_kernel_size" if own else "linear_conv_kernel_dim", default=4
        ),
        full_rank=section.flag("use_full_rank_gate", False),
    )


def _kinds(config: Config, section: Config, count: int) -> list[str]:
    """Return the kind of each layer: those of the section, of a list, or every fourth."""
    keys = ("full_attn_layers", "kda_layers")
    if config.given("layer_kinds") is not None:
        section.passes_over(*keys)
        return kinds(config, count, (FULL, LINEAR), 1)
    if not any(key in section for key in keys):
        return [FULL if index and index % 4 == 0 else LINEAR for index in range(count)]
    full, linear = (section.integers(key) for key in keys)
    if sorted([*full, *linear]) != list(range(1, count + 1)):
        problem = f"must number each of the layers 1 to {count} once, together with {keys[1]}"
        raise section.error(keys[0], problem)
    return [FULL if index + 1 in full else LINEAR for index in range(count)]


def _expert_latent(config: Config) -> int:
    """Return the width that routed experts work on, 0 for that of the residual stream. [count]"""
    key = "routed_expert_hidden_size"
    return config.size(key) if key in config else 0


def _gated(layer: Block) -> Block:
    """Gate each element of the output of latent attention."""
    operators = before(layer.operators, "latent_attention", "attention_gate_projection")
    operators = before(operators, "latent_output_projection", "latent_gate")
    width = int(layer.heads) * int(layer.value_dim)
    return dataclasses.replace(layer, operators=operators, gate_size=width)


def _over_residuals(layer: Block, count: int, period: int) -> Block:
    """Let both halves of a layer read a weighted sum of the outputs of blocks of `period` layers.

    A layer reads the sums of the blocks before its own, the embedding among them, and that of its
    own so far. All layers count as their mean, rounded.
    """
    attention = (-(-index // period) + 1 for index in range(count))
    ffn = (index // period + 2 for index in range(count))
    mean = (sum(attention) + sum(ffn)) / (2 * count)
    operators = before(layer.operators, "attention_norm", "attention_residual_attention")
    operators = before(operators, "ffn_norm", "ffn_residual_attention")
    return dataclasses.replace(layer, operators=operators, sources=round(mean))
