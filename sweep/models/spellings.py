"""The published spellings of each fact of a model, in the order they are looked up."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": (
        *("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups"),
        *("kv_n_heads",),
    ),
    "head_dim": ("head_dim", "kv_channels", "attention_head_dim"),
    "rotary_dim": ("rotary_dim", "rotary_ndims"),
    "rotary_share": ("partial_rotary_factor", "rotary_pct", "rope_pct"),
    "ffn_size": (*("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "block_ff_dim"),),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "positions": ("n_positions", "max_position_embeddings", "n_ctx"),
    "window": ("sliding_window", "sliding_window_size", "window_size"),
    "experts": (
        *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
        *("moe_num_routed_experts", "n_experts"),
    ),
    "experts_per_token": (
        *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"),
        *("moe_k", "moe_top_k", "num_selected_experts", "n_activated_experts"),
    ),
    "expert_size": ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "dense_size": ("dense_intermediate_size", "intermediate_size_mlp"),
    "shared_experts": (
        *("n_shared_experts", "num_shared_experts", "num_shared_expert"),
        *("moe_num_shared_experts",),
    ),
    "shared_size": (
        *("shared_expert_intermediate_size", "shared_experts_intermediate_size"),
        *("moe_shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"),
    ),
    "dense_first": (
        *("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"),
        *("n_dense_layers", "n_dense_first_layers"),
    ),
    "routing_bias": (
        *("use_routing_bias", "use_moe_router_bias", "moe_router_enable_expert_bias"),
        *("use_expert_bias", "moe_router_use_expert_bias"),
    ),
    "qk_norm": ("use_qk_norm", "qk_layernorm", "qk_norm"),
    "layer_kinds": ("layer_types", "layers_block_type"),
    "extra_tokens": ("num_nextn_predict_layers", "num_mtp_modules", "_num_mtp_layers"),
}
"""Fact → keys. Two spellings in one config must agree; the first that is given counts."""


def spellings(fact: str) -> tuple[str, ...]:
    """Keys that state `fact`; a key that is no fact's name stands for itself."""
    return SPELLINGS.get(fact, (fact,))
