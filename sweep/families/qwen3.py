"""Qwen3: Llama's layer with a norm on each query and key head."""

from sweep.architecture import Block
from sweep.families.config import Config
from sweep.families.llama import LAYER as LLAMA_LAYER
from sweep.families.llama import gated_decoder, late_windows
from sweep.families.parts import before

LAYER = before(LLAMA_LAYER, "rotary", "qk_norm")


def read_qwen3(config: Config) -> tuple[Block, ...]:
    """Qwen3, dense."""
    bias = config.flag("attention_bias", False)
    return gated_decoder(
        config,
        LAYER,
        qkv_bias=bias,
        output_bias=bias,
        head_dim=128,
        windows=late_windows(config),
    )
