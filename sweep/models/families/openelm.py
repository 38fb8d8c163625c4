"""OpenELM: heads and feed-forwards that grow from layer to layer [1].

References:
    [1] Mehta et al., "OpenELM", arXiv 2404.14619, 2024, section 2.
"""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import LARGEST, Config
from sweep.models.halves import half, layers_of_halves, without_heads
from sweep.models.layers import (
    ATTENTION,
    GATED_FFN,
    PLAIN_FFN,
    RMS_NORM,
    before,
    embedding,
    head,
)


def read_openelm(config: Config) -> tuple[Block, ...]:
    """Read OpenELM, whose config lists the heads and the widths of all layers.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("qkv_multipliers", "num_gqa_groups", "max_context_length")
    config.passes_over("normalization_layer_name", "activation_fn_name")
    hidden_size, vocab_size = config.size("model_dim"), config.size("vocab_size")
    count, head_dim = config.size("num_transformer_layers"), config.size("head_dim")
    base = Block((), hidden_size=hidden_size, norm_vectors=RMS_NORM, head_dim=head_dim)
    heads = _listed(config, "num_query_heads", count)
    kv_heads = _listed(config, "num_kv_heads", count)
    attention: tuple[str, ...] = ATTENTION
    if config.flag("normalize_qk_projections", True):
        attention = before(attention, "rotary", "qk_norm")
    ffn = GATED_FFN if config.flag("ffn_with_glu", True) else PLAIN_FFN
    halves = []
    for index, width in enumerate(_widths(config, hidden_size, count)):
        if heads[index] % kv_heads[index]:
            problem = f"{kv_heads[index]} does not divide {heads[index]} query heads"
            raise config.error("num_kv_heads", problem)
        attending = dataclasses.replace(
            base, heads=heads[index], kv_heads=kv_heads[index], rotary_dim=head_dim
        )
        halves.append(half(attending, "attention", attention))
        wide = dataclasses.replace(without_heads(base), ffn_size=width)
        halves.append(half(wide, "ffn", ffn))
    tied = config.flag("share_input_output_layers", True)
    return (
        embedding(vocab_size, hidden_size),
        *layers_of_halves(count, halves),
        head(vocab_size, hidden_size, tied=tied),
    )


def _listed(config: Config, key: str, count: int) -> list[int]:
    if key not in config:
        raise config.error(key, "missing; the model's size cannot be known")
    return config.sizes(key, count)


def _widths(config: Config, hidden_size: int, count: int) -> list[int]:
    """Return multiples of the hidden size, rounded to the nearest multiple of the divisor."""
    divisor = config.size("ffn_dim_divisor", default=256)
    ratios = config.per_layer("ffn_multipliers", count)
    if ratios is None:
        raise config.error("ffn_multipliers", "missing; the model's size cannot be known")
    widths = []
    for ratio in ratios:
        number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
        if not number or not 0 < ratio * hidden_size <= LARGEST:
            raise config.error("ffn_multipliers", f"must be numbers above 0, not {ratio!r:.40}")
        exact = ratio * hidden_size
        width = max(divisor, int(exact + divisor / 2) // divisor * divisor)
        widths.append(width + divisor if width < 0.9 * exact else width)
    return widths
