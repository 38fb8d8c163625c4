"""Tiny models of families with layers that keep a state, and their parameters, worked out."""

from typing import Any

from sweep.kernel.block import Block
from sweep.models.read import read_blocks

# Embedding, head and last norm: 2·512·64 + 64 = 65 600; 32 832 with a tied head. Attention of 8
# heads of 8 and 2 KV heads: 64·12·8 + 64·64 = 10 240. Feed-forward: 3·64·160 = 30 720, two norms
# 128. Experts: 8·3·64·32 = 49 152 and a router of 512; of 160, 245 760.
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4,
}
"""64·(2·32 + 2·48 + 2·4) + 4·(64 + 48) + 2·4 + 12 + 48·64 = 14 292 parameters."""
QWEN = {**SIZES, "head_dim": 16, **DELTA_NET}
"""Attention with its gate: 64·16·(2·8 + 2·2) + 8·16·64 + 2·16 = 28 704."""
MAMBA = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
HEADS_OF_MAMBA = {**MAMBA, "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_head": 16}
"""64·(2·128 + 2·16 + 8) + 5·(128 + 32) + 3·8 + 128 + 128·64 = 28 088."""
PLAIN_MAMBA = {"state_size": 8, "conv_kernel": 4, "expand": 2}
"""64·256 + 5·128 + 128·(4 + 16) + 4·128 + 128 + 9·128 + 128·64 = 29 568."""
KIMI = {
    "linear_attn_config": {
        "full_attn_layers": [3],
        "kda_layers": [1, 2, 4],
        "head_dim": 16,
        "num_heads": 4,
        "short_conv_kernel_size": 4,
    },
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "num_experts": 8,
    "num_experts_per_token": 2,
    "moe_intermediate_size": 32,
    "num_shared_experts": 1,
    "mla_use_nope": True,
}
CONVOLUTIONS = ["conv", "conv", "full_attention", "conv"]
STATE_MODELS: dict[str, tuple[dict[str, Any], int]] = {
    # 3·(28 088 + 30 848) + 10 240 + 30 848.
    "bamba": ({**SIZES, **HEADS_OF_MAMBA, "attn_layer_indices": [2]}, 283_496),
    # Mixer 64·(2·96 + 2·8 + 8) + 5·(96 + 16) + 3·8 + 96·64 = 20 552.
    "falcon_h1": (
        {
            **SIZES,
            **HEADS_OF_MAMBA,
            "mamba_d_ssm": 96,
            "mamba_d_head": 12,
            "mamba_n_groups": 1,
            "mamba_rms_norm": False,
        },
        4 * (10_240 + 20_552 + 30_848) + 65_600,
    ),
    "falcon_mamba": (
        {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 512, **PLAIN_MAMBA},
        151_360,
    ),
    # Shared expert 3·64·96 = 18 432 in each layer.
    "granitemoehybrid": (
        {
            **SIZES,
            **HEADS_OF_MAMBA,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 96,
            "layer_types": ["mamba", "mamba", "attention", "mamba"],
        },
        3 * 28_088 + 10_240 + 4 * (245_760 + 512 + 18_432 + 128) + 65_600,
    ),
    # Norms of the time step, B and C: 4 + 8 + 8.
    "jamba": (
        {
            **SIZES,
            **MAMBA,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
        },
        3 * 29_588 + 10_240 + 2 * 30_720 + 2 * 246_272 + 4 * 128 + 65_600,
    ),
    # Delta attention: 64·(3·64 + 4) + 2·(64·16 + 16·64) + 4·192 + 64 + 4 + 16 + 64·64 = 21 588.
    # Latent attention: 64·192 + 64·40 + 32 + 32·256 + 128·64 = 31 264. Experts with a bias of 8
    # and a shared one: 55 816.
    "kimi_linear": (
        {**SIZES, **KIMI},
        3 * 21_588 + 31_264 + 30_720 + 3 * 55_816 + 4 * 128 + 65_600,
    ),
    # Convolution: 64·192 + 3·64 + 64·64 = 16 576; two thirds of 192 are 128: 3·64·128 = 24 576.
    "lfm2": (
        {
            **SIZES,
            "intermediate_size": 192,
            "conv_L_cache": 3,
            "block_multiple_of": 32,
            "layer_types": CONVOLUTIONS,
        },
        3 * 16_576 + 10_256 + 4 * (24_576 + 128) + 32_832,
    ),
    "lfm2_moe": (
        {
            **SIZES,
            **EXPERTS,
            "conv_L_cache": 3,
            "num_dense_layers": 1,
            "layer_types": CONVOLUTIONS,
        },
        3 * 16_576 + 10_256 + 30_720 + 3 * (49_152 + 520) + 4 * 128 + 32_832,
    ),
    "mamba": (
        {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 512, **PLAIN_MAMBA},
        4 * (29_568 + 64) + 32_832,
    ),
    "mamba2": (
        {
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "vocab_size": 512,
            **PLAIN_MAMBA,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 2,
        },
        4 * (28_088 + 64) + 65_600,
    ),
    # Lightning: 64·(3·64 + 64) + 64 + 64·64 = 20 544.
    "minimax": (
        {
            **SIZES,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "attn_type_list": [0, 0, 0, 1],
        },
        3 * 20_544 + 10_240 + 4 * (245_760 + 512 + 128) + 65_600,
    ),
    # Experts 8·2·64·32, router 512 + 8, shared 2·64·48: 39 432; feed-forward 2·64·160.
    "nemotron_h": (
        {
            **{key: value for key, value in SIZES.items() if key != "num_hidden_layers"},
            "head_dim": 8,
            "hybrid_override_pattern": "ME*-",
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 2,
            "conv_kernel": 4,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 48,
        },
        28_088 + 39_432 + 10_240 + 20_480 + 4 * 64 + 65_600,
    ),
    # Norms of the query and the key, 64 and 16 wide. Four heads of 16 by 24:
    # 64·(2·64 + 2·96 + 2·4) + 4·(128 + 96) + 2·4 + 24 + 96·64 = 28 064.
    "olmo_hybrid": (
        {
            **SIZES,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 24,
        },
        3 * 28_064 + 10_320 + 4 * 30_848 + 65_600,
    ),
    "qwen3_5": (QWEN, 3 * 14_292 + 28_704 + 4 * 30_848 + 65_600),
    # Experts 49 664, shared 3·64·48 and its gate of 64: 58 944.
    "qwen3_5_moe": (
        {**QWEN, **EXPERTS, "shared_expert_intermediate_size": 48},
        3 * 14_292 + 28_704 + 4 * (58_944 + 128) + 65_600,
    ),
    "qwen3_next": (
        {**QWEN, **EXPERTS, "shared_expert_intermediate_size": 48},
        3 * 14_292 + 28_704 + 4 * (58_944 + 128) + 65_600,
    ),
}
"""Family → keys as published, and parameters."""
K3 = {
    "linear_attn_config": {**KIMI["linear_attn_config"], "use_full_rank_gate": True},
    "mla_use_output_gate": True,
    "q_lora_rank": 24,
    "routed_expert_hidden_size": 24,
    "latent_moe_use_norm": True,
    "attn_res_block_size": 2,
    "mla_use_nope": False,
}
"""What Kimi K3 has in addition."""
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("kimi_linear", K3),
    ("nemotron_h", {"moe_latent_size": 24}),
    ("falcon_h1", {"mamba_rms_norm": True}),
)
"""Families and keys that switch on further parts."""


def keys_of_state_model(family: str, **changes: Any) -> dict[str, Any]:
    """Keys of the tiny model of a family, some replaced; `None` takes a key out."""
    keys = {"model_type": family, **STATE_MODELS[family][0], **changes}
    # A rank of null says that queries are not compressed; elsewhere `None` takes a key out.
    kept = ("q_lora_rank",)
    return {key: value for key, value in keys.items() if value is not None or key in kept}


def tiny(family: str, **changes: Any) -> tuple[Block, ...]:
    return read_blocks(keys_of_state_model(family, **changes), family)
