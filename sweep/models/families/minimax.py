"""MiniMax-Text-01 and M1: lightning attention in most layers, experts in all."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, know, read_decoder
from sweep.models.state_layers import FULL, LINEAR, kinds, lightning, with_mixer
from sweep.models.traits import Experts, Traits, Windows

TRAITS = Traits(
    experts=Experts(width="ffn"),
    windows=Windows(others=(LINEAR, "lightning_attention")),
    defaults={"kv_heads": 8},
)
RESIDUALS = (
    *("full_attn_alpha_factor", "full_attn_beta_factor", "linear_attn_alpha_factor"),
    *("linear_attn_beta_factor", "mlp_alpha_factor", "mlp_beta_factor", "postnorm"),
    *("shared_moe_mode", "layernorm_full_attention_alpha", "layernorm_full_attention_beta"),
    *("layernorm_linear_attention_alpha", "layernorm_linear_attention_beta"),
    *("layernorm_mlp_alpha", "layernorm_mlp_beta"),
)
"""Keys of the weights of residual sums, which change no size or work."""


def read_minimax(config: Config) -> tuple[Block, ...]:
    """Read MiniMax-Text-01.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over(*RESIDUALS)
    know(config, TRAITS)
    if config.given("window") is not None:
        raise config.error("sliding_window", "is not supported with lightning attention")
    heads = config.size("heads")
    head_dim = config.head_dim(config.size("hidden_size"), heads)
    listed, mixer = _kinds(config, config.size("layers")), lightning(config, heads, head_dim)

    def change(index: int, layer: Block) -> Block:
        return with_mixer(layer, mixer) if listed[index] == LINEAR else layer

    return read_decoder(config, TRAITS, each(change))


def _kinds(config: Config, count: int) -> list[str]:
    """Return the kind of each layer, from either of two lists, else alternating."""
    marks = config.per_layer("attn_type_list", count)
    if config.given("layer_kinds") is not None:
        return kinds(config, count, (FULL, LINEAR), 1)
    if marks is None:
        return [LINEAR if index % 2 else FULL for index in range(count)]
    if any(type(mark) is not int or mark not in (0, 1) for mark in marks):
        raise config.error("attn_type_list", "must be a list of 0 (lightning) and 1 (full)")
    return [FULL if mark else LINEAR for mark in marks]
