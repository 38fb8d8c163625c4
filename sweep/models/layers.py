"""Stretches of operators that families share, and the blocks around and among the layers."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from sweep.kernel.block import Block
from sweep.models.config import Config

ATTENTION = (
    "qkv_projection",
    "rotary",
    "kv_cache_append",
    "attention",
    "output_projection",
)
GATED_FFN = ("gate_up_projection", "gated_activation", "down_projection")
PLAIN_FFN = ("up_projection", "activation", "down_projection")
EXPERTS = (
    "router",
    "expert_dispatch",
    "expert_gate_up_projection",
    "expert_gated_activation",
    "expert_down_projection",
    "expert_return",
    "expert_combine",
)
SHARED_EXPERT = (
    "shared_gate_up_projection",
    "shared_gated_activation",
    "shared_down_projection",
)

RMS_NORM, LAYER_NORM = 1, 2
"""Weight vectors of each norm."""


def pre_norm(attention: tuple[str, ...], ffn: tuple[str, ...]) -> tuple[str, ...]:
    """A layer that normalises before attention and before the feed-forward."""
    return (
        "attention_norm",
        *attention,
        "attention_all_reduce",
        "attention_residual",
        "ffn_norm",
        *ffn,
        "ffn_all_reduce",
        "ffn_residual",
    )


def without(operators: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """The same layer without the named operators."""
    return tuple(name for name in operators if name not in names)


def before(operators: tuple[str, ...], name: str, extra: str) -> tuple[str, ...]:
    """The same layer with operator `extra` run just before `name`."""
    place = operators.index(name)
    return (*operators[:place], extra, *operators[place:])


def with_window(layer: Block, window: int | None, kind: str = "windowed") -> Block:
    """The same layer attending to a sliding window, or to a chunk of the context."""
    if window is None:
        return layer
    operators = tuple(f"{kind}_{name}" if name == "attention" else name for name in layer.operators)
    return dataclasses.replace(layer, operators=operators, window=window)


def grouped(layers: Iterable[Block]) -> list[Block]:
    """Equal layers as one block that counts them, in the order they first stand."""
    kinds = Counter(tuple(vars(layer).items()) for layer in layers)
    return [Block(**{**dict(kind), "count": count}) for kind, count in kinds.items()]


def embedding(vocab_size: int, hidden_size: int) -> Block:
    """A token embedding as wide as the residual stream."""
    return Block(
        ("embedding",),
        in_transformer=False,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        embedding_size=hidden_size,
    )


def head(vocab_size: int, hidden_size: int, *, tied: bool, norm_vectors: int = RMS_NORM) -> Block:
    """Final norm, projection onto the vocabulary, choice of a token."""
    return Block(
        ("pipeline_send", "final_norm", "lm_head", "sampling"),
        in_transformer=False,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        embedding_size=hidden_size,
        norm_vectors=norm_vectors,
        untied=int(not tied),
    )


LAYER = pre_norm(ATTENTION, GATED_FFN)


def gated_layer(
    config: Config,
    operators: tuple[str, ...] = LAYER,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    ffn_bias: bool = False,
    head_dim: int | None = None,
) -> Block:
    """One layer with Llama's keys."""
    hidden_size = config.size("hidden_size")
    heads = config.size("num_attention_heads")
    head_dim = config.head_dim(hidden_size, heads, head_dim)
    return Block(
        operators,
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        heads=heads,
        kv_heads=config.kv_heads("num_key_value_heads", heads=heads),
        head_dim=head_dim,
        rotary_dim=int(head_dim * config.fraction("partial_rotary_factor", 1.0)),
        qkv_bias=int(qkv_bias),
        output_bias=int(output_bias),
        ffn_size=config.size("intermediate_size"),
        ffn_bias=int(ffn_bias),
    )


def decoder(
    config: Config, layers: Sequence[Block], *, tied: bool = False, vocab_size: int | None = None
) -> tuple[Block, ...]:
    """A decoder of `layers`; `tied` and `vocab_size` are defaults for an absent key."""
    hidden_size = config.size("hidden_size")
    vocab_size = config.size("vocab_size", default=vocab_size)
    return (
        embedding(vocab_size, hidden_size),
        *grouped(layers),
        head(vocab_size, hidden_size, tied=config.flag("tie_word_embeddings", tied)),
    )


def layer_count(config: Config) -> int:
    """Number of layers. [count]"""
    return config.size("num_hidden_layers")


def uniform_windows(config: Config) -> list[int | None]:
    """Each layer's window where one applies to all of them, or to those `layer_types` lists."""
    layers = layer_count(config)
    window = config.size("sliding_window") if "sliding_window" in config else None
    return [window if held else None for held in config.sliding_layers(layers, [True] * layers)]


def late_windows(config: Config) -> list[int | None]:
    """Each layer's window as Qwen has it: off, or on from layer `max_window_layers`."""
    layers = layer_count(config)
    config.passes_over("max_window_layers", "sliding_window", "layer_types")
    if not config.flag("use_sliding_window", False):
        return [None] * layers
    first = config.size("max_window_layers", default=layers)
    window = config.size("sliding_window")
    return [window if layer >= first else None for layer in range(layers)]


def windowed_decoder(
    config: Config,
    layer: Block,
    windows: Sequence[int | None],
    *,
    tied: bool = False,
    vocab_size: int | None = None,
) -> tuple[Block, ...]:
    """A decoder of one kind of layer, each with its window."""
    layers = [with_window(layer, window) for window in windows]
    return decoder(config, layers, tied=tied, vocab_size=vocab_size)
