"""Structures that no operator here computes, recognised by the keys of a config."""

import re
from collections.abc import Mapping
from typing import Any

STRUCTURES: tuple[tuple[str, str], ...] = (
    (r"linear_(conv_kernel_dim|key_head_dim|num_(key|value)_heads)", "linear attention"),
    (r"linear_attn_config|gla_.*|rwkv_.*|lightning_.*", "linear attention"),
    (r"mamba_.*|ssm_.*|state_size|time_step_rank|.*hybrid_override_pattern", "state-space layers"),
    (r"conv_L_cache|conv_kernel|short_conv.*", "short convolutions"),
    (r"index_(topk|head_dim|n_heads)|sparse_attention_config", "sparse attention with an indexer"),
    (r"compress_ratios?|compress_rate.*", "compressed attention"),
    (r"per_layer_config", "blocks with sizes of their own in each layer"),
    (r"add_cross_attention", "cross attention"),
    (r"zero_expert_num", "experts that compute nothing"),
    (r"is_encoder_decoder|encoder_layers", "an encoder"),
    (r"routed_expert_hidden_size|moe_latent_size", "experts on a latent"),
    (r"num_attention_heads_per_layer", "layers with different heads"),
)
"""Pattern of a key → what it switches on."""
ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "deberta", "t5", "mt5")
"""Families without a decoder, or with an encoder beside it."""


def unsupported(family: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a key of `data` and the unsupported structure that it switches on, if any."""
    if family in ENCODERS:
        return "model_type", f"{family!r} has an encoder"
    for pattern, structure in STRUCTURES:
        for key, value in data.items():
            if value not in (None, False, 0, [], {}) and re.fullmatch(pattern, key):
                return key, structure
    return None
