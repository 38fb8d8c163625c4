"""Keys of a config that its family does not read: harmless, or signs of another structure."""

import re
from collections.abc import Iterable

SILENT = re.compile(
    r"""
      _.* | architectures | auto_map | model_type | torch_dtype | dtype | transformers_version
    | .*token_(id|ids|index)$ | .*_dropout.* | .*(pdrop|_drop)$ | .*dropout(_prob|_rate|p)?$
    | initializer_.* | init_.* | rms_norm_eps | rmsnorm_eps | max_position_embeddings
    | (original_)?max_(sequence_length|length|seq_len|position_embeddings) | model_max_length
    | rope_.* | rotary_(base|pct|emb_base) | use_rope | .*_softcapping | query_pre_attn_scalar
    | quantization_config | compression_config | hidden_act | hidden_activation
    | router_(aux_loss_coef|z_loss_coef|jitter_noise) | output_.* | pretraining_tp | ep_size
    | norm_topk_prob | topk_(group|method) | n_group | scoring_func | routed_scaling_factor
    | aux_loss_alpha | seq_aux | use_cache | cache_implementation | chunk_size_feed_forward
    | gradient_checkpointing | task_specific_params | summary_.* | return_dict.* | problem_type
    | activation_function | num_nextn_predict_layers | torchscript | id2label | label2id
    | use_bfloat16 | tf_legacy_loss | tie_encoder_decoder
    | (vision|audio|image|video|mm|boi|eoi)_.* | attn_implementation | use_mrope | bos_id | eos_id
    | (n_ctx|seq_length|training_seq_len|attn_temperature_tuning|floor_scale|attn_scale)$
    | for_llm_compressor | swiglu_limit | initial_context_length | use_return_dict
    """,
    re.VERBOSE,
)
"""Keys of the run, the training or the arithmetic: they change no size."""
TELLING = re.compile(
    r"""
      .*experts?.* | moe_.* | .*lora_rank | qk_(nope|rope)_head_dim | v_head_dim
    | .*(mamba|ssm|conv|recurrent|linear_attn|linear_(key|value|num)).* | state_size
    | is_encoder_decoder | add_cross_attention | encoder_.* | decoder_(layers|ffn_dim)
    | (mlp|attention|attention_out|ffn|use)_bias | add_bias_linear | use_qk_norm | qk_(layer)?norm
    | attention_chunk_size | hybrid.* | altup.* | laurel.*
    """,
    re.VERBOSE,
)
"""Keys that say there is a part a family knows nothing of."""
GATED_ACTIVATIONS = ("silu", "swish", "swiglu")
"""Activations of the gated feed-forwards that a family may be guessed to have."""
UNLIKE = (
    *("cohere", "cohere2", "exaone4", "gemma3n", "glm", "glm4", "nemotron"),
    *("olmo", "olmo2", "olmo3", "phi", "stablelm"),
)
"""Families with keys like Llama's whose layers differ by what no key tells: norms or biases."""


def unread(keys: Iterable[tuple[str, object]]) -> list[str]:
    """Keys that were not read, are switched on and might change the structure."""
    return [k for k, value in keys if value not in (None, False, 0, [], {}) and not _silent(k)]


def _silent(key: str) -> bool:
    return SILENT.fullmatch(key) is not None


def telling(keys: Iterable[str]) -> list[str]:
    """Those of `keys` that speak of a part of the model."""
    return [key for key in keys if TELLING.fullmatch(key)]
