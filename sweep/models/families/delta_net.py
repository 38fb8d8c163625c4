"""Layers with a gated delta net among layers with attention: Qwen3-Next, Qwen3.5, OLMo-Hybrid."""

import dataclasses
from dataclasses import replace

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import Reader, each, know, read_decoder
from sweep.models.layers import GATED_FFN, pre_norm
from sweep.models.state_layers import (
    FULL,
    LINEAR,
    delta_net,
    kinds,
    with_mixer,
    without_attention,
    without_rotary,
)
from sweep.models.traits import ALWAYS, Biases, Experts, Switch, Traits, Windows

KINDS = (FULL, LINEAR)
WINDOWS = Windows(others=(LINEAR, "mamba"))
PERIOD = 4
"""Every how many layers one has attention, where no key says. [count]"""
SHARED_SIZE = 512
"""Width of the shared expert where no key says. [count]"""
QWEN_NET = {"groups": 16, "heads": 32, "key_dim": 128, "value_dim": 128}
QWEN_ATTENTION = {"head_dim": 256}
QWEN3_5 = Traits(
    qk_norm=ALWAYS,
    gate="width",
    rotary_share=0.25,
    windows=WINDOWS,
    defaults=QWEN_ATTENTION,
    nested={
        "hidden_size": 4096,
        "ffn_size": 12_288,
        "layers": 32,
        "heads": 16,
        "kv_heads": 4,
        "vocab_size": 248_320,
        **QWEN_ATTENTION,
    },
)
QWEN_EXPERTS = Experts(shared=True, shared_count=1, shared_gate=True)
QWEN3_5_MOE = replace(
    QWEN3_5,
    experts=QWEN_EXPERTS,
    nested={
        **QWEN3_5.nested,
        "hidden_size": 2048,
        "layers": 40,
        "kv_heads": 2,
        "experts": 256,
        "experts_per_token": 8,
        "expert_size": 512,
    },
)
QWEN3_NEXT = replace(QWEN3_5, experts=QWEN_EXPERTS, nested={})
ATTENTION_BIAS = Switch(("attention_bias",))
OLMO = Traits(
    norm_place="after",
    qk_norm=ALWAYS,
    qk_norm_over="width",
    biases=Biases(qkv=ATTENTION_BIAS, output=ATTENTION_BIAS),
    windows=WINDOWS,
)


def qwen_next(traits: Traits) -> Reader:
    """Return the reader of Qwen3-Next, or of the text part of Qwen3.5 and Qwen3.6."""
    return lambda config: _read_qwen(config, traits)


def _read_qwen(config: Config, traits: Traits) -> tuple[Block, ...]:
    config.passes_over("output_gate_type")
    if config.flag("attention_bias", False):
        raise config.error("attention_bias", "true is not supported with a gate on the output")
    if not config.flag("attn_output_gate", True):
        raise config.error("attn_output_gate", "false is not supported")
    know(config, traits)
    listed = kinds(config, config.size("layers"), KINDS, PERIOD)
    mixer = delta_net(config, QWEN_NET)

    def change(index: int, layer: Block) -> Block:
        if layer.experts and config.given("shared_size") is None:
            layer = dataclasses.replace(layer, shared_size=SHARED_SIZE)
        return with_mixer(layer, mixer) if listed[index] == LINEAR else layer

    return read_decoder(config, traits, each(change))


def read_olmo_hybrid(config: Config) -> tuple[Block, ...]:
    """Read OLMo-Hybrid, whose norms follow attention but precede a delta net.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("linear_a_log_min", "linear_a_log_max", "linear_allow_neg_eigval")
    config.passes_over("linear_dt_min", "linear_dt_max", "linear_dt_init_floor")
    know(config, OLMO)
    count, heads = config.size("layers"), config.size("heads")
    hidden_size = config.size("hidden_size")
    listed = kinds(config, count, KINDS, PERIOD)
    if FULL not in listed and config.given("layer_kinds") is None:
        listed[-1] = FULL
    groups = config.size("linear_num_key_heads", default=heads)
    key_dim = config.size("linear_key_head_dim", default=max(3 * hidden_size // (4 * groups), 1))
    sizes = {"groups": heads, "heads": heads, "key_dim": key_dim, "value_dim": 2 * key_dim}
    mixer, rotated = delta_net(config, sizes), _rotates(config)

    def change(index: int, layer: Block) -> Block:
        if listed[index] == LINEAR:
            operators = pre_norm(mixer.operators, GATED_FFN)
            plain = without_attention(layer)
            return dataclasses.replace(plain, operators=operators, state=mixer.state)
        return layer if rotated else without_rotary(layer)

    return read_decoder(config, OLMO, each(change))


def _rotates(config: Config) -> bool:
    """Whether attention depends on positions, which a base of the rotation says."""
    rope = config.get("rope_parameters")
    return "rope_theta" in config or (isinstance(rope, dict) and rope.get("rope_theta") is not None)
