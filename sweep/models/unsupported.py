"""Structures that no operator here computes, recognised by the keys of a config."""

import re
from collections.abc import Mapping
from typing import Any

STRUCTURES: tuple[tuple[str, str], ...] = (
    (r"gla_.*|rwkv_.*|lightning_.*", "linear attention"),
    (r"index_(topk|head_dim|n_heads)|sparse_attention_config", "sparse attention with an indexer"),
    (r"compress_ratios?|compress_rate.*", "compressed attention"),
    (r"per_layer_config", "blocks with sizes of their own in each layer"),
    (r"add_cross_attention", "cross attention"),
    (r"zero_expert_num", "experts that compute nothing"),
    (r"is_encoder_decoder|encoder_layers", "an encoder"),
    (r"num_attention_heads_per_layer", "layers with different heads"),
)
"""Pattern of a key → what it switches on."""
READ_BY: dict[str, tuple[str, ...]] = {
    "sparse attention with an indexer": (
        *("deepseek_v32", "glm_moe_dsa", "minimax_m3", "deepseek_v4"),
    ),
    "compressed attention": ("deepseek_v4",),
}
"""Structure → families whose readers understand its keys; all others are refused by them."""
ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "deberta", "t5", "mt5")
"""Families without a decoder, or with an encoder beside it."""


def unsupported(family: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a key of `data` and the unsupported structure that it switches on, if any.

    Args:
        family: Name of the family that reads the config.
        data: Its keys.
    """
    if family in ENCODERS:
        return "model_type", f"{family!r} has an encoder"
    for pattern, structure in STRUCTURES:
        if family in READ_BY.get(structure, ()):
            continue
        for key, value in data.items():
            if value not in (None, False, 0, [], {}) and re.fullmatch(pattern, key):
                return key, structure
    return None
