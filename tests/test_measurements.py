"""Tables of measurements: what is read, what is refused by line and column."""

from pathlib import Path

import pytest
from factories import shipped

from calibration.fit.points import layout_of, recipe_of
from calibration.measurements.select import matches
from calibration.measurements.table import Measurement, read_measurements, without_suspects
from sweep.engines.known import engine_of
from sweep.errors import SpecError, SpecWarning
from sweep.models.read import read_blocks

HEADER = "scenario,model,hardware,isl,osl,metric,value,batch_size\n"
GOOD = "static_batch,llama-2-7b,a100-sxm-80gb,128,128,output_throughput,5353,256\n"


def read(tmp_path: Path, text: str, **options: bool) -> list[Measurement]:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return read_measurements(path, **options)


def test_a_row_needs_no_more_than_it_says(tmp_path: Path) -> None:
    (row,) = read(tmp_path, HEADER + GOOD)
    assert (row.tp, row.pp, row.quality, row.id) == (1, 1, "ok", "mine-2")
    assert row.kv_cache_fraction is None


def test_engines_and_accelerators_have_one_spelling(tmp_path: Path) -> None:
    """In another spelling an engine has no particulars, and one run counts as several."""
    header = "engine," + HEADER
    text = "".join(
        f"{engine},{GOOD.replace('a100-sxm-80gb', machine)}"
        for engine, machine in (
            ("tensorrt-llm", "a100-sxm-80gb"),
            ("TensorRT-LLM", "A100_SXM_80GB"),
            ("tensorrt_llm", "A100-SXM4-80GB"),
            ("my-engine", "my-machine"),
        )
    )
    rows = read(tmp_path, header + text)
    assert [row.engine for row in rows] == ["tensorrt-llm"] * 3 + ["my-engine"]
    assert [row.hardware for row in rows] == ["a100-sxm-80gb"] * 3 + ["my-machine"]
    with pytest.warns(SpecWarning, match="'tensorrt-lm' is unknown.*did you mean 'tensorrt-llm'"):
        read(tmp_path, header + "tensorrt-lm," + GOOD)


def test_the_shipped_table_is_whole() -> None:
    rows = read_measurements("tensorrt-llm")
    kept, suspects = without_suspects(rows)
    assert len(rows) == 4368
    # With 18 of a mixture labelled fp8 whose raw file says 16-bit weights.
    assert len(suspects) == 63
    assert {row.scenario for row in kept} == {"static_batch", "inflight", "first_token"}
    assert all(row.source for row in rows)
    # The four rows of the article.
    article = [r.value for r in rows if r.note == "quoted in the article"]
    assert sorted(article) == [547.0, 613.0, 1518.0, 5353.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["mine.csv", "not a readable table"]),
        (HEADER, ["no rows"]),
        (GOOD, ["column scenario is missing"]),
        (HEADER.replace("batch_size", "batch_sise") + GOOD, ["batch_sise", "did you mean"]),
        (HEADER + GOOD + GOOD.replace("128,128", "128,-1"), ["line 3", "osl", "-1"]),
        (HEADER + GOOD.replace("5353", "fast"), ["line 2", "value", "fast"]),
        (HEADER + GOOD.replace("5353", "0"), ["line 2", "value", "'0'"]),
        (HEADER + GOOD.replace("5353", "nan"), ["line 2", "value"]),
        (HEADER + GOOD.replace("5353", "1e308"), ["line 2", "value", "'1e308'"]),
        (HEADER + GOOD.replace("5353", "1e-300"), ["line 2", "value", "'1e-300'"]),
        (HEADER + GOOD.replace("5353", ""), ["line 2", "value: missing"]),
        (HEADER + GOOD.replace(",256", ","), ["line 2", "batch_size: missing"]),
        (HEADER + GOOD.replace("static_batch", "static"), ["line 2", "scenario", "static"]),
        (HEADER + GOOD.replace("output_throughput", "goodput"), ["line 2", "metric"]),
        (HEADER + GOOD.replace("static_batch", "first_token"), ["line 2", "must be ttft"]),
        ("id," + HEADER + "a," + GOOD + "a," + GOOD, ["line 3", "'a' is used twice"]),
    ],
)
def test_bad_tables_are_refused_by_line_and_column(tmp_path: Path, text: str, words) -> None:
    with pytest.raises(SpecError) as refusal:
        read(tmp_path, text)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_row_to_predict_needs_no_figure(tmp_path: Path) -> None:
    (row,) = read(tmp_path, HEADER + GOOD.replace("5353", ""), need_value=False)
    assert row.value is None


def test_columns_of_other_tools_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(SpecWarning, match="wall_clock"):
        rows = read(tmp_path, "wall_clock," + HEADER + "3," + GOOD)
    assert len(rows) == 1


def test_json_and_csv_say_the_same(tmp_path: Path) -> None:
    (row,) = read(tmp_path, HEADER + GOOD)
    path = tmp_path / "mine.json"
    path.write_text(f"[{row.model_dump_json(exclude_none=True)}]", encoding="utf-8")
    assert read_measurements(path) == [row]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"must be a \.csv"):
        read_measurements(tmp_path / "mine.xlsx")


def row(**changes: object) -> Measurement:
    fields = {
        "scenario": "inflight",
        "model": "mixtral-8x7b",
        "hardware": "h100-sxm-80gb",
        "engine": "tensorrt-llm",
        "engine_version": "1.0.0",
        "isl": 128,
        "osl": 128,
        "metric": "output_throughput",
        "tp": 8,
    }
    return Measurement.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        ({}, (8, 1, 1, 1, 1)),
        ({"dp_attention": 1}, (8, 1, 1, 1, 1)),
        # Beside attention groups, experts are spread over all GPUs of the stage.
        ({"tp": 1, "dp_attention": 8}, (1, 1, 8, 8, 1)),
        ({"tp": 2, "dp_attention": 4}, (2, 1, 8, 4, 1)),
        ({"tp": 2, "dp_attention": 4, "ep": 4}, (2, 1, 4, 4, 1)),
        ({"model": "llama-3.1-8b", "tp": 2, "dp_attention": 4}, (2, 1, 1, 4, 1)),
        # Sixteen GPUs hold two replicas of eight.
        ({"num_gpus": 16}, (8, 1, 1, 1, 2)),
        ({"tp": 1, "pp": 2, "dp_attention": 4, "num_gpus": 16}, (1, 2, 4, 4, 2)),
    ],
)
def test_a_row_and_a_sweep_mean_the_same_by_tp(changes, layout) -> None:
    given = row(**changes)
    blocks = read_blocks(shipped().model(given.model).config, given.model)
    found = layout_of(given, blocks)
    assert (found.tp, found.pp, found.ep, found.dp_attention, found.dp) == layout


def former(tmp_path: Path, columns: str, values: str, model: str = "mixtral-8x7b", **engine: str):
    """The row of a table with the former column `attention_dp`, all of whose `tp` is 8."""
    named = {"engine": "tensorrt-llm", "engine_version": "1.0.0"} | engine
    cells = dict(zip(HEADER.strip().split(","), GOOD.strip().split(","), strict=True))
    cells |= {"model": model, "tp": "8", **named}
    cells |= dict(zip(columns.split(","), values.split(","), strict=True))
    text = ",".join(cells) + "\n" + ",".join(cells.values()) + "\n"
    with pytest.warns(SpecWarning, match="attention_dp is the former name of dp_attention"):
        (found,) = read(tmp_path, text)
    return found


@pytest.mark.parametrize(
    ("value", "changes", "layout"),
    [
        ("4", {}, (2, 4)),
        ("1", {}, (8, 1)),
        # Published mixtures of experts of TensorRT-LLM 1.0 have a group on each GPU.
        ("", {}, (1, 8)),
        ("", {"engine_version": "0.21.0"}, (8, 1)),
        ("", {"engine": "vllm"}, (8, 1)),
        ("", {"model": "llama-3.1-8b"}, (8, 1)),
    ],
)
def test_the_former_column_is_read_with_its_former_meaning(
    tmp_path: Path, value: str, changes: dict[str, str], layout
) -> None:
    found = former(tmp_path, "attention_dp", value, **changes)
    assert (found.tp, found.dp_attention) == layout
    assert found.replica_gpus == 8


@pytest.mark.filterwarnings("ignore:.*former name:sweep.errors.SpecWarning")
@pytest.mark.parametrize(
    ("columns", "values", "words"),
    [
        ("tp,attention_dp", "8,3", ["line 2", "attention_dp: 3 groups do not divide 8"]),
        ("tp,attention_dp", "8,two", ["line 2", "attention_dp: must be a whole number", "'two'"]),
        ("tp,attention_dp", "8,0.5", ["line 2", "attention_dp: must be a whole number"]),
        ("tp,attention_dp", "many,2", ["line 2", "tp", "'many'"]),
        ("tp,attention_dp,dp_attention", "8,2,2", ["attention_dp and dp_attention mean the same"]),
    ],
)
def test_a_former_column_that_makes_no_sense_is_refused(
    tmp_path: Path, columns: str, values: str, words: list[str]
) -> None:
    with pytest.raises(SpecError) as refusal:
        read(tmp_path, f"{columns}," + HEADER + f"{values}," + GOOD)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_gpus_that_no_replica_fills_are_refused() -> None:
    with pytest.raises(
        SpecError, match="num_gpus: 12 is no multiple of tp 8 · pp 1 · dp_attention 1"
    ):
        layout_of(row(num_gpus=12), read_blocks(shipped().model("mixtral-8x7b").config, ""))


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({"weight_dtype": "fp16"}, ("fp16", "fp16", "fp16")),
        ({"weight_dtype": "fp8"}, ("fp8", "fp8", "fp8")),
        ({"weight_dtype": "fp8", "kv_dtype": "bf16"}, ("fp8", "fp8", "bf16")),
        # A 4-bit float means NVFP4, with its scales, and an 8-bit cache.
        ({"weight_dtype": "fp4"}, ("nvfp4", "nvfp4", "fp8")),
        ({"weight_dtype": "int4", "activation_dtype": "fp16"}, ("int4", "fp16", "fp16")),
        ({"precision": "w8a16"}, ("int8", "half", "half")),
    ],
)
def test_types_that_are_not_stated_follow_from_those_that_are(changes, stored) -> None:
    recipe = recipe_of(row(**changes), shipped())
    assert (recipe.weight_dtype, recipe.activation_dtype, recipe.kv_dtype) == stored


@pytest.mark.parametrize(
    ("select", "holds"),
    [
        ("engine_version<=1.0.0", True),
        ("engine_version<0.21.0", False),
        ("engine_version>=0.9", True),
        ("tp==8 and isl<200", True),
        ("tp==8 and isl>200", False),
        ("model!='mixtral-8x7b'", False),
        ("batch_size>4", False),
    ],
)
def test_rows_are_chosen_by_their_columns(select: str, holds: bool) -> None:
    assert matches(row(), select) is holds


@pytest.mark.parametrize("select", ["tp", "tp=8", "tpp==8", "tp==eight"])
def test_a_choice_that_means_nothing_is_refused(select: str) -> None:
    with pytest.raises(SpecError, match="--where"):
        matches(row(), select)


ENGINE_TABLES = {
    "tensorrt-llm-1.1": 268,
    "tensorrt-llm-served": 1040,
    "vllm": 1480,
    "vllm-varied": 316,
    "vllm-rocm": 507,
    "sglang": 355,
    "sglang-varied": 12,
    "served-ttft": 1204,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINE_TABLES)
def test_the_tables_of_engines_are_whole(name: str) -> None:
    rows = read_measurements(name)
    assert len(rows) == ENGINE_TABLES[name]
    assert all(row.source for row in rows)
    # A client's time to first token is in a table of its own, unless the lengths of prompts vary.
    late = [row for row in rows if row.kind == "inflight_ttft"]
    assert name.endswith("-varied") or len(late) == (len(rows) if name == "served-ttft" else 0)
    assert all(
        engine_of(row.engine).runs_on(shipped().hardware(row.hardware).vendor) for row in rows
    )


def test_clients_are_rate_times_latency() -> None:
    """Of every served run with all three figures; the ends of a run hold fewer requests."""
    rows = [row for name in ENGINE_TABLES for row in read_measurements(name)]
    runs: dict[str, dict[str, Measurement]] = {}
    for row in rows:
        if row.source.startswith("aiconfigurator"):
            run, _, metric = row.id.rpartition(".")
            runs.setdefault(run, {})[metric] = row
    assert len(runs) == 1204
    for run, of in runs.items():
        tpot = of["tpot"]
        latency = of["ttft"].value + (tpot.osl - 1) * tpot.value
        held = of["output_throughput"].value / tpot.osl * latency
        assert 0.85 < held / tpot.concurrency < 1.05, run
