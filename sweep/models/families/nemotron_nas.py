"""Nemotron-NAS: sizes that differ from layer to layer, and halves of layers that are missing.

A search replaced the halves of Llama's layers one by one [1].

References:
    [1] Bercovich et al., "Puzzle: distillation-based NAS for inference-optimized LLMs",
        arXiv 2411.19146, 2024.
"""

import dataclasses
from collections.abc import Mapping

from sweep.kernel.block import Block
from sweep.models.config import LARGEST, Config
from sweep.models.halves import half as half_of
from sweep.models.halves import layers_of_halves, without_heads
from sweep.models.layers import ATTENTION, GATED_FFN, RMS_NORM, embedding, head

WIDTH_MULTIPLE = 256
"""Widths of feed-forwards are rounded up to a multiple of this. [count]"""


def read_nemotron_nas(config: Config) -> tuple[Block, ...]:
    """Read Llama-Nemotron Super and Ultra.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("num_key_value_heads", "intermediate_size")
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    heads = config.size("heads")
    head_dim = config.head_dim(hidden_size, heads)
    bias = int(config.flag("attention_bias", False))
    base = Block(
        (),
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        heads=heads,
        head_dim=head_dim,
        rotary_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        ffn_bias=int(config.flag("mlp_bias", False)),
    )
    count = config.size("layers")
    entries = config.per_layer("block_configs", count)
    if entries is None:
        raise config.error("block_configs", "missing; the model's size cannot be known")
    halves = [half for i, entry in enumerate(entries) for half in _halves(config, base, entry, i)]
    if not any("attention" in each.operators for each in halves):
        raise config.error("block_configs", "no layer attends to the context")
    tied = config.flag("tie_word_embeddings", False)
    return (
        embedding(vocab_size, hidden_size),
        *layers_of_halves(count, halves),
        head(vocab_size, hidden_size, tied=tied),
    )


def _halves(config: Config, base: Block, entry: object, index: int) -> tuple[Block, Block]:
    attention = _half(config, entry, index, "attention")
    ffn = _half(config, entry, index, "ffn")
    halves = _attention(attention, base), _ffn(ffn, base)
    for half in (attention, ffn):
        left = half.unread()
        if left:
            raise half.error(", ".join(left), "a part that family 'nemotron-nas' does not have")
    return halves


def _half(config: Config, entry: object, index: int, key: str) -> Config:
    half = entry.get(key) if isinstance(entry, Mapping) else entry
    where = f"block_configs[{index}]"
    if not isinstance(half, Mapping):
        raise config.error(f"{where}: {key}", f"must be a mapping, not {half!r:.40}")
    return Config(half, f"{config.where}: {where}: {key}")


def _kind(half: Config) -> str:
    """Return whether a half is skipped, is one matrix, or is whole."""
    skipped = half.flag("no_op", False)
    replaced = half.flag("replace_with_linear", False)
    if skipped and replaced:
        raise half.error("no_op", "cannot be true beside replace_with_linear")
    return "skipped" if skipped else "replaced" if replaced else "whole"


def _attention(half: Config, base: Block) -> Block:
    kind = _kind(half)
    layer = dataclasses.replace(base, ffn_bias=0)
    if kind == "whole":
        group = half.size("n_heads_in_group")
        if base.heads % group:
            problem = f"{group} does not divide {base.heads} query heads"
            raise half.error("n_heads_in_group", problem)
        layer = dataclasses.replace(layer, kv_heads=base.heads // group)
    else:
        half.passes_over("n_heads_in_group")
        layer = dataclasses.replace(without_heads(layer), output_bias=base.output_bias)
    operators = {"whole": ATTENTION, "replaced": ("attention_replacement",), "skipped": ()}[kind]
    return half_of(layer, "attention", operators)


def _ffn(half: Config, base: Block) -> Block:
    kind = _kind(half)
    layer = without_heads(base)
    if kind == "whole":
        layer = dataclasses.replace(layer, ffn_size=_width(half, int(base.hidden_size)))
    else:
        half.passes_over("ffn_mult", "intermediate_size")
    operators = {"whole": GATED_FFN, "replaced": ("ffn_replacement",), "skipped": ()}[kind]
    return half_of(layer, "ffn", operators)


def _width(half: Config, hidden_size: int) -> int:
    """Return the feed-forward's width: two thirds of a multiple of the hidden size, rounded up."""
    if "intermediate_size" in half:
        return half.size("intermediate_size")
    ratio = half.get("ffn_mult")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= LARGEST:
        raise half.error("ffn_mult", f"must be a number above 0, not {ratio!r:.40}")
    width = int(2 * ratio * hidden_size / 3)
    width += -width % WIDTH_MULTIPLE
    if not 1 <= width <= LARGEST:
        raise half.error("ffn_mult", f"{ratio!r:.40} makes the feed-forward {width} wide")
    return width
