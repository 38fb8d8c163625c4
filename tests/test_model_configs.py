"""Published configs read by their parts: families, spellings, nesting, what is left out."""

import warnings
from typing import Any

import pytest
from factories import blocks, config, shipped
from hypothesis import given, settings
from hypothesis import strategies as st
from model_families import BASE, FURTHER_KEYS, OTHER_FAMILIES, keys_of

import sweep
from sweep.errors import SpecError, SpecWarning
from sweep.grid.resolved import resolve, warn_of_contexts
from sweep.kernel.block import Block
from sweep.kernel.operator_table import tensors
from sweep.models.context import beyond_context, longest_context
from sweep.models.family_names import SAME_AS
from sweep.models.family_table import FAMILIES
from sweep.models.read import family_of, is_supported, read_blocks, read_model
from sweep.models.spellings import SPELLINGS
from sweep.specs.model import ModelSpec, Published


def parameters(layers: tuple[Block, ...]) -> int:
    return sum(int(block.count) * tensor.elements for block, tensor in tensors(layers))


def count(family: str, **changes: Any) -> int:
    return parameters(read_blocks(keys_of(family, **changes), family))


def layers_of(family: str, **changes: Any) -> list[Block]:
    return [b for b in read_blocks(keys_of(family, **changes), family) if b.in_transformer]


@pytest.mark.filterwarnings("ignore:mllama")
@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_parameters_of_tiny_models(family: str) -> None:
    assert count(family) == OTHER_FAMILIES[family][1]


# Parts that a class has and a config does not name.


def test_mistral_has_eight_kv_heads_where_no_key_says() -> None:
    keys = {"num_attention_heads": 32, "hidden_size": 256, "num_key_value_heads": None}
    assert layers_of("mistral", **keys)[0].kv_heads == 8
    assert layers_of("llama", **keys)[0].kv_heads == 32


def test_a_nested_gemma_3_lists_what_differs_from_its_class() -> None:
    # The published 4B file: heads, KV heads, their width and the vocabulary are left out.
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    found = read_blocks({"model_type": "gemma3", "text_config": text}, "x")
    assert (found[1].heads, found[1].kv_heads, found[1].head_dim) == (8, 4, 256)
    assert parameters(found) == 3_880_263_168
    with pytest.raises(SpecError, match="num_attention_heads"):
        read_blocks(text, "x")


@pytest.mark.parametrize(
    ("family", "changes", "more"),
    [
        # 4 layers, 8 query and 2 KV heads.
        ("stablelm", {"qk_layernorm": False}, -4 * (64 + 16)),
        ("stablelm", {"use_parallel_residual": True}, -4 * 2 * 64),
        ("gpt_neox", {"attention_bias": False}, -4 * (3 * 64 + 64)),
        ("gpt_bigcode", {"multi_query": False}, 4 * 2 * 7 * 8 * (64 + 1)),
        ("starcoder2", {"use_bias": False}, -4 * (64 + 2 * 16 + 64 + 160 + 64)),
        ("phi", {"qk_layernorm": False}, -4 * 2 * 2 * 8),
        ("phimoe", {"lm_head_bias": False}, -512),
        ("minimax_m2", {"use_routing_bias": False}, -4 * 8),
        ("minimax_m2", {"qk_norm_type": "per_head"}, 4 * (2 * 16 - (8 + 2) * 16)),
        ("bailing_moe_v2", {"moe_router_enable_expert_bias": False}, -3 * 8),
        ("deepseek", {"n_routed_experts": None}, -3 * (8 * (3 * 64 * 32 + 64) + 2 * 6144 - 30_720)),
        ("granitemoe", {"shared_intermediate_size": 96}, 4 * 3 * 64 * 96),
        ("ernie4_5_moe", {"moe_layer_end_index": 3}, 9 * 6144 + 6144 + 512 + 8 - 30_720),
        ("hunyuan_v1_moe", {"moe_topk": [2] * 4, "num_shared_expert": [1] * 4}, 0),
        ("hunyuan_v1_moe", {"num_shared_expert": [2] * 4}, 4 * 3 * 64 * 160),
        ("mpt", {"expansion_ratio": 2}, -4 * 2 * 64 * 128),
        # Values of 64 instead of 16: 8 heads of them, from a latent of 32 and to 64 columns.
        ("minicpm3", {"v_head_dim": None}, 4 * 8 * (64 - 16) * (32 + 64)),
        ("exaone4", {"layer_types": ["full_attention"] * 4}, 0),
        (
            "step3p5",
            {"attention_other_setting": {"num_attention_heads": 16, "num_attention_groups": 4}},
            # Two layers with a window have 8 heads and 2 KV heads more, of 16.
            2 * 64 * (2 * 8 * 16 + 2 * 2 * 16 + 8),
        ),
    ],
)
def test_a_key_changes_parameters_by_what_it_says(family, changes, more) -> None:
    assert count(family, **changes) - OTHER_FAMILIES[family][1] == more


def test_keys_of_the_published_apertus_and_trinity_are_read() -> None:
    said = {"qk_norm": True, "post_norm": False}
    assert count("apertus", **said) == count("apertus")
    norms = [b for b in layers_of("apertus") if "qk_norm" in b.operators]
    fewer = sum(int(b.count) * 2 * int(b.head_dim) for b in norms)
    assert count("apertus", qk_norm=False) == count("apertus") - fewer
    assert fewer
    groups = {"num_expert_groups": 1, "num_limited_groups": 1, "score_func": "sigmoid"}
    assert count("afmoe", **groups) == count("afmoe")


@pytest.mark.parametrize(
    ("family", "changes", "windows"),
    [
        ("exaone4", {}, [48, 48, 48, 0]),
        ("exaone4", {"sliding_window_pattern": "LG"}, [48, 0, 48, 0]),
        ("exaone4", {"sliding_window": None}, [0, 0, 0, 0]),
        ("olmo3", {}, [48, 48, 48, 0]),
        ("cohere2", {}, [48, 48, 48, 0]),
        ("cwm", {}, [0, 48, 0, 48]),
        ("starcoder2", {"sliding_window": 32}, [32, 32, 32, 32]),
        ("minimax_m2", {"attn_type_list": [1, 1, 1, 1]}, [0, 0, 0, 0]),
    ],
)
def test_windows_of_each_layer(family, changes, windows) -> None:
    found = [b.window for b in layers_of(family, **changes) for _ in range(int(b.count))]
    assert sorted(found) == sorted(windows)
    rotated = {b.window: "rotary" in b.operators for b in layers_of(family, **changes)}
    if family in ("exaone4", "cohere2") and any(windows):
        assert rotated == {48: True, 0: False}


def test_smollm3_rotates_all_but_every_fourth_layer() -> None:
    rotated = {"rotary" in b.operators: int(b.count) for b in layers_of("smollm3")}
    assert rotated == {True: 3, False: 1}
    listed = layers_of("smollm3", no_rope_layers=[0, 1, 1, 0])
    assert {"rotary" in b.operators: int(b.count) for b in listed} == {True: 2, False: 2}


def test_mimo_v2_caches_narrow_values_and_has_sinks_in_windows() -> None:
    full, windowed = layers_of("mimo_v2_flash", swa_num_key_value_heads=4)
    assert (full.kv_heads, windowed.kv_heads) == (2, 4)
    assert (full.head_dim, full.value_dim) == (24, 16)
    assert (full.sinks, windowed.sinks) == (0, 1)
    assert "uneven_attention" in full.operators
    assert "windowed_uneven_attention" in windowed.operators


# Names and spellings.


def test_no_key_states_two_facts() -> None:
    keys = [key for spellings in SPELLINGS.values() for key in spellings]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("fact", "value"),
    [("experts", 8), ("experts_per_token", 2), ("kv_heads", 2), ("layers", 4), ("heads", 8)],
)
def test_every_spelling_of_a_size_reads_the_same(fact: str, value: int) -> None:
    expected = count("granitemoe")
    taken_out = dict.fromkeys(SPELLINGS[fact])
    for key in SPELLINGS[fact]:
        assert count("granitemoe", **{**taken_out, key: value}) == expected


def test_two_spellings_that_disagree_are_refused() -> None:
    with pytest.raises(SpecError, match="num_local_experts: 8 differs from num_experts, 4"):
        count("granitemoe", num_experts=4)


@pytest.mark.parametrize(("name", "family"), SAME_AS.items())
def test_other_names_are_those_of_families(name: str, family: str) -> None:
    assert family in FAMILIES
    assert name not in FAMILIES
    assert family_of(name) == family


# The text part of a config that holds more.

VISION = {"depth": 2, "hidden_size": 1000, "intermediate_size": 4000}


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config"])
def test_the_text_part_is_found(key: str) -> None:
    text = {"model_type": "qwen3_vl_text", **BASE}
    outer = {"model_type": "qwen3_vl", key: text, "vision_config": VISION}
    # 2·(4·1000² + 2·1000·4000) = 24e6 parameters.
    said = r"vision tower \(2 layers of 1000, about 0.024 billion parameters\)"
    with pytest.warns(SpecWarning, match=f"'qwen3'; left out: {said}") as caught:
        found = parameters(read_blocks(outer, "x"))
    assert len(caught) == 1
    assert found == count("qwen3", num_hidden_layers=4, head_dim=None)


def test_a_thinker_holds_the_text_part() -> None:
    thinker = {"model_type": "thinker", "text_config": {"model_type": "qwen2", **BASE}}
    outer = {"model_type": "qwen2_5_omni", "thinker_config": thinker, "talker_config": {"a": 1}}
    with pytest.warns(SpecWarning, match="left out: talker"):
        assert parameters(read_blocks(outer, "x")) == count("mimo")


def test_a_text_part_takes_a_tied_head_from_what_holds_it() -> None:
    text = {"model_type": "llama", **BASE}
    with pytest.warns(SpecWarning):
        found = [
            parameters(read_blocks({"model_type": "vl", "text_config": text, **more}, "x"))
            for more in ({}, {"tie_word_embeddings": True})
        ]
    assert found[0] - found[1] == 512 * 64


def test_layers_for_further_tokens_are_left_out_in_one_warning() -> None:
    with pytest.warns(SpecWarning, match=r"left out: multi-token prediction \(2 layers") as caught:
        found = count("mimo", num_nextn_predict_layers=2)
    assert found == count("mimo")
    assert len(caught) == 1


def test_a_model_with_a_published_size_is_read_without_a_warning() -> None:
    published = Published(kind="exact", parameters=1, active_parameters=1, source="")
    keys = keys_of("mimo", num_nextn_predict_layers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_model(ModelSpec(name="m", config=keys, published=published))
    with pytest.warns(SpecWarning):
        read_model(ModelSpec(name="m", config=keys))


def test_support_is_known_from_the_name_of_the_text_part() -> None:
    text = {"model_type": "qwen3_vl_text"}
    assert is_supported({"model_type": "qwen3_vl", "text_config": text})
    assert not is_supported({"model_type": "qwen3_vl"})


# Keys that change nothing, and structures that are not supported.


@pytest.mark.parametrize(
    "key",
    [
        *("attention_dropout", "initializer_range", "logits_scaling", "residual_multiplier"),
        *("tokenizer_class", "rope_scaling", "use_mtp", "moe_capacity", "layer_norm_epsilon"),
        *("final_logit_softcapping", "scale_emb", "router_aux_loss_coef", "output_router_logits"),
    ],
)
def test_a_key_that_changes_nothing_is_passed_over(key: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count("llama", **{key: 0.5}) == count("llama")


@pytest.mark.parametrize(
    ("keys", "structure"),
    [
        ({"gla_heads": 4}, "linear attention"),
        ({"index_topk": 2048}, "sparse attention with an indexer"),
        ({"compress_ratios": [1, 4]}, "compressed attention"),
        ({"per_layer_config": {"3": {}}}, "blocks with sizes of their own"),
        ({"zero_expert_num": 256}, "experts that compute nothing"),
        ({"is_encoder_decoder": True}, "an encoder"),
        ({"attn_type_list": [1, 0, 1]}, "lightning attention"),
    ],
)
def test_a_structure_that_is_not_supported_is_named(keys, structure) -> None:
    family = "qwen3" if "attn_type_list" not in keys else "olmo2"
    for name in (family, "of-tomorrow"):
        with pytest.raises(SpecError, match=structure) as refusal:
            read_blocks({**keys_of(family), **keys, "model_type": name}, "some.json")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"linear_conv_kernel_dim": 4},
        {"linear_attn_config": {"a": 1}},
        {"mamba_num_heads": 64},
        {"hybrid_override_pattern": "M*"},
        {"conv_L_cache": 3},
        {"moe_latent_size": 64},
        {"routed_expert_hidden_size": 64},
        {"attn_res_block_size": 12},
        {"layer_types": ["linear_attention"] * 3},
        {"layer_types": ["conv"] * 3},
    ],
)
def test_a_part_that_a_family_does_not_have_is_refused(keys: dict[str, Any]) -> None:
    (key,) = keys
    for name in ("qwen3", "of-tomorrow"):
        with pytest.raises(SpecError, match=key) as refusal:
            read_blocks({**keys_of("qwen3"), **keys, "model_type": name}, "some.json")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"block_configs": [{}]},
        {"num_kv_shared_layers": 10},
        {"attention_k_eq_v": True},
        {"cross_attention_layers": [3]},
        {"hidden_size_per_layer_input": 8},
        {"laurel_rank": 4},
        {"use_cla": True},
    ],
)
def test_a_structure_of_other_families_is_refused_by_its_key(keys) -> None:
    for name in ("qwen3", "of-tomorrow"):
        with pytest.raises(SpecError, match=next(iter(keys))) as refusal:
            read_blocks({**keys_of("qwen3"), **keys, "model_type": name}, "some.json")
        assert "\n" not in str(refusal.value)


# Whatever is wrong with a file, it is one error of one line.

WRONG = st.sampled_from(
    [None, 0, -1, 1, 3, 7, 10**18, True, False, 1.5, "8", "", [], [1], [0, 1, 1], {}, {"a": 1}]
)
EVERY_FAMILY = sorted(FAMILIES)


@pytest.mark.parametrize("family", ["deepseek_v4", "llama4_text", "nemotron_h"])
@pytest.mark.parametrize("fact", ["experts", "experts_per_token"])
def test_an_empty_list_of_sizes_is_refused(family: str, fact: str) -> None:
    (key,) = set(SPELLINGS[fact]) & set(keys_of(family))
    with pytest.raises(SpecError, match=rf"{key}: .*not \[\]"):
        read_blocks({**keys_of(family), key: []}, "some.json")


@pytest.mark.slow
@settings(max_examples=500)
@given(st.sampled_from(EVERY_FAMILY), st.data())
def test_a_malformed_config_is_one_error_of_one_line(family: str, data: st.DataObject) -> None:
    keys = keys_of(family)
    changed = data.draw(
        st.dictionaries(st.sampled_from([*keys, *FURTHER_KEYS]), WRONG, min_size=1, max_size=3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecWarning)
        try:
            found = read_blocks({**keys, **changed}, "some/config.json")
        except SpecError as error:
            assert "\n" not in str(error)
            assert str(error).startswith("some/config.json")
        else:
            assert parameters(found) > 0


def test_a_tiny_config_of_every_structure_is_read_as_before_it_was_nested() -> None:
    outer = {"model_type": "wrapper", "text_config": config("llama")}
    with pytest.warns(SpecWarning):
        assert read_blocks(outer, "x") == blocks("llama")


@pytest.mark.parametrize(
    ("family", "key"), [("deepseek_v2", "q_lora_rank"), ("dots1", "n_shared_experts")]
)
def test_structure_that_a_config_lacks_is_asked_for(family, key) -> None:
    config = keys_of(family)
    assert read_blocks(config, "config.json")
    del config[key]
    with pytest.raises(SpecError, match=f"{key}: missing, and the model's structure"):
        read_blocks(config, "config.json")


# The longest context.

YARN = {"rope_type": "yarn", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("keys", "longest"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"seq_length": 8192}, 8192),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072),
        ({"text_config": {"hidden_size": 8, "max_position_embeddings": 512}}, 512),
        # The config states the stretched length, or the one that is stretched.
        ({"max_position_embeddings": 163_840, "rope_scaling": YARN | {"factor": 40}}, 163_840),
        ({"max_position_embeddings": 4096, "rope_parameters": YARN | {"factor": 4.0}}, 16_384),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"factor": 8.0}}, 131_072),
        ({"max_position_embeddings": "many", "rope_scaling": "yarn"}, None),
        # Files of tokenizers state so many for no limit.
        ({"model_max_length": 10**30}, None),
        ({}, None),
    ],
)
def test_the_longest_context_is_that_of_the_config(keys: dict[str, Any], longest: int) -> None:
    spec = ModelSpec(name="toy", config=keys)
    assert longest_context(spec) == longest
    assert not beyond_context(spec, longest or 1e12)
    if longest is not None:
        assert f"made for {longest:,} tokens" in beyond_context(spec, longest + 1)


def test_a_sweep_warns_once_of_each_model_beyond_its_context() -> None:
    names = ["llama-2-7b", "llama-3.1-8b"]
    grid = sweep.Grid(
        models=names, hardware=["l20"], isl=[100, 8000], osl=[500], variables=["weight_memory"]
    )
    with pytest.warns(SpecWarning) as seen:
        warn_of_contexts(resolve(grid, shipped()))
    assert [str(each.message) for each in seen] == [
        "llama-2-7b is made for 4,096 tokens, and 8,500 are asked for: engines refuse that unless "
        "an option extends the context"
    ]
    with pytest.warns(SpecWarning, match="8,500 are asked"):
        sweep.run(grid.model_copy(update={"models": names[:1]}))
