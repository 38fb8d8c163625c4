"""Configs that cannot be read are refused by their key; unknown ones are read with a warning."""

import math
from itertools import product
from typing import Any

import pytest
from factories import CONFIGS, config, shipped_model
from model_families import OTHER_FAMILIES

from sweep.errors import SpecError, SpecWarning
from sweep.models.family_table import FAMILIES
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_blocks
from sweep.specs.model import ModelSpec


@pytest.mark.parametrize("family", ["rwkv", 3, None, ["llama"]])
def test_a_family_nobody_knows_is_refused(family: object) -> None:
    with pytest.raises(SpecError, match="model_type"):
        read_blocks({"model_type": family, "hidden_size": 64}, "file.json")


def test_every_family_has_a_tiny_config() -> None:
    assert set(CONFIGS) | set(OTHER_FAMILIES) == set(FAMILIES)
    assert not set(CONFIGS) & set(OTHER_FAMILIES)


def leaves(family: str, kind: type) -> list[str]:
    keys = CONFIGS[family].get("text_config", CONFIGS[family])
    return [key for key, value in keys.items() if type(value) is kind]


def with_key(family: str, key: str, value: object) -> dict[str, Any]:
    if "text_config" in CONFIGS[family]:
        return config(family, text_config={**CONFIGS[family]["text_config"], key: value})
    return {**config(family), key: value}


MAY_BE_NONE = {
    *("first_k_dense_replace", "num_dense_layers"),
    *("n_shared_experts", "num_shared_experts", "shared_expert_intermediate_size"),
    "num_hash_layers",
}
"""Keys for layers and experts that a model may do without."""
NO_SIZE = [0, -1, True, 64.0, math.nan, "64", [64], 10**10]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_size_that_is_no_positive_integer_is_refused_by_its_key(family: str) -> None:
    for key, value in product(leaves(family, int), NO_SIZE):
        if value == 0 and value is not False and key in MAY_BE_NONE:
            continue
        with pytest.raises(SpecError, match=key) as refusal:
            read_blocks(with_key(family, key, value), "some/config.json")
        assert "some/config.json" in str(refusal.value)


@pytest.mark.parametrize(
    ("family", "key"), [(family, key) for family in CONFIGS for key in leaves(family, bool)]
)
def test_a_flag_that_is_no_boolean_is_refused_by_its_key(family: str, key: str) -> None:
    for value in (1, 0, "true", []):
        with pytest.raises(SpecError, match=key):
            read_blocks(with_key(family, key, value), "config.json")


LLAMA_KEYS = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
]
GPT_KEYS = ["n_embd", "n_head", "n_layer", "vocab_size"]
REQUIRED = {
    "bloom": ["hidden_size", "n_head", "n_layer", "vocab_size"],
    "chatglm": [
        "hidden_size",
        "ffn_hidden_size",
        "num_layers",
        "num_attention_heads",
        "padded_vocab_size",
    ],
    "falcon": ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"],
    "gpt2": [*GPT_KEYS, "n_positions"],
    "gptj": GPT_KEYS,
    "opt": [
        "hidden_size",
        "ffn_dim",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ],
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text", "qwen2", "qwen3"), LLAMA_KEYS),
    **dict.fromkeys(("internlm", "internlm2", "llama", "seed_oss", "Yi"), LLAMA_KEYS),
    **dict.fromkeys(("mistral", "mixtral", "phi3"), LLAMA_KEYS),
    "gpt_oss": [*LLAMA_KEYS, "num_local_experts", "num_experts_per_tok", "sliding_window"],
    # No layer of theirs is dense, so that nothing reads `intermediate_size`.
    **dict.fromkeys(
        ("qwen2_moe", "qwen3_moe"),
        (
            *(key for key in LLAMA_KEYS if key != "intermediate_size"),
            *("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
        ),
    ),
    **dict.fromkeys(("apertus", "bitnet", "olmo2"), LLAMA_KEYS),
    "afmoe": [*LLAMA_KEYS, "num_experts", "num_experts_per_tok", "moe_intermediate_size"],
    "mimo_v2_flash": [
        *LLAMA_KEYS,
        *("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "sliding_window"),
    ],
    "deepseek_v32": [
        *LLAMA_KEYS,
        *("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
        *("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
        *("index_n_heads", "index_head_dim", "index_topk"),
    ],
    "deepseek_v4": [
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "vocab_size"),
        *("q_lora_rank", "qk_rope_head_dim", "o_groups", "o_lora_rank", "hc_mult"),
        *("sliding_window", "compress_ratios", "n_routed_experts", "num_experts_per_tok"),
        *("moe_intermediate_size", "index_n_heads", "index_head_dim", "index_topk"),
    ],
    "minimax_m3": [
        *LLAMA_KEYS,
        *("dense_intermediate_size", "num_local_experts", "num_experts_per_tok"),
        *("num_key_value_heads", "sparse_attention_config"),
    ],
    "glm4_moe": [*LLAMA_KEYS, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"],
    **dict.fromkeys(
        ("llama4", "llama4_text"),
        (*LLAMA_KEYS, "num_local_experts", "num_experts_per_tok", "intermediate_size_mlp"),
    ),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "kimi_k2"),
        (
            *LLAMA_KEYS,
            "kv_lora_rank",
            "qk_nope_head_dim",
            "qk_rope_head_dim",
            "v_head_dim",
            "n_routed_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
        ),
    ),
}
DEFAULTS = {("gemma3", "vocab_size"), ("gemma3_text", "vocab_size")}
"""Keys that published configs leave out."""
DEFAULTS |= {("gemma3", key) for key in LLAMA_KEYS}
"""A nested config lists only what differs from its class."""


@pytest.mark.parametrize("family", REQUIRED)
def test_a_missing_size_is_refused_by_its_key(family: str) -> None:
    for key in REQUIRED[family]:
        if (family, key) not in DEFAULTS:
            with pytest.raises(SpecError, match=rf"{key}\b.*missing"):
                read_blocks(with_key(family, key, None), "config.json")


def test_required_keys_are_stated_for_every_structure() -> None:
    assert set(REQUIRED) == set(CONFIGS)


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("llama", "num_key_value_heads"),
        ("falcon", "num_kv_heads"),
        ("gemma2", "num_key_value_heads"),
        ("chatglm", "multi_query_group_num"),
    ],
)
def test_kv_heads_that_do_not_divide_the_heads_are_refused(family: str, key: str) -> None:
    with pytest.raises(SpecError, match=rf"{key}.*3 does not divide 8"):
        read_blocks(with_key(family, key, 3), "config.json")


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("llama", "num_attention_heads"),
        ("falcon", "num_attention_heads"),
        ("gpt2", "n_head"),
        ("gptj", "n_head"),
        ("bloom", "n_head"),
        ("opt", "num_attention_heads"),
        ("chatglm", "num_attention_heads"),
    ],
)
def test_heads_that_do_not_divide_the_hidden_size_are_refused(family: str, key: str) -> None:
    # 12 heads: no multiple of them is 64, and every KV head count here divides them.
    keys = {k: v for k, v in with_key(family, key, 12).items() if k != "kv_channels"}
    with pytest.raises(SpecError, match="12"):
        read_blocks(keys, "config.json")


def test_more_experts_used_than_kept_are_refused() -> None:
    with pytest.raises(SpecError, match="num_experts_per_tok: 9 is more than the 8"):
        read_blocks(config("mixtral", num_experts_per_tok=9), "config.json")


@pytest.mark.parametrize("value", [0, 1.5, -0.5, "half", True])
def test_a_rotated_part_outside_one_head_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match="partial_rotary_factor"):
        read_blocks(config("phi3", partial_rotary_factor=value), "config.json")


@pytest.mark.parametrize(
    "kinds", [["full_attention"], ["full_attention"] * 3 + ["linear_attention"], "full_attention"]
)
def test_layer_types_that_do_not_describe_the_layers_are_refused(kinds: object) -> None:
    with pytest.raises(SpecError, match="layer_types"):
        read_blocks(config("gemma2", layer_types=kinds), "config.json")


def test_layer_types_override_the_pattern() -> None:
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"]
    layers = [b for b in read_blocks(config("gemma2", layer_types=kinds), "x") if b.in_transformer]
    assert [(b.count, b.window) for b in layers] == [(1, 0), (3, 48)]


def test_a_nested_config_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(SpecError, match="text_config"):
        read_blocks(config("gemma3", text_config=[1]), "config.json")


def counted(family: str, model_type: str, **changes: Any) -> int:
    """Parameters of a shipped config under another `model_type`."""
    keys = {**shipped_model(family).config, "model_type": model_type, **changes}
    return model_facts(ModelSpec(name="renamed", config=keys)).parameters


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("llama-3.1-8b", "llama"),
        ("mistral-7b-v0.1", "mistral"),
        ("mixtral-8x7b", "mixtral"),
        ("qwen3-30b-a3b", "qwen3_moe"),
        ("glm-4.5", "glm4_moe"),
        ("deepseek-v2-lite", "deepseek_v2"),
        ("deepseek-v3", "deepseek_v2"),
    ],
)
def test_an_unknown_family_with_known_keys_is_read_with_a_warning(name: str, family: str) -> None:
    with pytest.warns(SpecWarning, match=f"'of-tomorrow' is not known; read as '{family}'"):
        found = counted(name, "of-tomorrow")
    assert found == model_facts(shipped_model(name)).parameters


def test_the_text_part_of_an_unknown_wrapper_is_read_with_a_warning() -> None:
    config = {"model_type": "of-tomorrow", "text_config": shipped_model("llama-3.1-8b").config}
    with pytest.warns(SpecWarning, match="its text part is read, as 'llama'"):
        found = model_facts(ModelSpec(name="wrapped", config=config))
    assert found.parameters == 8_030_261_248


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        # A part that the named family does not have.
        ("llama", {"num_local_experts": 8, "num_experts_per_tok": 2}, "num_local_experts"),
        ("llama", {"kv_lora_rank": 512}, "kv_lora_rank"),
        ("mistral", {"mlp_bias": True}, "mlp_bias"),
        ("qwen2", {"is_encoder_decoder": True}, "is_encoder_decoder"),
        # Structure no family has.
        ("of-tomorrow", {"state_size": 128}, "state_size"),
        ("of-tomorrow", {"shared_expert_intermediate_size": 5632}, "shared_expert"),
        ("of-tomorrow", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ("of-tomorrow", {"hidden_act": "relu2"}, "hidden_act"),
        ("of-tomorrow", {"num_attention_heads": None}, "num_attention_heads"),
        # Keys like Llama's, layers unlike them.
        ("diffllama", {}, "parts that its keys do not show"),
    ],
)
def test_unknown_structure_is_refused_by_its_keys(model_type, changes, named) -> None:
    with pytest.raises(SpecError, match=named):
        counted("llama-3.1-8b", model_type, **changes)


def test_a_key_nobody_knows_is_told() -> None:
    with pytest.warns(SpecWarning, match="shiny_new_thing: not read"):
        counted("llama-3.1-8b", "llama", shiny_new_thing=3)
