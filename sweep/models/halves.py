"""Layers as two blocks, one for each half, where either half has sizes that differ by layer.

A model then has as many blocks as it has kinds of halves, not kinds of layers, and one more that
counts the layers.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from sweep.kernel.block import Block
from sweep.models.layers import grouped

OF_FFN = (
    *("ffn_size", "ffn_bias", "experts", "experts_per_token", "shared_size", "expert_bias"),
    *("router_bias", "input_size"),
)
"""Sizes that attention does not read."""


def half(layer: Block, name: str, operators: tuple[str, ...]) -> Block:
    """Return the half `name` of `layer`, with a norm before it; without operators, none."""
    if operators:
        operators = f"{name}_norm", *operators, f"{name}_all_reduce", f"{name}_residual"
    return dataclasses.replace(layer, operators=operators, partial=True)


def without_heads(layer: Block) -> Block:
    """Return the layer without the sizes of attention."""
    return dataclasses.replace(
        layer, heads=0, kv_heads=0, head_dim=0, rotary_dim=0, qkv_bias=0, output_bias=0
    )


def layers_of_halves(count: int, halves: Iterable[Block]) -> list[Block]:
    """Return the blocks of `count` layers that consist of `halves`."""
    present = (each for each in halves if each.operators)
    return [Block((), idle=True, count=count), *grouped(present)]


def halved(layers: Iterable[Block]) -> list[Block]:
    """Return layers of several kinds as blocks of halves, divided before `ffn_norm`."""
    halves, count = [], 0
    for layer in layers:
        middle = layer.operators.index("ffn_norm")
        none: dict[str, Any] = dict.fromkeys(OF_FFN, 0)
        first = dataclasses.replace(layer, count=1, partial=True, **none)
        second = dataclasses.replace(without_heads(layer), count=1, partial=True)
        halves += int(layer.count) * [
            dataclasses.replace(first, operators=layer.operators[:middle]),
            dataclasses.replace(
                second, operators=layer.operators[middle:], window=0, laurel_rank=0
            ),
        ]
        count += int(layer.count)
    return layers_of_halves(count, halves)
