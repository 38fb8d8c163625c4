"""Llama, and the families that keep its layer: Mistral, Qwen2, Phi-3, Yi, InternLM, Gemma 1."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    decoder,
    gated_layer,
    late_windows,
    layer_count,
    uniform_windows,
    windowed_decoder,
)


def read_llama(config: Config) -> tuple[Block, ...]:
    """Read Llama 1 to 3, Yi and Seed-OSS, which states the bias of its output projection apart."""
    bias = config.flag("attention_bias", False)
    layer = gated_layer(
        config,
        qkv_bias=bias,
        output_bias=config.flag("attention_out_bias", bias),
        ffn_bias=config.flag("mlp_bias", False),
    )
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
