"""Mamba beside attention: Falcon-H1 in one layer, Bamba, Granite 4 and Jamba in different ones."""

import dataclasses
from dataclasses import replace

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, know, read_decoder
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    GATED_FFN,
    RMS_NORM,
    before,
    embedding,
    grouped,
    head,
    pre_norm,
    without,
)
from sweep.models.mamba_layers import MambaKeys, mamba1, mamba2
from sweep.models.state_layers import FULL, LINEAR, kinds, with_mixer, without_rotary
from sweep.models.traits import Biases, Experts, Switch, Traits, Windows

KEYS = MambaKeys(
    defaults={
        "mamba_n_heads": 128,
        "mamba_d_state": 256,
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "mamba_chunk_size": 256,
        "mamba_expand": 2,
    }
)
FALCON_KEYS = replace(KEYS, out_bias="projectors_bias")
JAMBA_KEYS = MambaKeys(defaults={"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2})
FALCON_WIDTH = 1024
"""Width of Falcon-H1's mixer where no key gives it; `null` means hidden size times `expand`."""
BIAS, FFN_BIAS = Switch(("attention_bias",)), Switch(("mlp_bias",))
HYBRID = Traits(
    biases=Biases(qkv=BIAS, output=BIAS, ffn=FFN_BIAS),
    windows=Windows(others=("hybrid", "mamba", LINEAR)),
    defaults={"kv_heads": 8},
)
BAMBA = replace(HYBRID, rotary_share=0.5)
GRANITE = replace(HYBRID, biases=Biases(qkv=BIAS, output=BIAS), defaults={})
GRANITE_EXPERTS = Experts(width="ffn", shared=True)


def read_falcon_h1(config: Config) -> tuple[Block, ...]:
    """Read Falcon-H1, whose layers sum attention and Mamba-2 over the same input.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("num_logits_to_keep", "attn_layer_indices", "mamba_use_mlp")
    know(config, HYBRID)
    width = config.get("mamba_d_ssm", FALCON_WIDTH)
    mixer = mamba2(
        config,
        FALCON_KEYS,
        width=None if width is None else config.size("mamba_d_ssm", default=FALCON_WIDTH),
        norm=config.flag("mamba_rms_norm", False),
    )

    def change(_: int, layer: Block) -> Block:
        index = layer.operators.index("attention_all_reduce")
        operators = (*layer.operators[:index], *mixer.operators, *layer.operators[index:])
        operators = before(operators, "attention_residual", "mixer_residual")
        return dataclasses.replace(layer, operators=operators, state=mixer.state)

    return read_decoder(config, HYBRID, each(change))


def read_bamba(config: Config) -> tuple[Block, ...]:
    """Read Bamba, with attention in the layers of a list.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("num_logits_to_keep", "z_loss_coefficient", "attn_rotary_emb")
    know(config, BAMBA)
    count, attending = config.size("layers"), config.integers("attn_layer_indices")
    if not all(0 <= index < count for index in attending):
        raise config.error("attn_layer_indices", f"must number layers from 0 to {count - 1}")
    mixer = mamba2(config, KEYS)

    def change(index: int, layer: Block) -> Block:
        return layer if index in attending else with_mixer(layer, mixer)

    return read_decoder(config, BAMBA, each(change))


def read_granite_hybrid(config: Config) -> tuple[Block, ...]:
    """Read Granite 4, with experts and a shared one, or with the shared one alone.

    Raises:
        SpecError: A key is missing or malformed.
    """
    traits = GRANITE
    if config.natural("experts", 8):
        traits = replace(traits, experts=GRANITE_EXPERTS)
    else:
        config.passes_over("num_experts_per_tok")
    know(config, traits)
    count, shared = config.size("layers"), config.size("shared_size")
    listed, mixer = kinds(config, count, (FULL, LINEAR), count + 1), mamba2(config, KEYS)
    rotated = config.get("position_embedding_type") == "rope"

    def change(index: int, layer: Block) -> Block:
        if not layer.experts:
            layer = dataclasses.replace(layer, ffn_size=shared)
        if listed[index] == LINEAR:
            return with_mixer(layer, mixer)
        return layer if rotated else without_rotary(layer)

    return read_decoder(config, traits, each(change))


def read_jamba(config: Config) -> tuple[Block, ...]:
    """Read Jamba, with attention and experts in layers given by periods and offsets.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("num_logits_to_keep", "attn_layer_indices", "layers_block_type")
    config.passes_over("layers_num_experts", "layer_types")
    count, heads = config.size("layers"), config.size("heads")
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    attending = _periodic(config, "attn_layer", 8, 4, count)
    experts = config.size("experts", default=16)
    routed = _periodic(config, "expert_layer", 2, 1, count)
    used = config.size("experts_per_token", default=2)
    base = Block(
        (),
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        heads=heads,
        kv_heads=config.kv_heads("kv_heads", heads=heads),
        head_dim=config.head_dim(hidden_size, heads),
        ffn_size=config.size("ffn_size"),
    )
    if used > experts > 1:
        raise config.error("num_experts_per_tok", f"{used} is more than the {experts} experts")
    mixer = mamba1(config, JAMBA_KEYS, norm=("selection_norm",))

    def layer(index: int) -> Block:
        has_experts = routed[index] and experts > 1
        operators = pre_norm(without(ATTENTION, "rotary"), EXPERTS if has_experts else GATED_FFN)
        found = dataclasses.replace(
            base,
            operators=operators,
            experts=has_experts * experts,
            experts_per_token=has_experts * used,
        )
        return found if attending[index] else with_mixer(found, mixer)

    return (
        embedding(vocab_size, hidden_size),
        *grouped(layer(index) for index in range(count)),
        head(vocab_size, hidden_size, tied=config.flag("tie_word_embeddings", False)),
    )


def _periodic(config: Config, prefix: str, period: int, offset: int, count: int) -> list[bool]:
    """Return which layers are at the offset of a period."""
    every = config.size(f"{prefix}_period", default=period)
    start = config.natural(f"{prefix}_offset", offset)
    if start >= every:
        raise config.error(f"{prefix}_offset", f"{start} is not below the period, {every}")
    return [index % every == start for index in range(count)]
