"""Gemma 4: wider heads in layers without a window, whose values may be their keys."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import read_decoder
from sweep.models.halves import halved
from sweep.models.layer_inputs import with_layer_inputs
from sweep.models.layers import EXPERTS, SHARED_EXPERT, before, replaced
from sweep.models.shared_cache import last_share
from sweep.models.traits import ALWAYS, Biases, Traits, Windows, on_by

BIAS = on_by("attention_bias")
TRAITS = Traits(
    norm_place="around",
    biases=Biases(qkv=BIAS, output=BIAS),
    qk_norm=ALWAYS,
    windows=Windows(where="pattern", size=512, pattern=6),
    tied=True,
    defaults={"head_dim": 256},
    nested={
        "hidden_size": 2304,
        "ffn_size": 9216,
        "layers": 30,
        "heads": 8,
        "kv_heads": 4,
        "vocab_size": 262_144,
    },
)
GLOBAL_HEAD_DIM, INPUT_SIZE = 512, 256
"""Sizes of the class where no key says. [count]"""
GLOBAL_ROTARY_SHARE = 0.25
"""Rotated part of a head without a window where no key says. [1]"""
BRANCHES = (
    *SHARED_EXPERT,
    "dense_all_reduce",
    "dense_output_norm",
    "router_input_norm",
    "expert_input_norm",
    *EXPERTS,
    "ffn_all_reduce",
    "expert_output_norm",
    "branch_sum",
)
"""Operators of a dense feed-forward and experts side by side, each with its norms."""


def read_gemma4(config: Config) -> tuple[Block, ...]:
    """Read the text part of Gemma 4, dense or a mixture of experts.

    Raises:
        SpecError: A key is missing or malformed, or says that attention looks ahead.
    """
    if config.get("use_bidirectional_attention") not in (None, False, "vision"):
        raise config.error("use_bidirectional_attention", "must be 'vision' or null")
    width = config.natural("hidden_size_per_layer_input", INPUT_SIZE)
    blocks = read_decoder(config, TRAITS, lambda layers: _changed(config, layers))
    first, *layers, last = with_layer_inputs(config, blocks, width)
    return first, *halved(layers), last


def _changed(config: Config, layers: list[Block]) -> list[Block]:
    layers = [_own_values(layer) for layer in [*layers[:-1], _without_window(layers[-1])]]
    layers = [layer if layer.window else _global(config, layer) for layer in layers]
    shared = last_share(config, "num_kv_shared_layers", layers, 0)
    if config.flag("use_double_wide_mlp", False):
        shared = [
            dataclasses.replace(new, ffn_size=2 * new.ffn_size) if new is not old else new
            for new, old in zip(shared, layers, strict=True)
        ]
    if not config.flag("enable_moe_block", False):
        config.passes_over("num_experts", "top_k_experts", "moe_intermediate_size")
        return shared
    return [_routed(config, layer) for layer in shared]


def _without_window(layer: Block) -> Block:
    operators = replaced(layer.operators, "windowed_attention", "attention")
    return dataclasses.replace(layer, operators=operators, window=0)


def _own_values(layer: Block) -> Block:
    operators = before(layer.operators, "kv_cache_append", "value_unit_norm")
    return dataclasses.replace(layer, operators=operators)


def _global(config: Config, layer: Block) -> Block:
    """Return a layer that attends to the whole context, with heads of its own sizes."""
    head_dim = config.size("global_head_dim", default=GLOBAL_HEAD_DIM)
    share = _rotary_share(config)
    layer = dataclasses.replace(layer, head_dim=head_dim, rotary_dim=int(head_dim * share))
    heads = int(layer.heads)
    if not config.flag("attention_k_eq_v", False):
        config.passes_over("num_global_key_value_heads")
        return layer
    operators = replaced(layer.operators, "qkv_projection", "tied_kv_projection")
    operators = replaced(operators, "attention", "tied_kv_attention")
    kv_heads = config.size("num_global_key_value_heads", default=int(layer.kv_heads))
    if heads % kv_heads:
        problem = f"{kv_heads} does not divide {heads} query heads"
        raise config.error("num_global_key_value_heads", problem)
    return dataclasses.replace(layer, operators=operators, kv_heads=kv_heads)


def _rotary_share(config: Config) -> float:
    rope = config.get("rope_parameters")
    if rope is None:
        return GLOBAL_ROTARY_SHARE
    section = rope.get("full_attention") if isinstance(rope, dict) else rope
    if not isinstance(section, dict):
        problem = f"must be a mapping with full_attention, not {rope!r:.40}"
        raise config.error("rope_parameters", problem)
    stated = Config(section, f"{config.where}: rope_parameters: full_attention")
    return stated.fraction("partial_rotary_factor", 1.0)


def _routed(config: Config, layer: Block) -> Block:
    """Return the layer with experts beside its feed-forward."""
    experts, used = config.size("num_experts"), config.size("top_k_experts")
    if used > experts:
        raise config.error("top_k_experts", f"{used} is more than the {experts} experts")
    start = layer.operators.index("gate_up_projection")
    end = layer.operators.index("ffn_output_norm")
    return dataclasses.replace(
        layer,
        operators=(*layer.operators[:start], *BRANCHES, *layer.operators[end:]),
        shared_size=layer.ffn_size,
        ffn_size=config.size("moe_intermediate_size"),
        experts=experts,
        experts_per_token=used,
        # The router weighs each expert by a number of its own, as many as a bias has.
        router_bias=1,
    )
