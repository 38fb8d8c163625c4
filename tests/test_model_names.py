"""Models found by name, published identifier, file and folder; Mistral's params.json."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from factories import CONFIGS, config, hardware, shipped

from calibration.fit.points import recipe_of
from calibration.measurements.table import read_measurements
from sweep.cli import main as cli
from sweep.decisions.specs_by_name import model_in
from sweep.errors import SpecError, SpecWarning
from sweep.grid.grid import Grid
from sweep.models.checkpoint import checkpoint, is_quantised
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_model
from sweep.runs.run import run
from sweep.specs.catalog import Catalog
from sweep.specs.model_names import matching

MIXTRAL: dict[str, Any] = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "vocab_size": 32000,
    "rope_theta": 1e6,
    "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}
LARGE_3: dict[str, Any] = {
    "dim": 7168,
    "n_layers": 61,
    "head_dim": 128,
    "hidden_dim": 16384,
    "n_heads": 128,
    "n_kv_heads": 128,
    "rope_theta": 10000.0,
    "norm_eps": 1e-06,
    "vocab_size": 131072,
    "tied_embeddings": False,
    "max_seq_len": 294912,
    "llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1},
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "kv_lora_rank": 512,
    "v_head_dim": 128,
    "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
    "yarn": {"original_max_position_embeddings": 8192, "factor": 36, "beta": 32},
    "moe": {
        "expert_parallel": 1,
        "expert_model_parallel": 1,
        "route_every_n": 1,
        "first_k_dense_replace": 3,
        "num_experts": 128,
        "num_experts_per_tok": 4,
        "num_expert_groups": 1,
        "num_expert_groups_per_tok": 1,
        "routed_scale": 1.0,
        "expert_hidden_dim": 4096,
        "num_shared_experts": 1,
    },
}


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("QWEN3-8B", "qwen3-8b"),
        ("qwen3_8b", "qwen3-8b"),
        ("llama-3-1-8b", "llama-3.1-8b"),
        ("meta-llama/Llama-3_3-70B-Instruct", "llama-3.3-70b"),
        ("DeepSeek-R1-0528", "deepseek-r1"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-v3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-4B-Thinking-2507", "qwen3-4b"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("CohereLabs/c4ai-command-r7b-12-2024", "command-r7b"),
        ("Llama 3.1 8B", "llama-3.1-8b"),
        ("llama3-8b", "llama-3-8b"),
        ("LLaMA2-70B", "llama-2-70b"),
        ("Mixtral 8x7B", "mixtral-8x7b"),
        ("GPT-OSS 120B", "gpt-oss-120b"),
    ],
)
def test_identifiers_find_the_shipped_model(identifier: str, name: str) -> None:
    assert shipped().model(identifier).name == name


@pytest.mark.parametrize(
    ("identifier", "recipe"),
    [
        ("Qwen/Qwen3-8B-AWQ", "w4a16"),
        ("Qwen/Qwen3-8B-FP8", "fp8"),
        ("Qwen/Qwen3-8B-GPTQ-Int4", "w4a16"),
        ("Qwen/Qwen3-8B-GPTQ-Int8", "w8a16"),
        ("nvidia/Qwen3-8B-NVFP4", "nvfp4"),
        ("unsloth/Qwen3-8B-bnb-4bit", "w4a16"),
        ("RedHatAI/Qwen3-8B-quantized.w8a8", "int8"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "fp8"),
        ("Qwen3 8B AWQ", "w4a16"),
    ],
)
def test_a_quantised_version_is_not_the_unquantised_model(identifier: str, recipe: str) -> None:
    with pytest.raises(SpecError, match=f"--precision {recipe}") as error:
        shipped().model(identifier)
    assert f"{identifier!r} is a quantised version of 'qwen3-8b'" in str(error.value)


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("qwen3-9b", "did you mean 'qwen3-8b' or 'qwen3-4b'"),
        ("Qwen/Qwen3-9B", "did you mean 'qwen3-8b'"),
        ("Mistral-Small-3.2", "did you mean 'mistral-small-24b'"),
        ("llama-70b", "did you mean 'llama-2-70b' or 'llama-3-70b' or 'llama-3.1-70b'"),
        ("llama-405b", "did you mean 'llama-3.1-405b'?"),
        ("llama3.1:8b", "did you mean 'llama-3.1-8b'"),
        ("qwen", "'qwen2-7b'"),
        ("x/y", "see 'llm-sweep list models'"),
        ("\0", "unknown model"),
        ("a" * 5000, "unknown model"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "unknown model"),
        ("gone/config.json", "cannot be read"),
        ("./gone", "cannot be read"),
    ],
)
def test_unknown_names_are_refused_in_one_line(identifier: str, words: str) -> None:
    with pytest.raises(SpecError) as error:
        shipped().model(identifier)
    assert words in str(error.value)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_the_closest_comparison_counts() -> None:
    published = {"a-1b": "x/A-1B", "a-1b-awq": "x/A-1B-AWQ", "b.1": None, "b-1": None}
    assert matching("y/A-1B-AWQ", published) == ["a-1b-awq"]
    assert matching("A-1B-FP8", published) == ["a-1b", "a-1b-awq"]
    assert matching("a-1b-instruct", published) == ["a-1b", "a-1b-awq"]
    assert matching("b_1", published) == ["b.1", "b-1"]
    assert matching("", published) == []


def folder_with(tmp_path: Path, **files: Any) -> Path:
    folder = tmp_path / "Tiny-1B"
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_ambiguous_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("tiny-1b-instruct", "tiny-1b-chat"):
        (tmp_path / "models" / f"{name}.json").write_text(json.dumps(config()))
    catalog = Catalog([tmp_path])
    with pytest.raises(SpecError, match="may be tiny-1b-chat or tiny-1b-instruct; give one"):
        catalog.model("me/Tiny-1B")
    assert catalog.model("me/Tiny-1B-Chat").name == "tiny-1b-chat"


def test_a_users_quantised_version_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    keys = config(quantization_config={"quant_method": "fp8"})
    (tmp_path / "models" / "qwen3-8b-fp8.json").write_text(json.dumps(keys))
    assert is_quantised(Catalog([tmp_path]).model("Qwen/Qwen3-8B-FP8"))


# Everywhere a name goes.


def test_a_sweep_and_its_result_take_identifiers() -> None:
    axes = {"hardware": [hardware()], "variables": ["weight_memory"]}
    found = run(Grid(models=["Qwen/Qwen3-8B", "GPT2"], **axes))
    assert found["model"].values.tolist() == ["qwen3-8b", "gpt2"]
    with pytest.raises(SpecError, match="'qwen3-8b' is listed twice"):
        run(Grid(models=["Qwen/Qwen3-8B", "qwen3-8b"], **axes))
    present = found["model"].values.tolist()
    assert model_in(present, "Qwen/Qwen3-8B", shipped()) == "qwen3-8b"
    assert model_in(present, "Qwen/Qwen3-4B", shipped()) == "Qwen/Qwen3-4B"


def test_tables_of_measurements_take_identifiers(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    header = "engine,engine_version,scenario,model,hardware,isl,osl,metric,value,weight_dtype\n"
    line = "vllm,0.9.0,inflight,{},h100-sxm-80gb,128,128,output_throughput,5000,{}\n"
    names = (("Qwen/Qwen3-8B", "fp16"), ("qwen3-8b", "fp16"), ("Qwen/Qwen3-8B-AWQ", "int4"))
    table.write_text(header + "".join(line.format(*each) for each in names))
    assert {row.model for row in read_measurements(table)} == {"qwen3-8b"}


def test_a_row_may_state_the_recipe_of_the_checkpoint(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    header = "engine,engine_version,scenario,model,hardware,isl,osl,metric,value,precision\n"
    line = (
        "vllm,0.9.0,inflight,openai/gpt-oss-120b,h100-sxm-80gb,1,1,output_throughput,5,checkpoint"
    )
    table.write_text(header + line + "\n")
    (row,) = read_measurements(table)
    assert recipe_of(row, shipped()).part("experts").weight_dtype == "mxfp4"


def test_commands_take_identifiers(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["llm-sweep", "show", "model", "Qwen/Qwen3-8B", "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    assert json.loads(capsys.readouterr().out)["name"] == "qwen3-8b"


# Files and folders.


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, config=config())
    for path in (folder, f"{folder}/", folder / "config.json"):
        spec = shipped().model(path)
        assert spec.name == "Tiny-1B"
        assert read_model(spec)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"a folder without config\.json or params\.json"):
        shipped().model(folder_with(tmp_path, other={}))


@pytest.mark.parametrize("file", ["", "config.json"])
def test_a_file_of_modelopt_beside_the_config_is_read(tmp_path: Path, file: str) -> None:
    stated = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    stated["quantization"]["kv_cache_quant_algo"] = "FP8"
    folder = folder_with(tmp_path, config=config(), hf_quant_config=stated)
    recipe = checkpoint(shipped().model(folder / file)).recipe
    assert (recipe.weight_dtype, recipe.kv_dtype) == ("fp8", "fp8")


def test_a_snapshot_in_the_cache_of_hugging_face_has_the_name_of_its_model(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config()))
    assert shipped().model(folder).name == "Qwen3-8B"


# params.json.


def test_params_of_mixtral_are_mixtral(tmp_path: Path) -> None:
    spec = shipped().model(folder_with(tmp_path, params=MIXTRAL))
    assert model_facts(spec).parameters == model_facts(shipped().model("mixtral-8x7b")).parameters


def test_params_of_a_dense_model(tmp_path: Path) -> None:
    dense = {key: value for key, value in MIXTRAL.items() if key != "moe"}
    spec = shipped().model(folder_with(tmp_path, params=dense | {"sliding_window": 4096}))
    assert read_model(spec) == read_model(shipped().model("mistral-7b-v0.1"))


def test_params_of_mistral_large_3(tmp_path: Path) -> None:
    spec = shipped().model(folder_with(tmp_path, params=LARGE_3))
    facts = model_facts(spec)
    # Published: 673 billion parameters, 39 of them active, beside the vision encoder.
    attention = 7168 * (1536 + 576 + 16_384) + 1536 * 128 * 192 + 512 * 128 * 256 + 1536 + 512
    dense, expert = 3 * 7168 * 16_384, 3 * 7168 * 4096
    norms, ends = 61 * 2 * 7168 + 7168, 2 * 131_072 * 7168
    routed = 58 * (129 * expert + 128 * 7168)
    assert facts.parameters == 61 * attention + 3 * dense + routed + norms + ends
    assert round(facts.parameters / 1e9) == 673
    assert checkpoint(spec).recipe.note == "fp8 per matrix"


def test_params_with_a_vision_encoder_say_what_is_left_out(tmp_path: Path) -> None:
    seen = {"vision_encoder": {"hidden_size": 1024, "num_hidden_layers": 24}}
    spec = shipped().model(folder_with(tmp_path, params=MIXTRAL | seen))
    with pytest.warns(SpecWarning, match="left out: vision tower"):
        read_model(spec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"moe": 8}, "moe: must be a mapping"),
        ({"sliding_window": [1, 2]}, "sliding_window: a list of windows is not supported"),
        ({"n_heads": -1}, "num_attention_heads: must be an integer"),
        ({"hidden_dim": None}, "missing; the model's size cannot be known"),
    ],
)
def test_malformed_params_are_refused(tmp_path: Path, changes, words: str) -> None:
    folder = folder_with(tmp_path, params={**MIXTRAL, **changes})
    with pytest.raises(SpecError, match=words):
        read_model(shipped().model(folder))


def test_an_unknown_quantisation_of_params_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, params={**MIXTRAL, "quantization": {"w_bit": 4}})
    with pytest.raises(SpecError, match="quant_method: missing"):
        checkpoint(shipped().model(folder))


def test_a_config_of_any_family_is_no_params_json() -> None:
    assert not any({"dim", "n_layers"} <= set(keys) for keys in CONFIGS.values())


@pytest.mark.parametrize(
    "identifier",
    [
        "lmsys/gpt-oss-120b-bf16",
        "unsloth/DeepSeek-R1-BF16",
        "moonshotai/Kimi-K2-Thinking",
        "deepseek-ai/DeepSeek-V4-Pro-Base",
    ],
)
def test_another_checkpoint_than_the_quantised_file_is_refused(identifier: str) -> None:
    with pytest.raises(SpecError, match="is another checkpoint than") as refusal:
        Catalog().model(identifier)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("identifier", ["Qwen/Qwen3-8B-Base", "Qwen/Qwen3-8B-bf16"])
def test_a_model_that_is_not_quantised_is_one_checkpoint(identifier: str) -> None:
    assert Catalog().model(identifier).name == "qwen3-8b"


def test_a_file_whose_name_alone_says_that_it_is_quantised_is_warned_of(tmp_path) -> None:
    folder = tmp_path / "Llama-NVFP4"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("llama")))
    with pytest.warns(SpecWarning, match="says how the weights are stored"):
        assert Catalog().model(folder).name == "Llama-NVFP4"
