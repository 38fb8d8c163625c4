"""Llama, and the families that keep its layer: Mistral, Qwen2, Phi-3, Yi, InternLM, Gemma 1."""

from sweep.architecture import Block
from sweep.families.config import Config
from sweep.families.parts import ATTENTION, GATED_FFN, RMS_NORM, embedding, head, pre_norm, windowed

LAYER = pre_norm(ATTENTION, GATED_FFN)


def gated_decoder(
    config: Config,
    operators: tuple[str, ...] = LAYER,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    ffn_bias: bool = False,
    tied: bool = False,
    head_dim: int | None = None,
    vocab_size: int | None = None,
    windows: list[int | None] | None = None,
) -> tuple[Block, ...]:
    """Blocks of a decoder with Llama's keys; `windows` gives each layer's sliding window."""
    hidden_size = config.size("hidden_size")
    heads = config.size("num_attention_heads")
    head_dim = config.head_dim(hidden_size, heads, head_dim)
    vocab_size = config.size("vocab_size", default=vocab_size)
    if windows is None:
        windows = [None] * config.size("num_hidden_layers")
    layers = [
        Block(
            operators if window is None else windowed(operators),
            count=windows.count(window),
            hidden_size=hidden_size,
            norm_vectors=RMS_NORM,
            heads=heads,
            kv_heads=config.kv_heads("num_key_value_heads", heads=heads),
            head_dim=head_dim,
            rotary_dim=int(head_dim * config.fraction("partial_rotary_factor", 1.0)),
            window=window or 0,
            qkv_bias=int(qkv_bias),
            output_bias=int(output_bias),
            ffn_size=config.size("intermediate_size"),
            ffn_bias=int(ffn_bias),
        )
        for window in dict.fromkeys(windows)
    ]
    return (
        embedding(vocab_size, hidden_size),
        *layers,
        head(vocab_size, hidden_size, tied=config.flag("tie_word_embeddings", tied)),
    )


def layer_windows(config: Config) -> list[int | None]:
    """Each layer's window where one applies to all of them."""
    window = config.size("sliding_window") if "sliding_window" in config else None
    return [window] * config.size("num_hidden_layers")


def late_windows(config: Config) -> list[int | None]:
    """Each layer's window as Qwen has it: off, or on from layer `max_window_layers`."""
    layers = config.size("num_hidden_layers")
    if not config.flag("use_sliding_window", False):
        return [None] * layers
    first = config.size("max_window_layers", default=layers)
    window = config.size("sliding_window")
    return [window if layer >= first else None for layer in range(layers)]


def read_llama(config: Config) -> tuple[Block, ...]:
    """Llama 1 to 3, and Yi, which is published as Llama."""
    bias = config.flag("attention_bias", False)
    return gated_decoder(
        config, qkv_bias=bias, output_bias=bias, ffn_bias=config.flag("mlp_bias", False)
    )


def read_mistral(config: Config) -> tuple[Block, ...]:
    """Mistral; a window, where given, holds in every layer."""
    return gated_decoder(config, windows=layer_windows(config))


def read_qwen2(config: Config) -> tuple[Block, ...]:
    """Qwen 2 and 2.5: the query, key and value projections have a bias."""
    return gated_decoder(config, qkv_bias=True, windows=late_windows(config))


def read_internlm(config: Config) -> tuple[Block, ...]:
    """InternLM 1 (`bias` on by default in its attention) and 2."""
    bias = config.flag("bias", True)
    return gated_decoder(config, qkv_bias=bias, output_bias=bias)


def read_gemma(config: Config) -> tuple[Block, ...]:
    """Gemma 1: a tied head and heads of 256."""
    return gated_decoder(config, tied=True, head_dim=256)
