"""Reads a decoder by its parts: keys of the config say what it has, its class the rest."""

import dataclasses
from collections.abc import Callable
from functools import cache

from sweep.kernel.block import Block
from sweep.models import layer_kinds
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    EXPERTS,
    GATED_FFN,
    PLAIN_FFN,
    SHARED_EXPERT,
    before,
    embedding,
    grouped,
    head,
    replaced,
    with_window,
    without,
)
from sweep.models.spellings import spellings
from sweep.models.traits import Experts, Traits

OF_EXPERTS = (
    *("moe_layer_freq", "first_k_dense_replace"),
    *(
        key
        for fact in ("experts_per_token", "expert_size", "shared_experts", "shared_size")
        for key in spellings(fact)
    ),
)
"""Keys that say nothing of a model without experts."""
Reader = Callable[[Config], tuple[Block, ...]]
Change = Callable[[list[Block]], list[Block]]
"""Function from layers, in order, that traits describe to layers as a family has them."""


def each(change: Callable[[int, Block], Block]) -> Change:
    """Return the change of all layers that changes each by its index."""
    return lambda layers: [change(index, layer) for index, layer in enumerate(layers)]


def decoder(traits: Traits) -> Reader:
    """Return the reader of a family with these traits."""
    return lambda config: read_decoder(config, traits)


def read_decoder(config: Config, traits: Traits, change: Change | None = None) -> tuple[Block, ...]:
    """Read embedding, layers and head of a decoder.

    Args:
        config: The published config.
        traits: What the class of the family is like.
        change: Changes the layers that traits cannot describe.

    Raises:
        SpecError: A key is missing or malformed, or says something that is not supported.
    """
    know(config, traits)
    layers = _layers(config, traits)
    if change is not None:
        layers = change(layers)
    return (_embedding(config, traits), *grouped(layers), _head(config, traits))


def know(config: Config, traits: Traits) -> None:
    """Let a config find the sizes that its class knows, and those in nested sections."""
    config.lift(*traits.sections)
    config.class_sizes = {**traits.defaults, **(traits.nested if config.nested else {})}


def _embedding(config: Config, traits: Traits) -> Block:
    block = embedding(config.size("vocab_size"), config.size("hidden_size"))
    if traits.positions == "learned":
        return dataclasses.replace(
            block,
            operators=("embedding", "position_embedding"),
            positions=config.size("positions"),
        )
    if traits.embedding_norm:
        return dataclasses.replace(
            block, operators=("embedding", "embedding_norm"), norm_vectors=traits.norm_vectors
        )
    return block


def _head(config: Config, traits: Traits) -> Block:
    block = head(
        config.size("vocab_size"),
        config.size("hidden_size"),
        tied=config.flag("tie_word_embeddings", traits.tied),
        norm_vectors=traits.norm_vectors,
    )
    return dataclasses.replace(block, head_bias=int(traits.biases.head.read(config)))


def _layers(config: Config, traits: Traits) -> list[Block]:
    count = config.size("layers")
    base = _base(config, traits)
    windows = layer_kinds.windows(config, traits.windows, count)
    unrotated = layer_kinds.unrotated(config, traits, windows, count)
    dense, routed = dataclasses.replace(base, operators=_layer(config, traits, base)), None
    is_routed = [False] * count
    if traits.experts is not None and _has_experts(config, traits.experts):
        routed = _routed(config, traits, traits.experts, base, count)
        is_routed = layer_kinds.routed(config, traits.experts, count)
    sized = not all(is_routed) or config.given("ffn_size", "dense_size") is not None
    ffn_sizes = _ffn_sizes(config, traits, count) if sized else [0] * count

    # Most layers are alike, and a block takes long to copy.
    @cache
    def layer(expert: bool, window: int | None, rotated: bool, ffn_size: int) -> Block:
        sinks = traits.sinks == "all" or (traits.sinks == "windows" and window is not None)
        found = routed if routed is not None and expert else dense
        own = found.ffn_size if found.experts else ffn_size
        found = dataclasses.replace(found, sinks=int(sinks), ffn_size=own)
        return with_window(found if rotated else _unrotated(found), window)

    kinds = zip(is_routed, windows, unrotated, ffn_sizes, strict=True)
    return [layer(expert, window, not plain, size) for expert, window, plain, size in kinds]


def _base(config: Config, traits: Traits) -> Block:
    """Read the sizes of attention, and what surrounds it."""
    hidden_size = config.size("hidden_size")
    heads = config.size("heads")
    base = Block(
        (),
        hidden_size=hidden_size,
        norm_vectors=traits.norm_vectors,
        heads=heads,
        ffn_bias=int(traits.biases.ffn.read(config)),
    )
    if traits.latent:
        return _with_latents(config, base)
    head_dim = config.head_dim(hidden_size, heads)
    shared = traits.one_kv_head.read(config)
    if shared:
        config.given("kv_heads")
    return dataclasses.replace(
        base,
        kv_heads=1 if shared else config.kv_heads("kv_heads", heads=heads),
        head_dim=head_dim,
        rotary_dim=_rotary_dim(config, traits, head_dim),
        qkv_bias=int(traits.biases.qkv.read(config)),
        output_bias=int(traits.biases.output.read(config)),
        gate_size={"none": 0, "heads": heads, "width": heads * head_dim}[traits.gate],
    )


def _with_latents(config: Config, base: Block) -> Block:
    """Add the sizes of latent attention."""
    if config.flag("attention_bias", False):
        raise config.error("attention_bias", "true is not supported with latent attention")
    config.passes_over("num_key_value_heads", "head_dim", "qk_head_dim")
    config.require("q_lora_rank", none="write null if queries are not compressed")
    return dataclasses.replace(
        base,
        kv_heads=1,
        head_dim=config.size("qk_nope_head_dim"),
        rotary_dim=config.size("qk_rope_head_dim"),
        value_dim=config.size("v_head_dim"),
        latent_dim=config.size("kv_lora_rank"),
        query_rank=config.size("q_lora_rank") if "q_lora_rank" in config else 0,
    )


def _rotary_dim(config: Config, traits: Traits, head_dim: int) -> int:
    if traits.positions != "rotary":
        return 0
    share = config.fraction("rotary_share", traits.rotary_share)
    rope = config.get("rope_parameters")
    if config.given("rotary_share") is None and isinstance(rope, dict):
        stated = Config(rope, f"{config.where}: rope_parameters")
        share = stated.fraction("rotary_share", share)
    rotary_dim = config.size("rotary_dim", default=int(head_dim * share))
    if rotary_dim > head_dim:
        raise config.error("rotary_dim", f"{rotary_dim} is more than the head's {head_dim}")
    return rotary_dim


def _ffn_sizes(config: Config, traits: Traits, count: int) -> list[int]:
    """Width of the feed-forward in each layer; a config may list one for each."""
    key = config.given("ffn_size")
    if key is not None and isinstance(config.get(key), list):
        return [size // traits.ffn_divisor for size in config.sizes("ffn_size", count)]
    return [_ffn_size(config, traits)] * count


def _ffn_size(config: Config, traits: Traits) -> int:
    key = config.given("dense_size")
    if key is not None:
        config.passes_over("intermediate_size")
        return config.size("dense_size")
    default = None
    if traits.ffn_ratio:
        ratio = config.size("expansion_ratio", default=traits.ffn_ratio)
        default = ratio * config.size("hidden_size")
    return config.size("ffn_size", default=default) // traits.ffn_divisor


def _has_experts(config: Config, experts: Experts) -> bool:
    if not experts.optional:
        return True
    count = config.size("layers")
    if config.given("experts") is not None and config.uniform("experts", count) > 1:
        return True
    config.passes_over(*OF_EXPERTS)
    return False


def _routed(config: Config, traits: Traits, experts: Experts, base: Block, count: int) -> Block:
    if base.ffn_bias:
        key = next(k for k in traits.biases.ffn.keys if k in config)
        raise config.error(key, "true is not supported with experts")
    kept, used = config.experts(count)
    if experts.width == "ffn":
        size = _ffn_size(config, traits)
    else:
        default = _ffn_size(config, traits) if experts.width == "either" else None
        size = config.uniform("expert_size", count, default=default)
    shared = _shared_size(config, experts, size, count)
    operators: tuple[str, ...] = EXPERTS
    if shared:
        gate = ("shared_expert_gate",) if experts.shared_gate else ()
        operators = (*SHARED_EXPERT, *gate, *operators)
    return dataclasses.replace(
        base,
        operators=_around(config, traits, _attention(config, traits, base), operators),
        ffn_size=size,
        experts=kept,
        experts_per_token=used,
        shared_size=shared,
        expert_bias=int(experts.bias),
        router_bias=int(experts.router_bias.read(config)),
    )


def _shared_size(config: Config, experts: Experts, size: int, count: int) -> int:
    """Return the width of all shared experts together. [count]"""
    if not experts.shared:
        return 0
    # Configs in the manner of DeepSeek's state both what is dense and what is shared.
    if not experts.shared_count and config.given("dense_first") is not None:
        config.require("shared_experts", "shared_size", none="write 0 if there are none")
    key = config.given("shared_experts")
    stated = config.get(key) if key else None
    number = (
        config.uniform("shared_experts", count)
        if isinstance(stated, list)
        else config.natural("shared_experts", experts.shared_count)
    )
    width = config.natural("shared_size")
    return width if width and (key is None or number) else number * size


def _layer(config: Config, traits: Traits, base: Block) -> tuple[str, ...]:
    """Return the operators of a layer with a dense feed-forward."""
    ffn: tuple[str, ...] = GATED_FFN if traits.gated else PLAIN_FFN
    if traits.learned_activation:
        ffn = replaced(ffn, "activation", "learned_activation")
    if traits.inner_norms:
        ffn = before(ffn, "down_projection", "ffn_inner_norm")
    return _around(config, traits, _attention(config, traits, base), ffn)


def _attention(config: Config, traits: Traits, base: Block) -> tuple[str, ...]:
    if traits.latent:
        return latent_attention(bool(base.query_rank))
    operators: tuple[str, ...] = ATTENTION
    if traits.qk_norm.read(config):
        over = {"per_head": "head", "per_layer": "width"}.get(
            str(config.get("qk_norm_type")), traits.qk_norm_over
        )
        name = "qk_norm" if over == "head" else "qk_width_norm"
        operators = before(operators, "rotary", name)
    if traits.positions != "rotary":
        operators = without(operators, "rotary")
    if traits.gate != "none":
        operators = before(operators, "kv_cache_append", "attention_gate_projection")
        operators = before(operators, "output_projection", "attention_gate")
    if traits.inner_norms:
        operators = before(operators, "output_projection", "attention_inner_norm")
    return operators


def latent_attention(ranked_queries: bool) -> tuple[str, ...]:
    """Return the operators of latent attention, whose queries may pass a low rank."""
    ranked = ("query_down_projection", "query_norm", "query_up_projection")
    return (
        *(ranked if ranked_queries else ("query_projection",)),
        "latent_projection",
        "latent_norm",
        "latent_rotary",
        "latent_cache_append",
        "latent_up_projection",
        "latent_attention",
        "latent_output_projection",
    )


def _unrotated(layer: Block) -> Block:
    return dataclasses.replace(layer, operators=without(layer.operators, "rotary"), rotary_dim=0)


def _around(
    config: Config, traits: Traits, attention: tuple[str, ...], ffn: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the operators of a layer: norms, sums and residuals around its two halves."""
    if traits.parallel.read(config):
        second = ("ffn_norm",) if traits.parallel_norms == 2 else ()
        sums = ("layer_all_reduce", "attention_residual", "ffn_residual")
        return ("attention_norm", *attention, *second, *ffn, *sums)
    first, last = traits.norm_place != "after", traits.norm_place != "before"
    return (*_half("attention", attention, first, last), *_half("ffn", ffn, first, last))


def _half(name: str, operators: tuple[str, ...], first: bool, last: bool) -> tuple[str, ...]:
    return (
        *((f"{name}_norm",) if first else ()),
        *operators,
        f"{name}_all_reduce",
        *((f"{name}_output_norm",) if last else ()),
        f"{name}_residual",
    )
