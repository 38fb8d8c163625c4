"""Formats of benchmarking tools beyond those of `test_reports.py`: each key in its column.

The reports have the keys that the tools write; their figures are made up and chosen so that the
rows can be worked out in the head. Unless said otherwise, 8 clients keep 8 requests open: 5 of them
end in a second, each after 1.6 s: 0.1 s to the first and 7.5 ms for each of 200 later tokens.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_reports import PHASED, VLLM, changed, write

from calibration.measurements.measurement import Measurement
from calibration.measurements.table import read_measurements
from sweep.errors import SpecError

PLACE = {"hardware": "h100-sxm-80gb", "tp": 1}
NAMED = PLACE | {"model": "qwen3-8b"}

SGLANG: dict[str, Any] = {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": math.inf,
    "max_concurrency": 8,
    "total_input_tokens": 40 * 550,
    "total_output_tokens": 40 * 201,
    "total_output_tokens_retokenized": 40 * 200,
    "mean_e2e_latency_ms": 1600.0,
    "mean_ttft_ms": 100.0,
    "median_ttft_ms": 90.0,
    "median_itl_ms": 6.0,
    "output_throughput": 1005.0,
    "random_input_len": 550,
    "duration": 8.0,
    "completed": 40,
}
SERVER_INFO = {"server_info": {"model_path": "Qwen/Qwen3-8B", "tp_size": 2, "version": "0.5.3"}}
OLDEST: dict[str, Any] = {
    "request_throughput": {"unit": "requests per sec", "avg": "5.0"},
    "request_latency": {"unit": "ns", "avg": "1600000000"},
    "time_to_first_token": {"unit": "ns", "avg": "100000000.0"},
    "inter_token_latency": {"unit": "ns", "avg": "7500000"},
    "output_token_throughput": {"unit": "tokens per sec", "avg": "1005"},
    "num_output_token": {"unit": "tokens", "avg": "201"},
    "num_input_token": {"unit": "tokens", "avg": "550.2"},
}
LLMPERF: dict[str, Any] = {
    "version": "2023-08-31",
    "name": "x_summary",
    "model": "together_ai/meta-llama/Llama-2-70b-chat-hf",
    "mean_input_tokens": 550,
    "mean_output_tokens": 200,
    "num_concurrent_requests": 8,
    # All of 1.6 s over 200 tokens, the first included.
    "results_inter_token_latency_s_mean": 0.008,
    "results_ttft_s_mean": 0.107,
    "results_mean_output_throughput_token_per_s": 1000.0,
    "results_num_completed_requests": 160,
}
STAGE: dict[str, Any] = {
    "load_summary": {"count": 300, "requested_rate": 5.0, "achieved_rate": 5.0},
    "successes": {
        "count": 300,
        "latency": {
            "request_latency": {"mean": 1.6},
            "time_per_output_token": {"mean": 0.0075},
            "time_to_first_token": {"mean": 0.1},
        },
        "throughput": {"output_tokens_per_sec": 1005.0, "requests_per_sec": 4.9},
        "prompt_len": {"mean": 549.6},
        "output_len": {"mean": 201.2},
    },
    "failures": {"count": 0},
}


def guidellm(strategy: dict[str, Any], **metrics: float) -> dict[str, Any]:
    means = {
        "requests_per_second": 5.0,
        "request_latency": 1.6,
        "prompt_token_count": 550.0,
        "output_token_count": 201.0,
        "time_to_first_token_ms": 100.0,
        "time_per_output_token_ms": 7.96,
        "inter_token_latency_ms": 7.5,
        "output_tokens_per_second": 990.0,
        **metrics,
    }
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy, "backend": {"model": "Qwen/Qwen3-8B"}},
        "metrics": {
            "request_totals": {"successful": 40, "errored": 0},
            **{name: {"successful": {"mean": mean}} for name, mean in means.items()},
        },
    }


def read(
    folder: Path, data: object, name: str = "report.json", **settings: object
) -> list[Measurement]:
    return read_measurements(write(folder, data, name), settings=PLACE | settings)


def figures(rows: list[Measurement]) -> dict[str, float | None]:
    return {row.metric: row.value for row in rows}


EXPECTED = pytest.approx({"output_throughput": 1005.0, "ttft": 0.1, "tpot": 0.0075})


def test_sglang_line_by_line(tmp_path: Path) -> None:
    lines = [json.dumps(SGLANG), json.dumps(SGLANG | SERVER_INFO | {"max_concurrency": None})]
    text = "\n".join(lines) + "\n"
    rows = read_measurements(
        write(tmp_path, text, "out.jsonl"), settings={"hardware": "l4", "tp": 4, **NAMED}
    )
    first, second = rows[:3], rows[3:]
    assert figures(first) == EXPECTED
    assert {(r.engine, r.engine_version, r.model, r.tp) for r in first} == {
        ("sglang", "", "qwen3-8b", 1)
    }
    assert (first[0].isl, first[0].osl, first[0].concurrency) == (550, 201, 8)
    assert {row.quality for row in first} == {"ok"}
    # The server's settings are those of the line, and all 40 requests were sent at once.
    assert {(r.model, r.tp, r.engine_version) for r in second} == {("qwen3-8b", 2, "0.5.3")}
    assert second[0].concurrency == 40
    assert {row.quality for row in second if row.metric == "ttft"} == {"suspect"}


def test_sglang_at_a_rate(tmp_path: Path) -> None:
    row, ttft, tpot = read(
        tmp_path, SGLANG | {"request_rate": 5.0, "max_concurrency": None}, model="qwen3-8b"
    )
    assert (row.request_rate, row.concurrency, row.quality) == (5.0, None, "suspect")
    assert (ttft.quality, tpot.quality) == ("ok", "ok")


def test_a_median_is_no_time_per_token(tmp_path: Path) -> None:
    """The median time between tokens leaves out what prefills interrupt: half, in old reports."""
    report = changed(SGLANG, "mean_ttft_ms", ...)
    row, ttft = read(tmp_path, report, model="qwen3-8b")
    assert (row.metric, ttft.metric, ttft.value) == ("output_throughput", "ttft", 0.09)
    assert (ttft.quality, ttft.note) == ("doubtful", "the median, since the report states no mean")


def test_data_parallel_attention_of_sglang_is_asked_for(tmp_path: Path) -> None:
    spread = SGLANG | {"server_info": {"model_path": "Qwen/Qwen3-8B", "tp_size": 8, "dp_size": 8}}
    with pytest.raises(SpecError, match="tp: a report of SGLang"):
        read_measurements(write(tmp_path, spread), settings={"hardware": "l4"})


def test_the_oldest_genai_perf_has_nanoseconds_as_text(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--set concurrency=N"):
        read(tmp_path, OLDEST, model="qwen3-8b")
    rows = read(tmp_path, OLDEST, model="qwen3-8b", concurrency=8)
    assert figures(rows) == EXPECTED
    assert {(r.isl, r.osl, r.concurrency, r.quality) for r in rows} == {(550, 201, 8, "ok")}


def test_aiperf_without_input_lengths_takes_them_from_settings(tmp_path: Path) -> None:
    inputs = changed(PHASED, "input_sequence_length", ...)
    with pytest.raises(SpecError, match=r"input_sequence_length: missing.*--set isl=N"):
        read(tmp_path, inputs)
    assert {row.isl for row in read(tmp_path, inputs, isl=512)} == {512}
    counted = inputs | {"usage_prompt_tokens": {"unit": "tokens", "avg": 530.0}}
    assert {row.isl for row in read(tmp_path, counted)} == {530}


def test_a_phase_that_is_left_out_of_the_results_is_not_the_load(tmp_path: Path) -> None:
    phases = [
        {"name": "fill", "type": "concurrency", "concurrency": 2, "exclude_from_results": True},
        {"name": "main", "type": "poisson", "rate": 5.0, "requests": 40},
    ]
    rows = read(tmp_path, changed(PHASED, "input_config.phases", phases))
    assert {(row.request_rate, row.concurrency) for row in rows} == {(5.0, None)}


def test_a_sweep_of_aiperf_is_one_run_for_each_combination(tmp_path: Path) -> None:
    def combination(clients: int, tokens: float) -> dict[str, Any]:
        metrics = {
            "request_throughput": {"mean": tokens / 200, "unit": "requests/sec"},
            "output_token_throughput": {"mean": tokens, "unit": "tokens/sec"},
            "inter_token_latency": {"avg": 7.5, "unit": "ms"},
        }
        return {"parameters": {"phases.profiling.concurrency": clients}, "metrics": metrics}

    sweep = {
        "aggregation_type": "sweep",
        "metadata": {},
        "per_combination_metrics": [combination(16, 1000.0), combination(32, 1800.0)],
    }
    rows = read(tmp_path, sweep, model="qwen3-8b", isl=512, osl=200)
    assert [(r.concurrency, r.metric, r.value) for r in rows] == [
        (16, "output_throughput", 1000.0),
        (16, "tpot", 0.0075),
        (32, "output_throughput", 1800.0),
        (32, "tpot", 0.0075),
    ]
    assert "combination 2" in rows[-1].source
    with pytest.raises(SpecError, match=r"combination 1: .*--set osl=N"):
        read(tmp_path, sweep, model="qwen3-8b", isl=512)


def test_a_sweep_of_vllm_is_a_list_of_runs(tmp_path: Path) -> None:
    runs = [
        VLLM | {"run_number": number, "max_num_seqs": 4, "tensor_parallel_size": 2}
        for number in (0, 1)
    ]
    rows = read_measurements(write(tmp_path, runs), settings={"hardware": "l4"})
    assert len(rows) == 6
    assert {(row.max_batch_size, row.tp) for row in rows} == {(4, 2)}
    assert "report 2" in rows[-1].source


def test_results_of_inferencex_are_medians_in_seconds(tmp_path: Path) -> None:
    seconds = {"median_ttft": 0.24, "median_tpot": 0.0385, "p99_ttft": 2.0}
    report = {k: v for k, v in VLLM.items() if not k.endswith("_ms")} | seconds
    row, ttft, tpot = read(tmp_path, report)
    assert (ttft.value, tpot.value) == (0.24, 0.0385)
    assert (row.quality, ttft.quality, tpot.quality) == ("ok", "doubtful", "ok")


def test_llmperf_counts_the_first_token_in_its_time_between_tokens(tmp_path: Path) -> None:
    row, ttft, tpot = read(tmp_path, LLMPERF)
    assert (row.model, row.isl, row.osl, row.concurrency) == ("llama-2-70b", 550, 200, 8)
    # 200 · 8 ms less 107 ms, over 199 tokens.
    assert (ttft.value, tpot.value) == (0.107, pytest.approx(1.493 / 199))
    measured = LLMPERF | {"results_number_input_tokens_mean": 548.9, "results_number_errors": 2}
    row, *_ = read(tmp_path, measured)
    assert (row.isl, row.quality, row.note) == (549, "doubtful", "2 requests failed")


def test_a_stage_of_inference_perf(tmp_path: Path) -> None:
    rows = read(tmp_path, STAGE, model="qwen3-8b")
    assert figures(rows) == EXPECTED
    assert {(r.isl, r.osl, r.request_rate) for r in rows} == {(550, 201, 5.0)}
    assert [row.quality for row in rows] == ["suspect", "ok", "ok"]
    limited = changed(STAGE, "load_summary", {"count": 300, "concurrency": 8})
    assert {r.concurrency for r in read(tmp_path, limited, model="qwen3-8b")} == {8}
    with pytest.raises(SpecError, match=r"load_summary.*--set concurrency=N"):
        read(tmp_path, changed(STAGE, "load_summary", {"count": 300}), model="qwen3-8b")


def test_a_request_that_took_longer_than_its_tokens_is_doubtful(tmp_path: Path) -> None:
    longer = changed(STAGE, "successes.latency.request_latency.mean", 3.0)
    _, ttft, tpot = read(tmp_path, longer, model="qwen3-8b")
    assert (ttft.quality, tpot.quality) == ("doubtful", "doubtful")
    assert ttft.note == "a request took 3 s, and its first and later tokens 1.6 s"


@pytest.mark.parametrize("version", ["config", "scheduler", "args"])
def test_guidellm_benchmark_by_benchmark(tmp_path: Path, version: str) -> None:
    one = guidellm({"type_": "concurrent", "streams": 8})
    one[version] = {**one.pop("config"), **one.get(version, {})}
    if version != "config":
        one["worker"] = {"backend_model": "Qwen/Qwen3-8B"}
    synchronous = guidellm({"type_": "synchronous"}, requests_per_second=0.625)
    report = {"benchmarks": [one, synchronous, guidellm({"type_": "constant", "rate": 5.0})]}
    rows = read(tmp_path, report)
    assert figures(rows[:3]) == EXPECTED
    loads = [(r.concurrency, r.request_rate, r.num_requests, r.quality) for r in rows[::3]]
    assert loads == [(8, None, 40, "ok"), (1, None, 40, "ok"), (None, 5.0, None, "suspect")]
    assert "benchmark 3" in rows[-1].source


def test_turns_of_conversations_are_refused(tmp_path: Path) -> None:
    turns = VLLM | {"mode": "multi_turn", "turns_per_conversation": 3}
    with pytest.raises(SpecError, match="turns_per_conversation: later turns find earlier ones"):
        read(tmp_path, turns)
