"""Gemma 2 and 3: norms before and after each half of a layer, windows in most layers."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    GATED_FFN,
    before,
    gated_layer,
    layer_count,
    windowed_decoder,
)

LAYER = (
    "attention_norm",
    *ATTENTION,
    "attention_all_reduce",
    "attention_output_norm",
    "attention_residual",
    "ffn_norm",
    *GATED_FFN,
    "ffn_all_reduce",
    "ffn_output_norm",
    "ffn_residual",
)
GEMMA3_LAYER = before(LAYER, "rotary", "qk_norm")
GEMMA3_VOCAB_SIZE = 262208
"""The class default, which published configs leave out."""


def _windows(config: Config, *, window: int, pattern: int) -> list[int | None]:
    """All layers windowed but each `pattern`-th, unless the config lists its layers."""
    window = config.size("sliding_window", default=window)
    pattern = config.size("sliding_window_pattern", "_sliding_window_pattern", default=pattern)
    layers = layer_count(config)
    default = [(layer + 1) % pattern > 0 for layer in range(layers)]
    return [window if held else None for held in config.sliding_layers(layers, default)]


def read_gemma2(config: Config) -> tuple[Block, ...]:
    """Gemma 2: every other layer sees a window of 4096."""
    return windowed_decoder(
        config, _layer(config, LAYER), _windows(config, window=4096, pattern=2), tied=True
    )


def read_gemma3(config: Config) -> tuple[Block, ...]:
    """Gemma 3, the text part: five layers of six see a window of 1024."""
    text = config.section("text_config")
    return windowed_decoder(
        text,
        _layer(text, GEMMA3_LAYER),
        _windows(text, window=1024, pattern=6),
        tied=True,
        vocab_size=GEMMA3_VOCAB_SIZE,
    )


def _layer(config: Config, operators: tuple[str, ...]) -> Block:
    bias = config.flag("attention_bias", False)
    return gated_layer(config, operators, qkv_bias=bias, output_bias=bias, head_dim=256)
