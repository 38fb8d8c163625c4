"""Random sizes that fit together, for families with layers that keep a state of fixed size."""

from random import Random
from typing import Any

CLASS_NAMES = {"qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text"}
"""Families whose own name is that of a config with a text part in it, and the text part's."""
MAMBA = {
    "mamba_d_conv": [2, 4],
    "mamba_d_state": [8, 16],
    "mamba_expand": [1, 2],
    "mamba_conv_bias": [True, False],
    "mamba_proj_bias": [True, False],
}
HEADS_OF_MAMBA = {"mamba_n_heads": [8, 16], "mamba_n_groups": [1, 4], "mamba_d_head": ["auto"]}
PLAIN_MAMBA = {
    "conv_kernel": [2, 4],
    "state_size": [8, 16],
    "expand": [1, 2],
    "use_bias": [True, False],
    "use_conv_bias": [True, False],
    "time_step_rank": ["auto", 12],
}
DELTA_NET = {
    "linear_num_key_heads": [2, 4],
    "linear_num_value_heads": [4, 8],
    "linear_key_head_dim": [16, 32],
    "linear_value_head_dim": [16, 24],
    "linear_conv_kernel_dim": [2, 4],
}
DRAWN: dict[str, dict[str, list[Any]]] = {
    "bamba": {**MAMBA, **HEADS_OF_MAMBA, "attn_layer_indices": [[0], [], None]},
    "falcon_h1": {
        **MAMBA,
        **HEADS_OF_MAMBA,
        "mamba_d_ssm": [None, 128, 320],
        "mamba_rms_norm": [True, False],
        "projectors_bias": [True, False],
    },
    "falcon_mamba": PLAIN_MAMBA,
    "granitemoehybrid": {
        **MAMBA,
        **HEADS_OF_MAMBA,
        "num_local_experts": [0, 4],
        "num_experts_per_tok": [2],
        "shared_intermediate_size": [96, 160],
    },
    "jamba": {
        **MAMBA,
        "mamba_dt_rank": ["auto", 12],
        "num_experts": [1, 4],
        "num_experts_per_tok": [1],
        "attn_layer_period": [2, 3],
        "attn_layer_offset": [0, 1],
        "expert_layer_period": [2],
        "expert_layer_offset": [0, 1],
    },
    "kimi_linear": {
        "linear_num_heads": [4, 8],
        "linear_head_dim": [16, 32],
        "linear_conv_kernel_dim": [2, 4],
        "tie_word_embeddings": [False],
        "first_k_dense_replace": [0, 1, 2],
    },
    "lfm2": {
        "conv_L_cache": [2, 3],
        "conv_bias": [True, False],
        "block_auto_adjust_ff_dim": [True, False],
        "block_ffn_dim_multiplier": [1.0, 1.3],
        "block_multiple_of": [32, 256],
        "tie_embedding": [True, False],
    },
    "lfm2_moe": {
        "conv_L_cache": [2, 3],
        "conv_bias": [True, False],
        "num_dense_layers": [0, 1],
        "use_expert_bias": [True, False],
    },
    "mamba": PLAIN_MAMBA,
    "mamba2": {**PLAIN_MAMBA, "head_dim": [16, 32], "n_groups": [1, 4]},
    "minimax": {"block_size": [32], "sliding_window": [None]},
    "nemotron_h": {
        "mamba_num_heads": [8, 16],
        "mamba_head_dim": [8, 16],
        "ssm_state_size": [8, 16],
        "n_groups": [1, 4],
        "conv_kernel": [2, 4],
        "use_bias": [True, False],
        "use_conv_bias": [True, False],
        "moe_latent_size": [None, 48],
        "moe_shared_expert_intermediate_size": [64, 160],
        "mlp_bias": [False],
        "sliding_window": [None],
        "tie_word_embeddings": [False],
        "attention_bias": [False],
    },
    "olmo_hybrid": {**DELTA_NET, "linear_num_key_heads": [4], "linear_num_value_heads": [4]},
    "qwen3_5": {**DELTA_NET, "attention_bias": [False]},
    "qwen3_5_moe": {**DELTA_NET, "attention_bias": [False]},
    "qwen3_next": {**DELTA_NET, "attention_bias": [False], "mlp_only_layers": [[], [0]]},
}
"""Family → key → values to draw."""
KINDS = {
    "granitemoehybrid": ["mamba", "attention"],
    "lfm2": ["conv", "full_attention"],
    "lfm2_moe": ["conv", "full_attention"],
    "minimax": ["linear_attention", "full_attention"],
    "qwen3_5": ["linear_attention", "full_attention"],
    "qwen3_next": ["linear_attention", "full_attention"],
}
"""Kinds of layers to list for each layer of a family."""


def fitted(family: str, keys: dict[str, Any], draw: Random) -> dict[str, Any]:
    """Sizes of a variation with those of its states, which must agree with each other."""
    if family not in DRAWN:
        return keys
    keys = {**keys, **{key: draw.choice(values) for key, values in DRAWN[family].items()}}
    layers = keys.get("num_hidden_layers", 0)
    if family in KINDS and (family == "lfm2_moe" or draw.random() < 0.7):
        keys["layer_types"] = [draw.choice(KINDS[family]) for _ in range(layers)]
    if family == "mamba2":
        keys["num_heads"] = keys["expand"] * keys["hidden_size"] // keys["head_dim"]
    if family == "nemotron_h":
        keys.pop("num_hidden_layers", None)
        pattern = "".join(draw.choice("ME*-") for _ in range(5))
        if draw.random() < 0.5:
            keys["hybrid_override_pattern"] = pattern
        else:
            names = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}
            keys["layers_block_type"] = [names[letter] for letter in pattern]
    return keys
