"""Rows of reports: doubt, narrow checkpoints, several files, and what a fit makes of them."""

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report_formats import NAMED, OLDEST, PLACE, read
from test_reports import AIPERF, GENAI, VLLM, changed, write

from calibration.cli.print_predictions import _load, print_predictions
from calibration.figures import draw_predictions
from calibration.fit.capacity import doubt_overfull
from calibration.fit.forward import predict
from calibration.fit.points import arrives, observe, recipe_of
from calibration.measurements.exclusions import ARRIVALS, doubtful, sentences_about, usable
from calibration.measurements.table import read_files, read_measurements
from sweep.errors import SpecError, SpecWarning
from sweep.files.tables import without_formulas
from sweep.specs.catalog import Catalog
from sweep.specs.model_names import is_narrow

# Figures that contradict one another.

# Of 20,000 requests the last 64 are 0.2 %.
LONG = {
    "num_prompts": 20000,
    "completed": 20000,
    "duration": 1600.0,
    "total_input_tokens": 20_482_000,
    "total_output_tokens": 2_560_000,
}


@pytest.mark.parametrize(
    ("change", "quality"),
    [
        ({}, "ok"),
        # 12.5 · (0.24 + 127 · 0.0385) = 64.1 requests are open; 4 % more pass, 8 % do not.
        ({"mean_tpot_ms": 40.0}, "ok"),
        ({"mean_tpot_ms": 41.6}, "doubtful"),
        # The last 64 of 200 may idle for 16 % of the time, and the rest of the tolerance is 5 %.
        ({"mean_tpot_ms": 31.5}, "ok"),
        ({"mean_tpot_ms": 29.0}, "doubtful"),
        # At either end: 1.05 · 64 and 0.95 · 0.84 · 64, and half a token of 128 in the mean length.
        ({"mean_tpot_ms": 40.5}, "ok"),
        ({"mean_tpot_ms": 40.7}, "doubtful"),
        ({"mean_tpot_ms": 30.3}, "ok"),
        ({"mean_tpot_ms": 30.0}, "doubtful"),
        # 0.93 of the clients are open, of whom few may idle in a long run: the next case.
        ({"mean_tpot_ms": 35.6}, "ok"),
        ({**LONG, "mean_tpot_ms": 35.6}, "doubtful"),
        ({**LONG, "mean_tpot_ms": 36.4}, "ok"),
        ({"duration": 19.0}, "doubtful"),
        ({"mean_e2el_ms": 5120.0}, "ok"),
        ({"mean_e2el_ms": 6120.0}, "doubtful"),
    ],
)
def test_littles_law_holds_or_the_run_is_doubtful(
    tmp_path: Path, change: dict[str, Any], quality: str
) -> None:
    rows = read(tmp_path, VLLM | change)
    assert {row.quality for row in rows} == {quality}


@pytest.mark.filterwarnings("ignore:.*fills nothing:sweep.errors.SpecWarning")
@pytest.mark.parametrize(("clients", "quality"), [(8, "ok"), (400, "doubtful")])
def test_littles_law_judges_clients_that_are_given_beside_the_report(
    tmp_path: Path, clients: int, quality: str
) -> None:
    """5 requests a second take 1.6 s each: 8 are open."""
    report = changed(GENAI, "input_config.concurrency", ...)
    assert {row.quality for row in read(tmp_path, report, concurrency=clients)} == {quality}


@pytest.mark.parametrize(("osl", "quality"), [(128, "ok"), (500, "doubtful")])
def test_a_given_length_is_judged_too(tmp_path: Path, osl: int, quality: str) -> None:
    without = {key: value for key, value in VLLM.items() if key != "total_output_tokens"}
    assert {row.quality for row in read(tmp_path, without, osl=osl)} == {quality}


# A quantised checkpoint never becomes 16 bits wide without a word.


@pytest.mark.parametrize("called", ["my-model", "llama3.1:latest", None])
def test_a_name_that_says_nothing_is_read_as_16_bits_with_a_word(tmp_path: Path, called) -> None:
    report = changed(VLLM, "model_id", called)
    said = "no model is named" if called is None else f"the name '{called}' says nothing"
    with pytest.warns(SpecWarning, match=f"read as 16-bit weights, since {said}") as caught:
        row = read(tmp_path, report, model="llama-3.1-8b")[0]
    assert len(caught) == 1
    assert (row.model, row.weight_dtype) == ("llama-3.1-8b", "half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, report, model="llama-3.1-8b", precision="fp8")[0].precision == "fp8"
        assert read(tmp_path, VLLM)[0].weight_dtype == "half"


@pytest.mark.filterwarnings("ignore:.*fills nothing:sweep.errors.SpecWarning")
@pytest.mark.parametrize(
    ("identifier", "model"),
    [
        ("deepseek-ai/DeepSeek-R1-0528", None),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("gpt-oss", "gpt-oss-120b"),
        ("my-model", "deepseek-ai/DeepSeek-V3"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", None),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama-3.1-8b"),
        ("llama-3.1-8b-q4_k_m", None),
        ("llama-3.1-8b-q4_k_m", "llama-3.1-8b"),
        ("Llama-3.1-8B.Q4_K_M.gguf", "llama-3.1-8b"),
        ("llama3.1:8b-instruct-q8_0", "llama-3.1-8b"),
    ],
)
def test_a_narrow_checkpoint_is_asked_about_whatever_it_is_called(
    tmp_path: Path, identifier: str, model: str | None
) -> None:
    report, named = VLLM | {"model_id": identifier}, {"model": model} if model else {}
    with pytest.raises(SpecError, match=r"fewer than 16 bits.*--set weight_dtype=TYPE"):
        read(tmp_path, report, **named)
    rows = read(tmp_path, report, weight_dtype="int4", **named)
    assert {row.weight_dtype for row in rows} == {"int4"}


def test_the_models_own_file_is_an_answer_only_where_it_is_narrow(tmp_path: Path) -> None:
    own = read(tmp_path, VLLM | {"model_id": "openai/gpt-oss-120b"}, precision="checkpoint")
    assert {row.precision for row in own} == {"checkpoint"}
    with pytest.raises(SpecError, match="fewer than 16 bits"):
        read(tmp_path, VLLM | {"model_id": "Llama-3.1-8B-AWQ"}, precision="checkpoint")


@pytest.mark.parametrize(
    ("identifier", "narrow"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", False),
        ("Qwen/Qwen3-8B", False),
        ("Qwen2.5-72B-Instruct-GPTQ-Int8", True),
        ("Llama-3.1-8B_fp8", True),
        ("model-4.65bpw-exl2", True),
        ("mixtral-8x7b-iq3_xxs", True),
        ("mistral-7b-hqq", True),
        ("phi-4", False),
        ("gemma-3-27b-it-qat", True),
        ("deepseek-v2-lite", False),
    ],
)
def test_words_that_mean_fewer_bits(identifier: str, narrow: bool) -> None:
    assert is_narrow(identifier) is narrow


def test_a_table_of_a_narrow_model_without_types_is_warned_of(tmp_path: Path) -> None:
    header = "scenario,model,hardware,isl,osl,metric,value,tp"
    row = "inflight,deepseek-r1,h200-sxm-141gb,128,128,output_throughput,5000,8"
    path = write(tmp_path, f"{header}\n{row}\n", "mine.csv")
    with pytest.warns(SpecWarning, match="deepseek-r1 state no weight_dtype and count as 16 bits"):
        read_measurements(path)
    write(tmp_path, f"{header},weight_dtype\n{row},fp8\n", "mine.csv")
    assert read_measurements(path)[0].weight_dtype == "fp8"


# Several files, and files that are none.


def test_rows_of_several_files_have_ids_of_their_own(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name, VLLM, "result.json"))
    paths.append(write(tmp_path, AIPERF, "other.json"))
    rows = read_files(paths, settings=PLACE)
    assert len({row.id for row in rows}) == len(rows) == 9
    assert [row.id for row in rows][:4:3] == ["a/result-1", "b/result-1"]
    with pytest.raises(SpecError, match="given twice"):
        read_files([paths[0], paths[0]], settings=PLACE)
    header = "id,scenario,model,hardware,isl,osl,metric,value\n"
    line = "x,inflight,llama-3.1-8b,l4,128,128,output_throughput,50\n"
    tables = [write(tmp_path, header + line, f"{name}.csv") for name in "cd"]
    assert [row.id for row in read_files(tables)] == ["x", "x@2"]


def test_a_setting_may_fill_one_of_several_files(tmp_path: Path) -> None:
    closed = write(tmp_path, GENAI, "closed.json")
    without = write(tmp_path, changed(GENAI, "input_sequence_length", ...), "without.json")
    rows = read_files([closed, without], settings=PLACE | {"isl": 64})
    assert [row.isl for row in rows] == [550] * 3 + [64] * 3
    with pytest.warns(SpecWarning, match="--set isl=64 fills nothing"):
        read_files([closed], settings=PLACE | {"isl": 64})


def test_arrivals_take_no_clients_from_settings(tmp_path: Path) -> None:
    at_rate = write(tmp_path, VLLM | {"request_rate": 12.5, "max_concurrency": None}, "rate.json")
    open_, _, _, closed, *_ = read_files(
        [at_rate, write(tmp_path, OLDEST, "old.json")], settings=NAMED | {"concurrency": 8}
    )
    assert (open_.concurrency, open_.request_rate) == (None, 12.5)
    assert (closed.concurrency, closed.request_rate) == (8, None)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"request_rate": 1.0, "concurrency": 4}, "request_rate: given with concurrency"),
        ({"request_rate": 1.0, "num_requests": 4}, "request_rate: given with num_requests"),
        ({"burstiness": 1.0}, "burstiness: needs a request_rate"),
        ({"request_rate": 1.0, "scenario": "static_batch", "batch_size": 1}, "request_rate:"),
    ],
)
def test_loads_that_contradict_one_another_are_refused(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    row = {"scenario": "inflight", "model": "llama-3.1-8b", "hardware": "l4", "isl": 8, "osl": 8}
    row |= {"metric": "tpot", "value": 0.1, **columns}
    with pytest.raises(SpecError, match=words):
        read_measurements(write(tmp_path, json.dumps(row), "mine.jsonl"))


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.json", "pipe.jsonl", "pipe.parquet"])
def test_a_pipe_in_place_of_measurements_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SpecError, match="device, pipe or socket"):
        read_measurements(tmp_path / name)
    with pytest.raises(SpecError, match="No such file"):
        read_measurements(tmp_path / f"no-{name}")


@pytest.mark.parametrize("value", [10**400, "1e999", "nan", -1, True, "9" * 5000])
def test_huge_and_odd_numbers_are_refused_by_key(tmp_path: Path, value: object) -> None:
    with pytest.raises(SpecError, match="output_throughput") as error:
        read(tmp_path, VLLM | {"output_throughput": value})
    assert len(str(error.value)) < 300


def test_a_number_of_thousands_of_digits_is_no_traceback(tmp_path: Path) -> None:
    text = json.dumps(VLLM).replace("16.0", "9" * 5000)
    with pytest.raises(SpecError, match="not a readable table or report"):
        read(tmp_path, text)


# What a fit does with the rows, and a prediction.


def test_a_fit_names_what_it_excludes_by_metric_and_reason(tmp_path: Path) -> None:
    at_rate = VLLM | {"request_rate": 12.5, "max_concurrency": None}
    at_once = VLLM | {"max_concurrency": None, "mean_ttft_ms": 3110.0}
    failed = VLLM | {"num_prompts": 204}
    rows = [row for data in (at_rate, at_once, failed, VLLM) for row in read(tmp_path, data)]
    divided = usable(rows)
    assert len(divided.kept) == 8
    assert sorted(sentences_about("excluded", divided.left_out)) == [
        f"excluded: 1 output_throughput row: {ARRIVALS}",
        f"excluded: 1 tpot row: {ARRIVALS}",
        "excluded: 1 ttft row: counts the wait of requests sent at once",
        f"excluded: 1 ttft row: {ARRIVALS}",
    ]
    assert sentences_about("lower weight", doubtful(divided.kept)) == [
        f"lower weight: 1 {metric} row: 4 requests failed"
        for metric in ("output_throughput", "ttft", "tpot")
    ]
    many = [(row, f"reason {place}") for place, row in enumerate(rows)]
    *_, last = sentences_about("excluded", many)
    assert last == "excluded: 4 rows for other reasons"


def test_more_clients_than_fit_make_a_row_doubtful(tmp_path: Path) -> None:
    """The cache of a token is 128 KiB: 32 layers of 8 KV heads of 128 keys and values, 16 bits.

    Nine tenths of the 80 GiB less 16 GB of weights are 63 GB, 416 requests of 1,152 tokens, less
    what activations take.
    """
    row = read(tmp_path, VLLM)[0]
    few, many = (row.model_copy(update={"concurrency": clients}) for clients in (300, 500))
    first, second = doubt_overfull([few, many], Catalog())
    assert (first.quality, second.quality) == ("ok", "doubtful")
    held = int(second.note.removeprefix("500 clients keep requests open, and ").split()[0])
    assert 390 < held < 416
    # A row that states its slots says who waits.
    [stated] = doubt_overfull([few.model_copy(update={"max_batch_size": 299})], Catalog())
    assert stated.quality == "ok"


def test_a_recipe_may_not_contradict_the_types_beside_it(tmp_path: Path) -> None:
    named = {"model_id": "openai/gpt-oss-120b"}
    row = read(tmp_path, VLLM | named, precision="w4a16")[0]
    assert recipe_of(row, Catalog()).weight_dtype == "int4"
    wrong = row.model_copy(update={"weight_dtype": "fp8"})
    assert "weight_dtype" in wrong.model_fields_set
    with pytest.raises(SpecError, match="weight_dtype: fp8 contradicts the precision w4a16"):
        recipe_of(wrong, Catalog())
    # The head of the recipe is in 16 bits, which the row does not mean.
    halves = read(tmp_path, VLLM | named, precision="fp8")[0]
    halves = halves.model_copy(update={"weight_dtype": "fp16"})
    with pytest.raises(SpecError, match="weight_dtype: fp16 contradicts the precision fp8"):
        recipe_of(halves, Catalog())


@pytest.mark.parametrize("engine", ["vllm", "tensorrt-llm", "sglang"])
def test_weights_in_which_nothing_computes_are_multiplied_in_16_bits(
    tmp_path: Path, engine: str
) -> None:
    """The answer to the question for the type of `…-bnb-4bit` has the weights alone."""
    narrow = VLLM | {"model_id": "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"}
    row = read(tmp_path, narrow, weight_dtype="int4")[0].model_copy(update={"engine": engine})
    recipe = recipe_of(row, Catalog())
    assert recipe.compute_dtypes["attention"] == "half"
    assert recipe.kv_dtype == recipe.hidden_dtype == "half"
    # Half a byte, and a scale of two bytes for 128 of them.
    assert (recipe.weight_group_size, recipe.weight_scale_bytes) == (128, 2.0)
    wrong = row.model_copy(update={"activation_dtype": "int4"})
    with pytest.raises(SpecError, match="no matrix unit computes in int4"):
        recipe_of(wrong, Catalog())


def test_a_row_without_a_prediction_is_counted_and_left_out_of_ratios(capsys) -> None:
    row = {"id": "a", "metric": "ttft", "quality": "ok", "hardware": "l40s", "value": 2.0}
    loads = dict.fromkeys(("request_rate", "concurrency", "batch_size", "num_requests"))
    frame = pd.DataFrame(
        [
            {**row, **loads, "predicted": 3.0},
            {**row, **loads, "id": "b", "predicted": np.nan, "quality": "doubtful"},
        ]
    )
    print_predictions(frame, ["hardware"])
    said = capsys.readouterr().out
    assert "1 row has no prediction" in said
    assert "nan" not in said
    # The second row is marked, although the first is sound.
    assert re.search(r"^ a .* ok *\n b .* doubtful *$", said, re.MULTILINE)
    assert "50.0%" in said


@pytest.mark.slow
def test_an_open_loop_is_predicted_at_its_rate(tmp_path: Path) -> None:
    """Tokens come at the rate of arrivals; a request waits for no other where few arrive."""
    slow_, fast = (
        VLLM | {"request_rate": rate, "max_concurrency": None, "request_throughput": rate}
        for rate in (0.01, 20.0)
    )
    alone = VLLM | {"max_concurrency": 1, "num_prompts": 10**6, "completed": 10**6}
    alone |= {"total_input_tokens": 1024 * 10**6, "total_output_tokens": 128 * 10**6}
    rows = [row for data in (slow_, fast, alone) for row in read(tmp_path, data)[:2]]
    rows.pop(4)
    groups = observe(rows, Catalog())
    assert {arrives(rows[group.rows[0]]) for group in groups} == {True, False}
    few_tokens, few_first, many_tokens, many_first, alone_first = predict(groups)
    assert few_tokens == pytest.approx(0.01 * 128, rel=1e-6)
    assert many_tokens == pytest.approx(20 * 128, rel=1e-6)
    assert few_first == pytest.approx(alone_first, rel=0.02)
    assert many_first > few_first


@pytest.mark.slow
def test_measured_is_printed_and_drawn_beside_predicted(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    from calibration.cli import main

    files = [write(tmp_path, VLLM, "a.json"), write(tmp_path, VLLM | {"failed": 0}, "b.json")]
    picture = tmp_path / "fit.png"
    words = ["predict", "ideal", *files, "--set", "hardware=h100-sxm-80gb", "--set", "tp=1"]
    monkeypatch.setattr(sys, "argv", ["llm-calibrate", *map(str, [*words, "--picture", picture])])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    said = capsys.readouterr().out
    for line in ("time to first token, ms", "a-2", "b-2", "64 clients", "1,600"):
        assert line in said
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_predict_doubts_clients_beyond_memory_as_fit_does(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    """Little's law holds: 500 requests are open for 40 s each, 12.5 a second, and 416 fit."""
    from calibration.cli import main

    tenfold = ("num_prompts", "completed", "duration", "total_input_tokens", "total_output_tokens")
    many = VLLM | {key: 10 * VLLM[key] for key in tenfold}
    many |= {"max_concurrency": 500, "mean_ttft_ms": 35_110.0}
    out = tmp_path / "out.csv"
    words = ["predict", "ideal", write(tmp_path, many), "-o", out]
    words += [f"--set={name}={value}" for name, value in PLACE.items()]
    monkeypatch.setattr(sys, "argv", ["llm-calibrate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    capsys.readouterr()
    frame = pd.read_csv(out)
    assert set(frame["quality"]) == {"doubtful"}
    assert set(frame["note"].str.partition("; ")[0].str.contains("500 clients keep")) == {True}

    # The same as JSON, of some rows, with a recipe that has the types by default.
    more = ["--json", "--where", "metric==tpot", "--where", "value>0", "--set=precision=fp16"]
    monkeypatch.setattr(sys, "argv", ["llm-calibrate", *map(str, words[:3]), *words[5:], *more])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    [row] = json.loads(capsys.readouterr().out)
    assert (row["metric"], row["quality"], row["kv_dtype"]) == ("tpot", "doubtful", None)
    assert (row["precision"], row["weight_dtype"]) == ("fp16", None)
    known = frame.set_index("metric").loc["tpot", "predicted"]
    assert row["predicted"] == pytest.approx(known)


def test_a_picture_of_predictions_says_by_what_and_what_its_marks_are() -> None:
    rows = {"metric": "tpot", "value": [0.011, 0.0121], "quality": ["ok", "doubtful"]}
    rows |= {"predicted": [0.0105, 0.013], "lower": [0.009, 0.01], "upper": [0.013, 0.014]}
    figure = draw_predictions(pd.DataFrame(rows), "vllm")
    assert figure.get_suptitle() == "predicted by vllm, against measured"
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"90 % interval", "quality ok", "doubtful or suspect", "equal"} <= set(legend)
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    shown = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert len(shown) >= 3


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("request_rate", "request{}/s"),
        ("concurrency", "client{}"),
        ("num_requests", "request{} at"),
    ],
)
def test_one_of_a_load_is_no_plural(column: str, words: str) -> None:
    row = dict.fromkeys(("request_rate", "concurrency", "batch_size", "num_requests"), np.nan)
    assert _load(row | {column: 1}).startswith(f"1 {words.format('')}")
    assert _load(row | {column: 2}).startswith(f"2 {words.format('s')}")


def test_cells_that_a_spreadsheet_would_compute_are_text() -> None:
    frame = pd.DataFrame({"note": ["=1+1", "fine", "@x", "-2"], "value": [-1.0, 2.0, 3.0, 4.0]})
    plain = without_formulas(frame)
    assert plain["note"].tolist() == ["'=1+1", "fine", "'@x", "'-2"]
    assert plain["value"].tolist() == [-1.0, 2.0, 3.0, 4.0]
    assert without_formulas(pd.DataFrame({"=x": [1]})).columns.tolist() == ["'=x"]
