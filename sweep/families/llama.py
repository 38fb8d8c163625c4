"""Llama, and the families that keep its layer: Mistral, Qwen2, Phi-3, Yi, InternLM, Gemma 1."""

from collections.abc import Sequence

from sweep.architecture import Block
from sweep.families.config import Config
from sweep.families.parts import (
    ATTENTION,
    GATED_FFN,
    RMS_NORM,
    embedding,
    grouped,
    head,
    pre_norm,
    with_window,
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
    """A decoder of `layers`; `tied` and `vocab_size` stand where the config is silent."""
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


def read_llama(config: Config) -> tuple[Block, ...]:
    """Llama 1 to 3, and Yi, which is published as Llama."""
    bias = config.flag("attention_bias", False)
    ffn_bias = config.flag("mlp_bias", False)
    layer = gated_layer(config, qkv_bias=bias, output_bias=bias, ffn_bias=ffn_bias)
    return decoder(config, [layer] * layer_count(config))


def read_mistral(config: Config) -> tuple[Block, ...]:
    """Mistral; a window, where given, holds in every layer."""
    return windowed_decoder(config, gated_layer(config), uniform_windows(config))


def read_qwen2(config: Config) -> tuple[Block, ...]:
    """Qwen 2 and 2.5: the query, key and value projections have a bias."""
    return windowed_decoder(config, gated_layer(config, qkv_bias=True), late_windows(config))


def read_internlm(config: Config) -> tuple[Block, ...]:
    """InternLM 1 (`bias` on by default in its attention) and 2."""
    bias = config.flag("bias", True)
    layer = gated_layer(config, qkv_bias=bias, output_bias=bias)
    return decoder(config, [layer] * layer_count(config))


def read_gemma(config: Config) -> tuple[Block, ...]:
    """Gemma 1: a tied head and heads of 256."""
    layer = gated_layer(config, head_dim=256)
    return decoder(config, [layer] * layer_count(config), tied=True)
