"""Tiny models of families whose structure another family has too, and their parameters."""

from typing import Any

from factories import CONFIGS, config
from state_models import STATE_MODELS

from sweep.models.spellings import SPELLINGS

BASE = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
WINDOWS = ["full_attention", "sliding_attention"] * 2

OTHER_FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "arcee": ({**BASE, "attention_bias": True, "mlp_bias": True, "head_dim": 8}, 190_528),
    "baichuan": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
        },
        254_528,
    ),
    # DeepSeek's 323 648 and 4·(64 + 2·16) biases.
    "bailing_moe": (
        {
            **BASE,
            **EXPERTS,
            "num_experts": 8,
            "num_shared_experts": 2,
            "first_k_dense_replace": 1,
            "use_qkv_bias": True,
            "use_bias": False,
        },
        324_032,
    ),
    "bailing_moe_v2": (
        {
            **BASE,
            **EXPERTS,
            "num_experts": 8,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "moe_router_enable_expert_bias": True,
            "head_dim": 16,
        },
        346_328,
    ),
    "codegen": (
        {"n_embd": 64, "n_head": 8, "n_layer": 4, "vocab_size": 512, "rotary_dim": 4},
        264_576,
    ),
    "cohere": ({**BASE, "use_qk_norm": True}, 197_248),
    "cohere2": ({**BASE, "head_dim": 16, "sliding_window": 48}, 237_888),
    "cwm": ({**BASE, "head_dim": 16, "sliding_window": 48, "layer_types": WINDOWS}, 270_912),
    # As Granite's.
    "dbrx": (
        {
            "d_model": 64,
            "n_heads": 8,
            "n_layers": 4,
            "vocab_size": 512,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8},
            "ffn_config": {"ffn_hidden_size": 160, "moe_num_experts": 8, "moe_top_k": 2},
        },
        1_092_160,
    ),
    "deepseek": (
        {
            **BASE,
            **EXPERTS,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
        },
        323_648,
    ),
    # A layer: 10·64² + 2·160·64 + 11·64 + 160; 249216 in four.
    "dit": (
        {
            "hidden_size": 64,
            "depth": 4,
            "num_heads": 8,
            "patch_size": 2,
            "in_channels": 4,
            "image_size": 64,
            "mlp_ratio": 2.5,
            "num_classes": 9,
        },
        281_952,
    ),
    "dots1": (
        {
            **BASE,
            **EXPERTS,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "head_dim": 8,
        },
        323_736,
    ),
    "ernie4_5": ({**BASE, "use_bias": True, "head_dim": 16}, 240_704),
    "ernie4_5_moe": (
        {
            **BASE,
            "moe_intermediate_size": 32,
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 2,
            "moe_layer_interval": 1,
        },
        259_664,
    ),
    "exaone": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": 512,
        },
        229_952,
    ),
    "exaone4": ({**BASE, "sliding_window": 48, "sliding_window_pattern": 4}, 230_016),
    "exaone_moe": (
        {
            **BASE,
            **EXPERTS,
            "num_experts": 8,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "sliding_window": 48,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        },
        305_304,
    ),
    # A layer is 356 of alternating updates, 576 of the low-rank residual, 1088 of its embedding,
    # 256 + 16 of norms, 16 384 of queries and outputs, 30 720 of the feed-forward; two of the four
    # have 4112 of keys and values. Before and after the layers are 55 368.
    "gemma3n_text": (
        {
            **BASE,
            "head_dim": 16,
            "sliding_window": 48,
            "layer_types": WINDOWS,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 128,
            "altup_num_inputs": 3,
            "laurel_rank": 4,
        },
        261_176,
    ),
    # A layer is 448 of norms, 584 of the router, 49 152 of experts, 30 720 of the feed-forward,
    # 1088 of its own embedding; 16 400 of queries and outputs with a window and 32 800 without.
    # The first two have 4112 of keys and values, and 2080 of keys only.
    "gemma4_text": (
        {
            **BASE,
            "head_dim": 16,
            "global_head_dim": 32,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "sliding_window": 48,
            "layer_types": WINDOWS[::-1],
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 128,
            "enable_moe_block": True,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
        471_544,
    ),
    "glm": ({**BASE, "head_dim": 16}, 271_680),
    # Embedding and head 65 536; attention 25 144, a dense layer's 30 720, experts' 55 816; norms;
    # two indexers of 24·4·16 + 64·16 + 2·16 + 4·64 = 2848.
    "glm_moe_dsa": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "vocab_size": 512,
            "q_lora_rank": 24,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            **EXPERTS,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "index_n_heads": 4,
            "index_head_dim": 16,
            "index_topk": 10,
            "indexer_types": ["full", "shared", "full"],
        },
        289_464,
    ),
    "glm4": ({**BASE, "head_dim": 16}, 272_192),
    "glm4v_moe_text": (
        {
            **BASE,
            **EXPERTS,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "head_dim": 8,
        },
        305_624,
    ),
    "gpt_bigcode": (
        {"n_embd": 64, "n_head": 8, "n_layer": 4, "vocab_size": 512, "n_positions": 128},
        211_904,
    ),
    "gpt_neox": (
        {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
        },
        265_600,
    ),
    "granite": ({**BASE, "attention_bias": True}, 230_592),
    "granite_swa": ({**BASE, "sliding_window": 48, "layer_types": WINDOWS}, 197_216),
    "granitemoe": ({**BASE, "num_local_experts": 8, "num_experts_per_tok": 2}, 1_092_160),
    # Granite's, 8 norms of 64 more and no head of 512·64.
    "grok-1": ({**BASE, "num_experts": 8, "num_experts_per_tok": 2}, 1_059_904),
    "hunyuan_v1_dense": ({**BASE, "head_dim": 16}, 271_040),
    "hunyuan_v1_moe": ({**BASE, "head_dim": 16, "num_experts": 8, "moe_topk": 2}, 1_256_128),
    "hy_v3": (
        {**BASE, **EXPERTS, "num_experts": 8, "num_shared_experts": 1, "head_dim": 16},
        346_328,
    ),
    # Llama's 229 952 and 4·(64 + 2·16) biases.
    "internlm3": ({**BASE, "qkv_bias": True}, 230_336),
    "jais2": ({**BASE, "head_dim": 8}, 191_104),
    "mellum": (
        {
            **BASE,
            **EXPERTS,
            "num_local_experts": 8,
            "head_dim": 16,
            "sliding_window": 48,
            "layer_types": WINDOWS,
        },
        346_816,
    ),
    "mimo": ({**BASE}, 230_336),
    "minicpm": ({**BASE, "num_experts": 8, "num_experts_per_tok": 2}, 1_059_392),
    "minicpm3": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
            "num_key_value_heads": 8,
            "kv_lora_rank": 32,
            "q_lora_rank": 24,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
        },
        256_800,
    ),
    "youtu": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
            "num_key_value_heads": 8,
            "kv_lora_rank": 32,
            "q_lora_rank": 24,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
        },
        256_800,
    ),
    "minimax_m2": (
        {**BASE, "head_dim": 16, "num_local_experts": 8, "num_experts_per_tok": 2},
        1_133_792,
    ),
    # Llama's 229 952, 8 rows of the embedding, two norms of 8 and two gates.
    "mllama": ({**BASE, "cross_attention_layers": [1]}, 230_482),
    "mpt": (
        {"d_model": 64, "n_heads": 8, "n_layers": 4, "expansion_ratio": 4, "vocab_size": 512},
        229_952,
    ),
    "nemotron": ({**BASE, "head_dim": 16}, 230_528),
    # Halves of 10 304 and 49 216; 12 352; 4160 and 98 368; 4160: widths of 256 and 512.
    "nemotron-nas": (
        {
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
            "block_configs": [
                {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 6}},
                {"attention": {"n_heads_in_group": 2}, "ffn": {"no_op": True}},
                {"attention": {"replace_with_linear": True}, "ffn": {"ffn_mult": 6.1}},
                {"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}},
            ],
        },
        244_160,
    ),
    "olmo": ({**BASE}, 229_376),
    "olmo3": ({**BASE, "sliding_window": 48}, 230_272),
    "olmoe": ({**BASE, "num_experts": 8, "num_experts_per_tok": 2}, 1_092_480),
    # Layers of 12 432 and 59 536: widths of 32 and 256.
    "openelm": (
        {
            "model_dim": 64,
            "head_dim": 8,
            "num_transformer_layers": 2,
            "num_query_heads": [4, 8],
            "num_kv_heads": [2, 2],
            "ffn_multipliers": [0.5, 4.0],
            "ffn_dim_divisor": 16,
            "vocab_size": 512,
        },
        104_800,
    ),
    "persimmon": (
        {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
        },
        216_192,
    ),
    "phi": ({**BASE, "qk_layernorm": True}, 191_232),
    "phimoe": (
        {
            **BASE,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "attention_bias": True,
            "lm_head_bias": True,
        },
        1_093_888,
    ),
    "qwen": (
        {
            "hidden_size": 64,
            "intermediate_size": 320,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "vocab_size": 512,
        },
        255_296,
    ),
    "smollm3": ({**BASE}, 197_184),
    "solar_open": (
        {
            **EXPERTS,
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": 512,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "head_dim": 16,
        },
        371_296,
    ),
    "stablelm": ({**BASE, "use_qkv_bias": True, "qk_layernorm": True}, 231_232),
    "starcoder2": ({**BASE}, 158_336),
    # Layers of 21 152, a feed-forward of 30 720, 3 of 55 816 with experts, ends of 65 600.
    "step3p5": (
        {
            **BASE,
            **EXPERTS,
            "n_routed_experts": 8,
            "share_expert_dim": 32,
            "head_dim": 16,
            "moe_layers_enum": "1,2,3",
            "sliding_window": 48,
            "layer_types": WINDOWS,
        },
        348_376,
    ),
    "vaultgemma": ({**BASE, "head_dim": 16}, 238_144),
    **STATE_MODELS,
}
"""Family → keys and parameters, as the published model code builds it without weights; those
by hand where a comment says so. A router's stored bias, which that code keeps aside, is counted."""

FURTHER_KEYS = [
    *sorted({key for keys in SPELLINGS.values() for key in keys}),
    *("layer_types", "mlp_layer_types", "moe_layer_freq", "moe_layers_enum", "no_rope_layers"),
    *("rope_parameters", "partial_rotary_factor", "tie_word_embeddings", "text_config"),
    *("hybrid_layer_pattern", "attn_type_list", "attn_config", "attention_other_setting"),
    *("sliding_window_pattern", "use_sliding_window", "max_window_layers", "model_type"),
    *(
        "num_kv_shared_layers",
        "use_cla",
        "cla_share_factor",
        "attention_k_eq_v",
        "altup_num_inputs",
    ),
    *("block_configs", "cross_attention_layers", "hidden_size_per_layer_input"),
]
"""Keys that other families read: for configs that have too many."""


def keys_of(family: str, **changes: Any) -> dict[str, Any]:
    """Keys of a tiny model of any family, some replaced; `None` takes a key out."""
    if family in CONFIGS:
        return config(family, **changes)
    keys = {"model_type": family, **OTHER_FAMILIES[family][0], **changes}
    # A rank of null says that queries are not compressed; elsewhere `None` takes a key out.
    kept = ("q_lora_rank",)
    return {key: value for key, value in keys.items() if value is not None or key in kept}
