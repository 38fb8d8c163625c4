"""MiniMax-M3: an indexer selects blocks of tokens for each KV head.

Layers and weights are those of `MiniMaxM3VLForCausalLM` of Hugging Face Transformers.
"""

import dataclasses
from typing import Any

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, read_decoder
from sweep.models.layers import before, replaced
from sweep.models.traits import Experts, Switch, Traits

TRAITS = Traits(
    qk_norm=Switch(("use_qk_norm",), on=True),
    experts=Experts(shared=True, shared_count=1, router_bias=Switch(on=True)),
)
SECTION = "sparse_attention_config"
INDEXER = (
    "block_index_projection",
    "block_index_norm",
    "block_index_rotary",
    "block_index_cache_append",
    "block_index_scores",
    "block_index_selection",
)


def read_minimax_m3(config: Config) -> tuple[Block, ...]:
    """Read MiniMax-M3.

    Raises:
        SpecError: A key is missing or malformed, or says something that is not supported.
    """
    if not config.flag("use_routing_bias", True):
        raise config.error("use_routing_bias", "false is not supported")
    config.passes_over("swiglu_limit", "swiglu_alpha")
    traits = dataclasses.replace(TRAITS, defaults=_class_sizes(config))
    if SECTION not in config:
        raise config.error(SECTION, "missing; it lists the layers that select what they read")
    section = config.section(SECTION)
    sparse, sizes = _sparse_layers(section, config.size("layers")), _index_sizes(section)
    heads = config.size("kv_heads")
    if any(sparse) and sizes["index_heads"] != heads:
        problem = f"must be the {heads} KV heads, not {sizes['index_heads']}"
        raise config.error(f"{SECTION}: sparse_num_index_heads", problem)

    def change(number: int, layer: Block) -> Block:
        if not sparse[number]:
            return layer
        operators = replaced(layer.operators, "attention", "selected_attention")
        for name in INDEXER:
            operators = before(operators, "selected_attention", name)
        return dataclasses.replace(layer, operators=operators, **sizes)

    return read_decoder(config, traits, each(change))


def _class_sizes(config: Config) -> dict[str, int]:
    """Return the class's width of a head, and of an expert, which is that of its feed-forward."""
    width = config.size("intermediate_size")
    own = config.size("moe_intermediate_size", default=width)
    if own != width:
        raise config.error("moe_intermediate_size", f"differs from intermediate_size, {width}")
    config.size("dense_intermediate_size")
    config.size("shared_size", default=1)
    shared = config.natural("shared_experts", 1)
    if shared != 1:
        raise config.error("n_shared_experts", f"must be 1, as in the published code, not {shared}")
    return {"head_dim": 128, "expert_size": width}


def _sparse_layers(section: Config, layers: int) -> list[bool]:
    """Return which layers select blocks of tokens.

    Raises:
        SpecError: The lists are missing or malformed, or switch on a part that is unknown.
    """
    frequency = _marks(section, "sparse_attention_freq", layers)
    if frequency is None:
        raise section.error("sparse_attention_freq", f"missing; it lists {layers} layers")
    without_values = _marks(section, "sparse_disable_index_value", layers) or frequency
    if not section.flag("use_sparse_attention", True):
        return [False] * layers
    if any(sparse and not off for sparse, off in zip(frequency, without_values, strict=True)):
        raise section.error("sparse_disable_index_value", "0 is not supported in a sparse layer")
    if section.get("sparse_score_type", "max") != "max":
        raise section.error("sparse_score_type", "only 'max' is supported")
    if section.natural("sparse_init_block"):
        raise section.error("sparse_init_block", "only 0 is supported")
    return frequency


def _marks(section: Config, key: str, layers: int) -> list[bool] | None:
    marks = section.per_layer(key, layers)
    if marks is not None and any(type(mark) is not int or mark not in (0, 1) for mark in marks):
        raise section.error(key, "must be a list of 0 and 1")
    return None if marks is None else [mark == 1 for mark in marks]


def _index_sizes(section: Config) -> dict[str, Any]:
    block, blocks = section.size("sparse_block_size"), section.size("sparse_topk_blocks")
    local = section.natural("sparse_local_block")
    if local > blocks:
        raise section.error("sparse_local_block", f"{local} is more than the {blocks} selected")
    return {
        "index_heads": section.size("sparse_num_index_heads"),
        "index_dim": section.size("sparse_index_dim"),
        "index_block": block,
        "selected": block * blocks,
    }
