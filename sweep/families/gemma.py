"""Gemma 2 and 3: norms before and after each half of a layer, windows in most layers."""

from sweep.architecture import Block
from sweep.families.config import Config
from sweep.families.llama import gated_decoder
from sweep.families.parts import ATTENTION, GATED_FFN, before

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
    layers = config.size("num_hidden_layers")
    window = config.size("sliding_window", default=window)
    pattern = config.size("sliding_window_pattern", "_sliding_window_pattern", default=pattern)
    kinds = config.texts("layer_types", layers)
    if kinds is None:
        return [window if (layer + 1) % pattern else None for layer in range(layers)]
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise config.error("layer_types", f"unknown kind {sorted(unknown)[0]!r}")
    return [window if kind == "sliding_attention" else None for kind in kinds]


def read_gemma2(config: Config) -> tuple[Block, ...]:
    """Gemma 2: every other layer sees a window of 4096."""
    bias = config.flag("attention_bias", False)
    windows = _windows(config, window=4096, pattern=2)
    return gated_decoder(
        config, LAYER, qkv_bias=bias, output_bias=bias, tied=True, head_dim=256, windows=windows
    )


def read_gemma3(config: Config) -> tuple[Block, ...]:
    """Gemma 3, the text part: five layers of six see a window of 1024."""
    text = config.section("text_config")
    bias = text.flag("attention_bias", False)
    return gated_decoder(
        text,
        GEMMA3_LAYER,
        qkv_bias=bias,
        output_bias=bias,
        tied=True,
        head_dim=256,
        vocab_size=GEMMA3_VOCAB_SIZE,
        windows=_windows(text, window=1024, pattern=6),
    )
