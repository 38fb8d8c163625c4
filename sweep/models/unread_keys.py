"""Keys of a config that no reader uses: harmless ones, and signs of another part of the model."""

import re
from collections.abc import Iterable

SILENT = re.compile(
    r"""
      _.* | architectures | auto_map | model_type | torch_dtype | dtype | transformers_version
    | transformers\.js_config | .*_version | tokenizer_.* | .*tokens?_(id|ids|index|indices)$
    | .*_dropout.* | .*(pdrop|_drop)$ | .*dropout(_prob|_rate|p)?$ | layerdrop
    | initializer_.* | init_.* | embedding_initializer.* | rescale_.* | use_mup | mup_.*
    | .*(layer|rms)_?norm_eps(ilon)? | (rms|layer)norm_eps(ilon)? | norm_eps(ilon)?
    | (original_)?max_(sequence_length|length|seq_len|position_embeddings|seqlen)
    | model_max_length | (n_ctx|n_positions|seq_length|training_seq_len|seq_len|max_.*_len)$
    | rope_.* | rotary_(base|emb_base|emb_scale_base|emb_interleaved|interleaved) | use_rope
    | rotary_(pct|ndims|embedding|scaling_factor) | rotary | .*_rope_theta | mrope.* | use_mrope
    | yarn_.* | use_(dynamic_ntk|logn_attn|flash_attn.*|cache_.*) | flash_.* | fused_.*
    | attn_temperature_tuning | floor_scale | attn_scale | scale_attn.* | scale_attention.*
    | attention_softmax_.* | softmax_scale | .*_softcapping | query_pre_attn_scalar | clip_qkv
    | reorder_and_upcast_attn | max_attn_value | attn_(impl|logit.*|output_multiplier|uses_.*)
    | .*_(multiplier|multipliers|scaling|scale|scalar|alpha|beta)$ | scale_(emb|depth|embedding.*)
    | dim_model_base | logits?_.* | (route|router|routed|moe_router)_scal.* | swiglu_.*
    | quantization_config | compression_config | hidden_act | hidden_activation | activation_.*
    | mlp_hidden_act | (attn_)?implementation | attn_implementation
    | router_(aux_loss_coef|z_loss_coef|jitter_noise|dtype|score.*) | input_jitter_noise
    | (aux_loss|seq_aux|aux_loss_alpha|z_loss).* | .*_loss(_.*)? | output_.* | pretraining_tp
    | ep_size | norm_topk_prob | topk_(group|method) | n_group | num_expert_groups?
    | num_limited_groups | route_norm | score_func(tion)? | use_grouped_mm | full_attn_mod
    | use_grouped_topk | scoring_func | norm_head | (use_)?norm_(topk|expert).*
    | router_activation_func | moe_(router|gate|norm|capacity|use|renorm|group|aux|loss)(?!.*bias).*
    | moe_(apply|token|permute|grouped|dtype|activation|topk_scal|dropout|softmax|orthogonal).*
    | moe_(multimodal|parallel|all_to_all).*
    | expert_(selection_fn|drop|capacity.*) | group_limited_topk | enable_.*_combine
    | use_cache | cache_implementation | chunk_size_feed_forward | gradient_checkpointing
    | task_specific_params | summary_.* | return_dict.* | problem_type | use_return_dict
    | torchscript | id2label | label2id | num_labels | use_bfloat16 | bf16 | fp16 | fp32
    | tf_legacy_loss | tie_encoder_decoder | finetuning_task | pruned_heads | prefix
    | (vision|audio|image|video|mm|boi|eoi|img|boa|eoa|speech|projector|visual)_.*
    | (vit|vision|audio|visual|image|dino|talker|token2wav|code2wav|projector|mlp1)(_.*)?
    | .*_(placeholder|config_path) | select_layer | ps_version | downsample_ratio
    | dynamic_image_size | use_thumbnail | (min|max)_dynamic_patch | template | ignore_index
    | force_image_size | pad2square | embd_layer | img_processor | sub_configs | grid_.*
    | (bos|eos|pad|sep|cls|mask|unk)_(id|token) | is_decoder | for_llm_compressor
    | initial_context_length | internal_version | is_llama_config | predict_special_tokens
    | use_rmsnorm | no_bias | norm_type
    | (norm|low)_precision.* | norm_epsilon | init_device | logit_scale | embedding_fraction
    | learned_pos_emb | verbose | attn_(type|pdrop|uses_sequence_id) | prefix_lm | pos_emb
    | position_embedding_type | mlp_type | runner_max_sequence_length | use_nope_scaling
    | (temperature|top_k|top_p|typical_p|num_beams|num_beam_groups|do_sample|early_stopping)
    | (length|repetition|diversity|encoder_repetition)_penalty | num_return_sequences
    | (min|max)_length | no_repeat_ngram_size | encoder_no_repeat_ngram_size | bad_words_ids
    | (begin_)?suppress_tokens | exponential_decay_length_penalty | remove_invalid_values
    | forced_.* | length_penalty | cross_attention_hidden_size | use_mtp | mtp_.* | .*nextn.*
    | num_mtp_.* | model_(name|version|author|family) | license | zero_infinity
    | use_(scaled_init.*|tf32) | add_classification_head
    | (class|pool|reward)_.* | num_reward_heads | training_.*
    | sequence_parallel | recompute.* | tensor_parallel.* | fuse_.* | use_(fp32.*|fast.*|flashmask)
    | (rms_norm|layernorm)_.* | order_of_interleaved_layers
    | (use_)?gemma_norm | use_gemma_norm | rope | qkv_pack.* | freq_.* | pos_config | emb_.*
    | attention_(value_scale|multiplier|logit_cap|method|type) | residual_.* | loss_.* | logn_.*
    | multimodal_.* | process_image_mode | spatial_.* | temporal_.* | patch_.* | interpolate_.*
    """,
    re.VERBOSE,
)
"""Keys of the tokenizer, the run, the training or the arithmetic: they change no size or work."""
TELLING = re.compile(
    r"""
      .*experts?.* | moe_.* | .*lora_rank | qk_(nope|rope)_head_dim | v_head_dim
    | .*(mamba|ssm|conv|recurrent|linear_attn|linear_(key|value|num)).* | state_size
    | is_encoder_decoder | add_cross_attention | encoder_.* | decoder_(layers|ffn_dim)
    | (mlp|attention|attention_out|ffn|use|qkv)_bias | add_bias_linear | use_qk_norm
    | (use_)?qkv?_(layer)?norm | qk_ln | attention_chunk_size | hybrid.* | altup.* | laurel.*
    | .*intermediate_size.* | .*head_dim | num_.*heads.* | .*_gate$ | attn_.*gate.*
    | layer_types | .*_layer_types | .*layers? | use_(cla|mla|post_norm)
    | .*index(er)?_.* | sparse_attention.* | compress_ratios? | block_configs | attention_other.*
    | .*latent.* | attn_res.* | routed_expert_.* | time_step_rank | .*L_cache | expand
    | attention_k_eq_v | enable_moe_block | use_double_wide_mlp
    | add_.*sink.* | (per|kv)_layer.* | .*_per_layer.* | lm_head_bias | cla_.* | shared_.*
    """,
    re.VERBOSE,
)
"""Keys of a part that a family does not have if its reader did not use them."""
GATED_ACTIVATIONS = ("silu", "swish", "swiglu")
"""Activations of the gated feed-forwards that an unknown family may be read with."""
DOUBTFUL = re.compile(
    r"""
      .*layer_?norm_eps(ilon)? | norm_(type|bias|epsilon|eps) | position_embedding_type
    | .*parallel.*
    | attention_value_scale | .*alibi.* | mlp_type | rotary_ndims | swiglu_limits?.*
    """,
    re.VERBOSE,
)
"""Keys that say nothing new of a known family but hint at another layer in an unknown one."""
UNLIKE = (
    *("hyperclovax", "phi3small", "arctic", "jetmoe", "longcat_flash", "diffllama", "doge"),
    *("laguna", "diffusion_gemma", "embedding_gemma2", "gemma4_assistant", "gemma4_unified"),
    *("gemma4_unified_assistant", "gemma4_unified_text"),
)
"""Families with keys like those of others, whose layers have parts that no key shows."""


def unread(keys: Iterable[tuple[str, object]]) -> list[str]:
    """List keys that were not read, are switched on and might change the structure."""
    return [k for k, value in keys if value not in (None, False, 0, [], {}, "") and not _silent(k)]


def doubtful(keys: Iterable[tuple[str, object]]) -> list[str]:
    """List keys that hint at a layer unlike Llama's."""
    return [k for k, value in keys if value not in (None, False) and DOUBTFUL.fullmatch(k)]


def _silent(key: str) -> bool:
    return SILENT.fullmatch(key) is not None


def telling(keys: Iterable[str]) -> list[str]:
    """List those of `keys` that speak of a part of the model."""
    return [key for key in keys if TELLING.fullmatch(key)]
