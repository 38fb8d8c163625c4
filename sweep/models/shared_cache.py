"""Layers that read the keys and values of an earlier layer and keep none of their own."""

import dataclasses
from collections.abc import Sequence

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import replaced, without

SHARED = (
    ("qkv_projection", "lone_query_projection"),
    ("tied_kv_projection", "lone_query_projection"),
    ("qk_norm", "lone_query_norm"),
    ("rotary", "lone_query_rotary"),
    ("attention", "shared_cache_attention"),
    ("tied_kv_attention", "shared_cache_attention"),
    ("windowed_attention", "windowed_shared_cache_attention"),
)
"""Operator of a layer with a cache of its own → what a layer without one runs instead."""


def sharing(layer: Block) -> Block:
    """Return the layer without keys and values of its own."""
    operators = without(layer.operators, "kv_cache_append", "value_unit_norm")
    for name, shared in SHARED:
        operators = replaced(operators, name, shared)
    return dataclasses.replace(layer, operators=operators)


def last_share(config: Config, key: str, layers: Sequence[Block], default: int) -> list[Block]:
    """Return layers of which the last few share, as many as `key` says.

    Each reads the cache of the last layer of its kind, windowed or not, before them.

    Raises:
        SpecError: `key` holds no number, or no layer before them has a cache of a kind they need.
    """
    number = config.natural(key, default)
    first = len(layers) - number
    windows = [bool(layer.window) for layer in layers]
    if number and (first < 1 or not set(windows[first:]) <= set(windows[:first])):
        problem = f"{number} of {len(layers)} leaves no cache of a kind of layer"
        raise config.error(key, problem)
    return [sharing(layer) if index >= first else layer for index, layer in enumerate(layers)]
