"""DeepSeek-V4: compressed attention with and without an indexer, and several residual streams.

Layers and weights are those of `DeepseekV4ForCausalLM` of Hugging Face Transformers. The table of
experts by token of a layer that routes by hash holds integers and is not counted.
"""

import dataclasses
from typing import Any

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    EXPERTS,
    RMS_NORM,
    SHARED_EXPERT,
    embedding,
    grouped,
    head,
)

QUERIES = ("query_down_projection", "query_norm", "query_up_projection", "query_unit_norm")
KEYS = ("latent_projection", "shared_kv_norm", "shared_kv_rotary", "latent_cache_append")
COMPRESSION = ("entry_projection", "entry_compression")
INDEXER = (
    "index_entry_projection",
    "index_entry_compression",
    "index_query_projection",
    "index_query_rotary",
    "index_weight_projection",
    "compressed_index_scores",
    "compressed_index_selection",
)
OUTPUT = ("grouped_output_projection", "output_up_projection")
WINDOW, SPARSE, HEAVY = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
PARTS = {
    WINDOW: ("windowed_shared_attention",),
    SPARSE: (
        *COMPRESSION,
        *INDEXER,
        "windowed_shared_attention",
        "selected_compressed_attention",
    ),
    HEAVY: (*COMPRESSION, "windowed_shared_attention", "compressed_attention"),
}
"""Operators of each kind of layer between its keys and its output projection."""
RATES = {WINDOW: 0, SPARSE: 4, HEAVY: 128}
"""Tokens of an entry in each kind of layer, where no key says. [count]"""
SERIES = {SPARSE: 2, HEAVY: 1}
"""Entries that a token contributes to. [count]"""
SCORING = ("sqrtsoftplus", "softmax", "sigmoid")


def read_deepseek_v4(config: Config) -> tuple[Block, ...]:
    """Read DeepSeek-V4.

    Raises:
        SpecError: A key is missing or malformed, or says something that is not supported.
    """
    _check(config)
    count = config.size("layers")
    base, rates = _base(config), _rates(config)
    kinds, hashed = _kinds(config, count), _hashed(config, count)
    sparse = _index_sizes(config)
    layers = [
        _layer(base, kind, rates[kind], sparse if kind == SPARSE else {}, hashed=by_hash)
        for kind, by_hash in zip(kinds, hashed, strict=True)
    ]
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    tied = config.flag("tie_word_embeddings", False)
    return (
        _with_streams(embedding(vocab_size, hidden_size), base, ("embedding", "copy_to_streams")),
        *grouped(layers),
        _with_streams(
            head(vocab_size, hidden_size, tied=tied),
            base,
            ("streams_send", "final_collapse", "final_norm", "lm_head", "sampling"),
        ),
    )


def _check(config: Config) -> None:
    """Refuse what the class does not have, and note what changes no size.

    Raises:
        SpecError: A key switches on another structure.
    """
    for key in ("attention_bias", "mlp_bias"):
        if config.flag(key, False):
            raise config.error(key, "true is not supported with compressed attention")
    if config.size("kv_heads", default=1) != 1:
        raise config.error("num_key_value_heads", "must be 1: all heads share one key")
    scoring = config.get("scoring_func", SCORING[0])
    if scoring not in SCORING:
        raise config.error("scoring_func", f"must be one of {', '.join(SCORING)}")
    config.size("hc_sinkhorn_iters", default=20)
    config.passes_over("hc_eps", "expert_dtype", "compress_rope_theta", "partial_rotary_factor")


def _base(config: Config) -> Block:
    """Read the sizes that all layers share."""
    heads, head_dim = config.size("heads"), config.size("head_dim")
    rotary_dim, groups = config.size("qk_rope_head_dim"), config.size("o_groups")
    if rotary_dim >= head_dim:
        raise config.error("qk_rope_head_dim", f"must be below the head's {head_dim}")
    if heads * head_dim % groups:
        raise config.error("o_groups", f"{groups} does not divide {heads} heads of {head_dim}")
    kept, used = config.experts()
    width, shared = config.size("expert_size"), config.natural("shared_experts", 1)
    if shared != 1:
        raise config.error("n_shared_experts", f"must be 1, as in the published code, not {shared}")
    return Block(
        (),
        hidden_size=config.size("hidden_size"),
        norm_vectors=RMS_NORM,
        heads=heads,
        kv_heads=1,
        head_dim=head_dim - rotary_dim,
        latent_dim=head_dim - rotary_dim,
        rotary_dim=rotary_dim,
        query_rank=config.size("q_lora_rank"),
        output_groups=groups,
        output_rank=groups * config.size("o_lora_rank"),
        streams=config.size("hc_mult"),
        window=config.size("window"),
        ffn_size=width,
        experts=kept,
        experts_per_token=used,
        shared_size=width,
    )


def _index_sizes(config: Config) -> dict[str, Any]:
    """Read the sizes of the indexer."""
    dim, rotary_dim = config.size("index_head_dim"), config.size("qk_rope_head_dim")
    if dim < rotary_dim:
        raise config.error("index_head_dim", f"must not be below qk_rope_head_dim, {rotary_dim}")
    return {
        "index_heads": config.size("index_n_heads"),
        "index_dim": dim,
        "selected": config.size("index_topk"),
    }


def _layer(base: Block, kind: str, rate: int, indexer: dict[str, Any], *, hashed: bool) -> Block:
    attention = (*QUERIES, *KEYS, *PARTS[kind], *OUTPUT)
    return dataclasses.replace(
        base,
        operators=(
            *_half("attention", attention),
            *_half("ffn", (*SHARED_EXPERT, *EXPERTS)),
        ),
        entry_tokens=rate,
        entry_series=SERIES.get(kind, 0),
        router_bias=int(not hashed),
        **indexer,
    )


def _half(name: str, operators: tuple[str, ...]) -> tuple[str, ...]:
    """Operators of half a layer: streams are collapsed into its input and take up its output."""
    return (
        f"{name}_collapse",
        f"{name}_norm",
        *operators,
        f"{name}_all_reduce",
        f"{name}_expand",
    )


def _with_streams(block: Block, base: Block, operators: tuple[str, ...]) -> Block:
    return dataclasses.replace(block, operators=operators, streams=base.streams)


def _rates(config: Config) -> dict[str, int]:
    """Read the tokens of an entry of each kind of layer."""
    if "compress_rates" not in config:
        return RATES
    section = config.section("compress_rates")
    return {WINDOW: 0, SPARSE: section.size(SPARSE), HEAVY: section.size(HEAVY)}


def _kinds(config: Config, count: int) -> list[str]:
    """Read the kind of each layer: by name, or by the tokens of its entries.

    Raises:
        SpecError: The list is missing or malformed, or names an unknown kind.
    """
    names = config.per_layer("layer_types", count)
    if names is not None:
        if any(not isinstance(name, str) or name not in PARTS for name in names):
            raise config.error("layer_types", f"must name {', '.join(PARTS)}")
        return names
    if "compress_ratios" not in config:
        raise config.error("compress_ratios", "missing; it says how each layer compresses")
    ratios = config.integers("compress_ratios")
    further = config.natural("extra_tokens")
    if len(ratios) not in (count, count + further):
        raise config.error("compress_ratios", f"must list {count} layers, not {len(ratios)}")
    kinds = {rate: kind for kind, rate in RATES.items()}
    unknown = sorted({ratio for ratio in ratios[:count] if ratio not in kinds})
    if unknown:
        problem = f"{unknown[0]} is not supported; known are {', '.join(map(str, kinds))}"
        raise config.error("compress_ratios", problem)
    return [kinds[ratio] for ratio in ratios[:count]]


def _hashed(config: Config, count: int) -> list[bool]:
    """Read which layers route each token by a table, without a correction of scores.

    Raises:
        SpecError: The list is malformed, or there are more such layers than layers.
    """
    kinds = config.per_layer("mlp_layer_types", count)
    if kinds is not None:
        if any(kind not in ("hash_moe", "moe") for kind in kinds):
            raise config.error("mlp_layer_types", "must be a list of 'hash_moe' and 'moe'")
        return [kind == "hash_moe" for kind in kinds]
    first = config.natural("num_hash_layers", 3)
    if first > count:
        raise config.error("num_hash_layers", f"{first} is more than the {count} layers")
    return [layer < first for layer in range(count)]
