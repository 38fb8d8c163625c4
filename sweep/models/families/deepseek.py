"""DeepSeek V2, V3 and R1 and Kimi K2: latent attention, dense first layers, shared experts."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.families.glm4_moe import with_experts
from sweep.models.layers import (
    EXPERTS,
    GATED_FFN,
    RMS_NORM,
    SHARED_EXPERT,
    decoder,
    layer_count,
    pre_norm,
)

LATENT_ATTENTION = (
    "query_down_projection",
    "query_norm",
    "query_up_projection",
    "latent_projection",
    "latent_norm",
    "latent_rotary",
    "latent_cache_append",
    "latent_up_projection",
    "latent_attention",
    "latent_output_projection",
)
QUERY_OPERATORS = {"query_down_projection", "query_norm", "query_up_projection"}
LAYER = pre_norm(LATENT_ATTENTION, GATED_FFN)
EXPERT_LAYER = pre_norm(LATENT_ATTENTION, (*SHARED_EXPERT, *EXPERTS))


def read_deepseek_v2(config: Config) -> tuple[Block, ...]:
    """DeepSeek V2 and V2-Lite, and those that say they route as V3 does."""
    sigmoid, corrected = config.get("scoring_func"), config.get("topk_method")
    return _read(config, router_bias=sigmoid == "sigmoid" or corrected == "noaux_tc")


def read_deepseek_v3(config: Config) -> tuple[Block, ...]:
    """DeepSeek V3 and R1, and Kimi K2: the router's scores are corrected by a bias."""
    return _read(config, router_bias=True)


def _read(config: Config, *, router_bias: bool) -> tuple[Block, ...]:
    if config.flag("attention_bias", False):
        raise config.error("attention_bias", "true is not supported with latent attention")
    config.passes_over("num_key_value_heads", "head_dim")
    dense = Block(
        LAYER,
        hidden_size=config.size("hidden_size"),
        norm_vectors=RMS_NORM,
        heads=config.size("num_attention_heads"),
        kv_heads=1,
        head_dim=config.size("qk_nope_head_dim"),
        rotary_dim=config.size("qk_rope_head_dim"),
        value_dim=config.size("v_head_dim"),
        latent_dim=config.size("kv_lora_rank"),
        query_rank=config.size("q_lora_rank") if "q_lora_rank" in config else 0,
        ffn_size=config.size("intermediate_size"),
    )
    routed = with_experts(config, dense, EXPERT_LAYER, router_bias=router_bias)
    first = config.natural("first_k_dense_replace")
    step = config.size("moe_layer_freq", default=1)
    layers = [routed if i >= first and i % step == 0 else dense for i in range(layer_count(config))]
    if not dense.query_rank:
        layers = [dataclasses.replace(b, operators=_one_step_queries(b)) for b in layers]
    return decoder(config, layers)


def _one_step_queries(block: Block) -> tuple[str, ...]:
    kept = tuple(name for name in block.operators if name not in QUERY_OPERATORS)
    place = kept.index("latent_projection")
    return (*kept[:place], "query_projection", *kept[place:])
