"""Short names of accelerators and models, and counts with a suffix."""

import re

import pytest
from damage import refused
from factories import shipped

from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError, SpecWarning
from sweep.grid.grid import Grid
from sweep.specs.counts import count_of
from sweep.specs.labels import labels_meant
from sweep.specs.short_names import accelerators


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("H200", "h200-sxm-141gb"),
        ("L40S", "l40s"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("RTX A6000", "rtx-a6000"),
        ("TPU v5e", "tpu-v5e"),
        ("Gaudi 3", "gaudi3"),
        # As nvidia-smi prints them.
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
    ],
)
def test_a_clear_name_finds_its_accelerator(name: str, entry: str) -> None:
    assert shipped().hardware(name).name == entry


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("H20", ["h20-141gb", "h20-96gb"]),
        ("h100", ["h100-nvl", "h100-pcie-80gb", "h100-sxm-80gb"]),
        ("A100-80GB", ["a100-pcie-80gb", "a100-sxm-80gb"]),
        ("6000", ["rtx-6000-ada", "rtx-pro-6000-server"]),
        ("mi300", ["mi300x"]),
        ("h20-144gb", ["h20-141gb", "h20-96gb"]),
        ("910b", ["ascend-910b2", "ascend-910b3"]),
    ],
)
def test_other_names_list_what_they_could_mean(name: str, entries: list[str]) -> None:
    with pytest.raises(SpecError) as refused:
        shipped().hardware(name)
    message = str(refused.value)
    assert message.endswith(f"did you mean {' or '.join(map(repr, entries))}?")
    assert "l20'" not in message


def test_names_joined_by_commas_are_given_one_by_one() -> None:
    apart = "give each name as a text of its own: ['fp8', 'int4']"
    catalog = shipped()
    for find in (catalog.hardware, catalog.model, catalog.precision, load_calibration):
        with pytest.raises(SpecError, match=re.escape(apart)):
            find("fp8, int4")


@pytest.mark.parametrize("name", ["80gb", "sxm", "nvidia", "pcie", "", "x" * 10_000])
def test_a_name_without_a_chip_means_no_accelerator(name: str) -> None:
    assert accelerators(name, list(shipped().paths("hardware"))) == []


@pytest.mark.parametrize(
    ("axis", "name", "found"),
    [
        ("hardware", "H20", ["h20-96gb"]),
        ("hardware", "H200", []),
        ("model", "Qwen/Qwen3-8B", ["qwen3-8b"]),
        ("model", "Qwen/Qwen3-8B-AWQ", []),
        ("precision", "FP8", ["fp8"]),
        ("precision", "fp", []),
    ],
)
def test_labels_of_a_result_are_found_by_short_names(axis, name, found) -> None:
    known = {"hardware": ["h20-96gb", "l20"], "model": ["qwen3-8b"], "precision": ["fp8"]}
    assert labels_meant(axis, name, known[axis]) == found


def test_every_shipped_name_means_itself() -> None:
    known = list(shipped().paths("hardware"))
    for name in known:
        for spelt in (name.upper(), name.replace("-", " "), name.replace("-", "")):
            assert accelerators(spelt, known) == [name]


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("MiniMax-M2", "minimax-m2.5"),
        ("MiniMaxAI/MiniMax-M2.7", "minimax-m2.5"),
        ("DeepSeek-V3.1", "deepseek-v3"),
        ("Qwen3-Coder-30B", "qwen3-30b-a3b"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-30b-a3b"),
    ],
)
def test_a_model_with_the_sizes_of_a_shipped_one_says_so(identifier: str, name: str) -> None:
    with pytest.warns(SpecWarning, match=f"has the sizes of {name}, which is computed"):
        assert shipped().model(identifier).name == name
    sources = {other.identifier: other.source for other in shipped().model(name).also_published_as}
    assert all(sources.values())


def test_a_narrow_version_of_such_a_model_is_refused() -> None:
    with pytest.raises(SpecError, match="quantised version of 'qwen3-30b-a3b'"):
        shipped().model("Qwen/Qwen3-Coder-30B-A3B-Instruct-AWQ")


def test_a_family_lists_its_models() -> None:
    with pytest.raises(SpecError, match=r"'llama-3.1-405b' or 'llama-3.1-70b' or 'llama-3.1-8b'"):
        shipped().model("Llama-3.1")


def test_what_begins_so_is_listed_in_full_and_however_spelt() -> None:
    with pytest.raises(SpecError) as refused_tpu:
        shipped().hardware("tpu")
    tpus = [name for name in shipped().paths("hardware") if name.startswith("tpu")]
    assert len(tpus) == 5 and all(repr(name) in str(refused_tpu.value) for name in tpus)
    with pytest.raises(SpecError) as refused_llama:
        shipped().model("llama3")
    assert "'llama-3.1-8b'" in str(refused_llama.value)
    assert "llama-2" not in str(refused_llama.value)


@pytest.mark.parametrize("name", ["vLLM", "TensorRT-LLM", "SGLang", "IDEAL"])
def test_names_of_calibrations_are_found_in_any_case(name: str) -> None:
    found = load_calibration(name)
    assert ("ideal" if found is None else found.name) == name.lower()


def test_names_of_precisions_are_found_in_any_case() -> None:
    assert shipped().precision("FP8").name == "fp8"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16k", 16_000),
        ("16K", 16_000),
        ("16Ki", 16_384),
        ("1M", 1_000_000),
        ("1.1M", 1_100_000),
        ("0.5k", 500),
        ("8", 8),
        ("2.5", 2.5),
        ("1e3", 1000.0),
        ("k", None),
        ("16kB", None),
        ("sixteen", None),
        ("1" * 50, None),
        ("", None),
    ],
)
def test_counts_may_have_a_suffix(text: str, number: float | None) -> None:
    assert count_of(text) == number


def test_axes_of_a_sweep_may_have_suffixes() -> None:
    given = Grid(
        models=["llama-3.1-8b"],
        hardware=["l20"],
        batch_size=[1],
        context_len=["4k", "16Ki", "1M"],
        osl={"start": "1k", "stop": "4k", "step": "1k"},
        shared_prefix_tokens=[0, "1k"],
        variables=["decode_step_latency"],
    )
    assert given.context_len == [4000, 16_384, 1_000_000]
    assert given.osl == [1000, 2000, 3000]
    assert given.shared_prefix_tokens == [0, 1000]
    for wrong in (["1.5"], ["0.0001k"], ["16kB"], ["8"]):
        with pytest.raises(SpecError, match="context_len"):
            Grid(
                models=["llama-3.1-8b"],
                hardware=["l20"],
                context_len=wrong,
                variables=["decode_step_latency"],
            )


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("model", "H20", "the hardware 'h20-141gb' or the hardware 'h20-96gb'"),
        ("hardware", "Llama-3.1-8B", "the model 'llama-3.1-8b'"),
        ("precision", "l4", "the hardware 'l4'"),
        ("calibration", "l4", "the hardware 'l4'"),
        ("variable", "H20", "the hardware 'h20-141gb'"),
        ("model", "ttft", "the variable 'ttft'"),
    ],
)
def test_a_name_of_another_kind_gets_a_hint(kind: str, name: str, meant: str, call) -> None:
    refused(call("show", kind, name), f"unknown {kind}", f"{name!r} may mean {meant}")
    assert "may mean" not in call("show", kind, "nothing")[2]
