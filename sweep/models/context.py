"""The longest context that a model is made for, from its own config."""

import math
from collections.abc import Mapping
from typing import Any

from sweep.models.left_out import text_part
from sweep.models.spellings import spellings
from sweep.specs.model import ModelSpec

LONGEST = (
    *spellings("positions"),
    *("max_seq_len", "max_sequence_length", "max_seq_length", "seq_length", "model_max_length"),
)
"""Keys of a config that state the longest context; of several, the largest counts."""
ROTATIONS = ("rope_scaling", "rope_parameters")
"""Sections of a config on how positions are stretched."""
STRETCH = ("factor", "original_max_position_embeddings")
"""Keys of such a section whose product is the stretched context."""


def longest_context(spec: ModelSpec) -> int | None:
    """Tokens of prompt and output that the config states for a request; `None` if it does not.

    Where rotations are stretched from `original_max_position_embeddings` by a `factor`, it is
    their product, unless the config states more. [count]
    """
    text = text_part(spec.config, spec.where)
    keys: Mapping[str, Any] = {**(text.outer or {}), **text.data}
    known = [keys[key] for key in LONGEST if _is_size(keys.get(key))]
    if not known:
        return None
    stated = max(known)
    for section in (keys.get(name) for name in ROTATIONS):
        if isinstance(section, Mapping):
            parts = [float(section[key]) for key in STRETCH if _is_size(section.get(key))]
            if len(parts) == len(STRETCH):
                stated = max(stated, math.prod(parts))
    return int(stated)


def _is_size(value: Any) -> bool:
    # A size beyond a billion tokens stands for no limit, as in tokenizers' files.
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1e9


def beyond_context(spec: ModelSpec, tokens: float) -> str:
    """A sentence where requests are longer than the model is made for; empty if not, or unknown.

    Args:
        spec: The model.
        tokens: Tokens of prompt and output of a request. [count]
    """
    longest = longest_context(spec)
    if longest is None or tokens <= longest:
        return ""
    return (
        f"{spec.name} is made for {longest:,} tokens, and {tokens:,.0f} are asked for: engines "
        "refuse that unless an option extends the context"
    )
