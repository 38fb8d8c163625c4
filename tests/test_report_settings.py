"""What a report does not say: models by their identifiers, settings, and the command."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from test_reports import GENAI, PLACE, TRTLLM, VLLM, changed, write

from calibration.cli import main as cli
from calibration.measurements.column_defaults import read_settings
from calibration.measurements.table import read_measurements
from sweep.errors import SpecError, SpecWarning
from sweep.specs.catalog import Catalog
from sweep.specs.model_names import matching


@pytest.mark.parametrize(
    ("report", "column", "key"),
    [
        (TRTLLM, "hardware", "NVIDIA H100 80GB HBM3"),
        (VLLM, "hardware", "hardware: a report of vllm bench serve"),
        (VLLM, "tp", "tp: a report of vllm bench serve"),
        (GENAI, "tp", "tp: a report of AIPerf or GenAI-Perf"),
        (VLLM | {"model_id": "my/llama"}, "model", "model_id: 'my/llama'"),
        (changed(TRTLLM, "engine.model", "my/llama"), "model", "engine.model: 'my/llama'"),
        (changed(GENAI, "input_config.model", ["a", "b"]), "model", "input_config: model"),
        (changed(GENAI, "input_config.concurrency", None), "concurrency", "input_config: no"),
        (VLLM | {"model_id": "x/Llama-3.1-8B-FP8"}, "weight_dtype", "model_id"),
        (VLLM | {"model_id": "openai/gpt-oss-120b"}, "weight_dtype", "model_id"),
    ],
)
def test_what_a_report_cannot_say_is_asked_for(tmp_path: Path, report, column, key) -> None:
    values = {"hardware": "h100-sxm-80gb", "tp": 2, "model": "llama-3-8b", "concurrency": 7}
    values["weight_dtype"] = "fp8"
    path = write(tmp_path, report)
    always = {"hardware"} if "world_info" in report else {"hardware", "tp"}
    given = {name: values[name] for name in always | {column}}
    with pytest.raises(SpecError) as error:
        read_measurements(path, settings={k: v for k, v in given.items() if k != column})
    assert key in str(error.value)
    assert f"--set {column}=" in str(error.value)
    assert getattr(read_measurements(path, settings=given)[0], column) == values[column]


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("META-LLAMA/llama-3.1-8b", "llama-3.1-8b"),
        ("/models/Meta-Llama-3.1-70B-Instruct/", "llama-3.1-70b"),
        ("nvidia/Llama-3.3-70B-Instruct-FP8", "llama-3.3-70b"),
        ("meta-llama/Llama-2-70b-chat-hf", "llama-2-70b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b-v0.2"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama-4-scout"),
        ("neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("mistralai/Mistral-7B-Instruct-v0.9", None),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", None),
        ("meta-llama/Llama-3.1", None),
        ("", None),
    ],
)
def test_identifiers_are_matched_by_what_tells_the_shape(identifier, name) -> None:
    assert matching(identifier, Catalog().published()) == ([name] if name else [])


def test_every_model_of_the_catalog_is_found_by_its_published_identifier() -> None:
    published = Catalog().published()
    assert len(published) > 80
    for name, identifier in published.items():
        assert identifier is None or matching(identifier, published) == [name]


def test_models_of_the_users_folder_are_found_too(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    shipped = Catalog().path("models", "qwen3-8b").read_text(encoding="utf-8")
    (folder / "mine-8b.yaml").write_text(
        shipped.replace("name: qwen3-8b", "name: mine-8b").replace("Qwen/Qwen3-8B", "me/Mine-8B"),
        encoding="utf-8",
    )
    path = write(tmp_path, VLLM | {"model_id": "me/Mine-8B"})
    (row, *_) = read_measurements(path, settings=PLACE, catalog=Catalog([tmp_path]))
    assert row.model == "mine-8b"


def test_settings_fill_only_what_is_empty(tmp_path: Path) -> None:
    header = "scenario,model,hardware,isl,osl,metric,value,tp\n"
    start = "inflight,llama-3.1-8b,h100-sxm-80gb,128,128,output_throughput,5000,"
    table = write(tmp_path, header + start + "2\n" + start + "\n", "mine.csv")
    rows = read_measurements(table, settings={"tp": 8, "engine": "vllm"})
    assert [row.tp for row in rows] == [2, 8]
    assert {row.engine for row in rows} == {"vllm"}
    with pytest.warns(SpecWarning, match="--set isl=64 fills nothing"):
        assert read_measurements(table, settings={"isl": 64})[0].isl == 128


def test_settings_stand_for_whole_columns(tmp_path: Path) -> None:
    table = write(tmp_path, "isl,osl,value\n128,128,5000\n", "mine.csv")
    with pytest.raises(SpecError, match="column scenario is missing"):
        read_measurements(table, settings={"model": "llama-3.1-8b", "hardware": "l4"})


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["tp"], ["'tp'", "COLUMN=VALUE"]),
        (["tp="], ["'tp='", "COLUMN=VALUE"]),
        (["tpp=2"], ["unknown column 'tpp'", "did you mean 'tp'"]),
        (["value=3"], ["unknown column 'value'"]),
        (["tp=two"], ["tp:", "'two'"]),
        (["tp=0"], ["tp:", "'0'"]),
        (["weight_dtype=fp6"], ["weight_dtype:", "'fp6'"]),
        (["kv_cache_fraction=90"], ["kv_cache_fraction:", "'90'"]),
        (["tp=2", "tp=4"], ["tp is given twice"]),
    ],
)
def test_bad_settings_are_refused(pairs: list[str], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        read_settings(pairs)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in ["--set", *words]), error.value


def test_settings_are_read_in_the_types_of_their_columns() -> None:
    given = read_settings(["tp=8", "model = llama-3.1-70b", "kv_cache_fraction=0.9"])
    assert given == {"tp": 8, "model": "llama-3.1-70b", "kv_cache_fraction": 0.9}


@pytest.fixture
def call(monkeypatch, capsys):
    """Run `llm-calibrate` in this process; returns exit status, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llm-calibrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.mark.slow
def test_a_report_is_predicted_end_to_end(tmp_path: Path, call) -> None:
    out = tmp_path / "out.csv"
    report = write(tmp_path, VLLM)
    code, said, err = call(
        "predict", "ideal", report, "--set", "hardware=h100-sxm-80gb", "--set", "tp=1", "-o", out
    )
    assert (code, err) == (0, "")
    assert "3 rows" in said
    frame = pd.read_csv(out).set_index("metric")
    assert frame.loc["output_throughput", "value"] == 1600
    # A bound lies above a throughput that was measured, and below a latency. Decoding reads
    # 15 GB of weights and 64 caches of some 1,088 tokens · 131 kB at 3.35 TB/s: above 7.2 ms.
    assert frame.loc["output_throughput", "predicted"] > 1600
    assert 0.0072 < frame.loc["tpot", "predicted"] < 0.0385


def test_a_table_is_not_written_under_the_name_of_a_picture(tmp_path: Path, call) -> None:
    report, picture = write(tmp_path, VLLM), tmp_path / "predicted.png"
    code, _, error = call("predict", "ideal", report, "-o", picture)
    assert code == 2 and "--picture" in error
    assert not picture.exists()


def test_a_refusal_on_the_command_line_is_one_line(tmp_path: Path, call) -> None:
    report = write(tmp_path, VLLM)
    for arguments, words in [
        ((), "--set hardware=NAME"),
        (("--set", "hardware=h100"), "--set tp=N"),
        (("--set", "hardware=h100-sxm-80gb", "--set", "tp=none"), "--set: tp"),
    ]:
        code, out, err = call("predict", "ideal", report, *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert words in err
    for command in ("validate", "fit"):
        options = ("-o", tmp_path / "fit.nc") if command == "fit" else ()
        code, _, err = call(command, report, "--set", "tpp=1", *options)
        assert (code, err.count("\n")) == (2, 1)
        assert "did you mean 'tp'" in err
