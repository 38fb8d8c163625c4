"""Reports of benchmarking tools: each key in its column, in SI units, and refusals in one line.

The reports are written by hand from the keys that the tools document (see
`calibration.benchmark_reports.read`); their figures are made up, agree with one another by
Little's law, and are chosen so that the rows can be worked out in the head.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.measurements.table import Measurement, read_measurements
from sweep.errors import SpecError

TRTLLM: dict[str, Any] = {
    "engine": {
        "model": "meta-llama/Llama-3.1-70B-Instruct",
        "model_path": "None",
        "engine_dir": "None",
        "version": "1.0.0",
        "backend": "Pytorch",
        "dtype": "bfloat16",
        "quantization": "FP8",
        "kv_cache_dtype": None,
    },
    "machine": {"name": "NVIDIA H100 80GB HBM3", "memory.total": 79.1, "clocks.mem": 2.619},
    "world_info": {
        "tp_size": 4,
        "pp_size": 2,
        "ep_size": -1,
        "world_size": 8,
        "max_batch_size": 2048,
        "max_num_tokens": 8192,
        "scheduling_policy": "GUARANTEED_NO_EVICT",
        "kv_cache_percentage": 0.9,
        "issue_rate": 1e9,
    },
    "request_info": {
        "num_requests": 3000,
        "avg_num_concurrent_requests": 1800.0,
        "avg_input_length": 128.4,
        "avg_output_length": 127.6,
    },
    "performance": {
        "total_latency_ms": 60_000.0,
        "request_throughput_req_s": 50.0,
        "system_output_throughput_tok_s": 6380.0,
        "system_total_throughput_tok_s": 12_800.0,
        "output_throughput_per_user_tok_s": 3.5,
        "output_throughput_per_gpu_tok_s": 797.5,
    },
}
STREAMED = {"streaming_metrics": {"avg_ttft_ms": 33_460.0, "avg_tpot_ms": 20.0}}

VLLM: dict[str, Any] = {
    "date": "20250101-120000",
    "endpoint_type": "vllm",
    "backend": "vllm",
    "label": None,
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 200,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 64,
    "duration": 16.0,
    "completed": 200,
    "total_input_tokens": 204_820,
    "total_output_tokens": 25_600,
    "request_throughput": 12.5,
    "output_throughput": 1600.0,
    "total_token_throughput": 14_401.25,
    "mean_ttft_ms": 240.0,
    "median_ttft_ms": 235.0,
    "mean_tpot_ms": 38.5,
    "median_tpot_ms": 38.0,
}

GENAI: dict[str, Any] = {
    "request_throughput": {"unit": "requests/sec", "avg": 5.0},
    "request_latency": {"unit": "ms", "avg": 1600.0, "p50": 1590.0},
    "request_count": {"unit": "requests", "avg": 40.0},
    "time_to_first_token": {"unit": "ms", "avg": 100.0, "p50": 90.0},
    "inter_token_latency": {"unit": "ms", "avg": 7.5, "p50": 7.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1000.0},
    "output_sequence_length": {"unit": "tokens", "avg": 200.4},
    "input_sequence_length": {"unit": "tokens", "avg": 549.5001},
    "input_config": {
        "model": ["Qwen/Qwen3-8B"],
        "backend": "vllm",
        "concurrency": 8,
        "request_rate": None,
    },
}
AIPERF = GENAI | {
    "schema_version": "1.0",
    "aiperf_version": "0.3.0",
    "was_cancelled": False,
    "input_config": {
        "endpoint": {"model_names": ["Qwen/Qwen3-8B"], "type": "chat", "streaming": True},
        "loadgen": {"concurrency": 8, "request_rate": None, "request_count": 40},
    },
}
PHASED = AIPERF | {
    "schema_version": "1.5",
    "input_config": {
        "models": {"items": [{"name": "Qwen/Qwen3-8B"}]},
        "phases": [
            {"name": "warmup", "type": "concurrency", "concurrency": 2, "requests": 5},
            {"name": "profiling", "type": "concurrency", "concurrency": 8, "requests": 40},
        ],
    },
}

PLACE = {"hardware": "h100-sxm-80gb", "tp": 1}


def write(folder: Path, data: object, name: str = "report.json") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def read(folder: Path, data: object, **settings: object) -> list[Measurement]:
    place = {k: v for k, v in PLACE.items() if k != "tp" or "world_info" not in str(data)}
    return read_measurements(write(folder, data), settings=place | settings)


def changed(report: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """A copy with a dotted key replaced, or left out if `value` is `...`."""
    first, _, rest = key.partition(".")
    if rest:
        return report | {first: changed(report[first], rest, value)}
    kept = {k: v for k, v in report.items() if k != first}
    return kept if value is ... else kept | {first: value}


def refusal(folder: Path, data: object, **settings: object) -> str:
    with pytest.raises(SpecError) as error:
        read(folder, data, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert "report.json" in message
    return message


def test_trtllm_bench_key_by_key(tmp_path: Path) -> None:
    row, ttft, tpot = read_measurements(
        write(tmp_path, TRTLLM | STREAMED), settings={"hardware": "h100-sxm-80gb"}
    )
    assert (row.engine, row.engine_version) == ("tensorrt-llm", "1.0.0")
    assert (row.scenario, row.model, row.hardware) == ("inflight", "llama-3.1-70b", "h100-sxm-80gb")
    assert (row.num_gpus, row.tp, row.pp, row.ep) == (8, 4, 2, None)
    # An FP8 checkpoint whose cache has no type of its own keeps it in the model's.
    assert (row.weight_dtype, row.activation_dtype, row.kv_dtype) == ("fp8", "fp8", "bf16")
    assert (row.isl, row.osl, row.num_requests) == (128, 128, 3000)
    assert (row.max_batch_size, row.max_num_tokens, row.kv_cache_fraction) == (2048, 8192, 0.9)
    assert (row.metric, row.value, row.quality) == ("output_throughput", 6380.0, "ok")
    # 1800 of 3000 were open on average: all were sent at once, and as many ran as fit.
    assert row.concurrency is None
    assert (ttft.metric, ttft.value, ttft.quality) == ("ttft", pytest.approx(33.46), "suspect")
    assert "at once" in ttft.note
    assert (tpot.metric, tpot.value, tpot.quality) == ("tpot", 0.02, "ok")
    assert row.source.endswith("report.json: trtllm-bench")


def test_trtllm_bench_names_its_accelerator_as_the_driver_does(tmp_path: Path) -> None:
    named = write(tmp_path, changed(TRTLLM, "machine.name", "NVIDIA H200"))
    assert read_measurements(named)[0].hardware == "h200-sxm-141gb"
    with pytest.raises(SpecError, match="did you mean 'h100-pcie-80gb' or 'h100-sxm-80gb'"):
        read_measurements(write(tmp_path, TRTLLM))


@pytest.mark.parametrize(
    ("scheme", "cache", "types"),
    [
        (None, None, ("bf16", "bf16", "bf16")),
        ("NO_QUANT", "FP8", ("bf16", "bf16", "fp8")),
        ("NVFP4", "FP8", ("nvfp4", "nvfp4", "fp8")),
        ("FP8_BLOCK_SCALES", None, ("fp8", "fp8", "bf16")),
        ("W4A16_AWQ", "INT8", ("int4", "half", "int8")),
        ("W4A8_MXFP4_FP8", "FP8", ("mxfp4", "fp8", "fp8")),
    ],
)
def test_the_engine_states_its_types(tmp_path: Path, scheme, cache, types) -> None:
    report = changed(TRTLLM, "engine.quantization", scheme)
    (row,) = read(tmp_path, changed(report, "engine.kv_cache_dtype", cache))
    assert (row.weight_dtype, row.activation_dtype, row.kv_dtype) == types


def test_experts_are_spread_as_the_report_says(tmp_path: Path) -> None:
    (row,) = read(tmp_path, changed(TRTLLM, "world_info.ep_size", 4))
    assert row.ep == 4


def test_attention_beside_experts_is_asked_for(tmp_path: Path) -> None:
    report = changed(TRTLLM, "engine.model", "mistralai/Mixtral-8x7B-Instruct-v0.1")
    message = refusal(tmp_path, report)
    assert "--set dp_attention=4 if enable_attention_dp" in message
    for groups, tp in ((1, 4), (2, 2), (4, 1)):
        row = read(tmp_path, report, dp_attention=groups)[0]
        assert (row.tp, row.dp_attention) == (tp, groups)
    with pytest.raises(SpecError, match="dp_attention: 3 groups do not divide 4 GPUs"):
        read(tmp_path, report, dp_attention=3)
    assert read(tmp_path, changed(report, "world_info.tp_size", 1))[0].tp == 1


def test_a_limited_run_of_trtllm_bench_must_be_told_its_limit(tmp_path: Path) -> None:
    report = changed(TRTLLM, "request_info.avg_num_concurrent_requests", 63.2)
    message = refusal(tmp_path, report)
    assert "request_info.avg_num_concurrent_requests: 63.2 of 3000" in message
    assert "--set concurrency=N" in message
    # 6380 / 128 requests a second take 0.25 + 127 · 0.008 s each: 63.1 are open.
    streamed = {"streaming_metrics": {"avg_ttft_ms": 250.0, "avg_tpot_ms": 8.0}}
    row, ttft, _ = read(tmp_path, report | streamed, concurrency=64)
    assert row.concurrency == 64
    assert (row.quality, ttft.quality) == ("ok", "ok")
    assert read(tmp_path, report | STREAMED, concurrency=64)[0].quality == "doubtful"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # 6380 / 128 requests a second are open for 36 s each: 1794, of 1800 that are stated.
        ({}, ""),
        ({"performance.avg_request_latency_ms": 36_500.0}, ""),
        ({"performance.avg_request_latency_ms": 39_000.0}, "1944 requests were open"),
        ({"request_info.avg_num_concurrent_requests": 1650.0}, "and 1650 are stated"),
        ({"performance.total_latency_ms": 70_000.0}, "are not 384,000 tokens"),
        ({"streaming_metrics.avg_tpot_ms": 80.0}, "and 1800 are stated"),
    ],
)
def test_figures_of_trtllm_bench_agree_or_are_doubtful(tmp_path: Path, change, said: str) -> None:
    report = TRTLLM | STREAMED
    for key, value in change.items():
        report = changed(report, key, value)
    row = read(tmp_path, report)[0]
    assert row.quality == ("doubtful" if said else "ok")
    assert said in row.note


def test_vllm_bench_serve_key_by_key(tmp_path: Path) -> None:
    row, ttft, tpot = read(tmp_path, VLLM)
    assert (row.engine, row.engine_version, row.model) == ("vllm", "", "llama-3.1-8b")
    # 204,820 tokens in 200 requests are 1024.1 each, 25,600 are 128.
    assert (row.isl, row.osl, row.concurrency, row.num_requests) == (1024, 128, 64, 200)
    assert (row.metric, row.value) == ("output_throughput", 1600.0)
    assert (ttft.metric, ttft.value) == ("ttft", pytest.approx(0.24))
    assert (tpot.metric, tpot.value) == ("tpot", pytest.approx(0.0385))
    assert {r.quality for r in (row, ttft, tpot)} == {"ok"}
    assert (row.weight_dtype, row.kv_dtype) == ("half", None)


def test_without_a_limit_all_prompts_are_open(tmp_path: Path) -> None:
    # Half of 200 are open on average while the last ones end: 12.5 requests a second of 8 s.
    row, ttft, _ = read(tmp_path, VLLM | {"max_concurrency": None, "mean_ttft_ms": 3110.0})
    assert row.concurrency == 200
    assert (row.quality, ttft.quality) == ("ok", "suspect")


def test_no_more_are_open_than_were_sent(tmp_path: Path) -> None:
    row, *_ = read(tmp_path, VLLM | {"max_concurrency": 512})
    assert row.concurrency == 200


def test_failed_requests_make_a_run_doubtful(tmp_path: Path) -> None:
    row, *_ = read(tmp_path, VLLM | {"completed": 160})
    # Tokens and throughput are those of the 160 that were answered: 25,600 / 160.
    assert (row.osl, row.num_requests, row.quality) == (160, 160, "doubtful")
    assert row.note == "40 requests failed"


def test_speculative_decoding_is_left_out_of_a_fit(tmp_path: Path) -> None:
    rows = read(tmp_path, VLLM | {"spec_decode_num_drafts": 9})
    rows += read(tmp_path, TRTLLM | {"decoding_stats": {"mode": "EAGLE"}})
    assert {row.quality for row in rows} == {"suspect"}


@pytest.mark.parametrize("rate", [12.5, "12.5"])
def test_arrivals_at_a_rate_are_an_open_loop(tmp_path: Path, rate: object) -> None:
    at_rate = VLLM | {"request_rate": rate, "max_concurrency": None}
    row, ttft, tpot = read(tmp_path, at_rate)
    assert {r.request_rate for r in (row, ttft, tpot)} == {12.5}
    assert {(r.concurrency, r.num_requests) for r in (row, ttft, tpot)} == {(None, None)}
    # Tokens come at the rate of arrivals, however fast the server is.
    assert (row.quality, ttft.quality, tpot.quality) == ("suspect", "ok", "ok")
    assert row.note == "measures the rate of arrivals, not the server"
    bursts = read(tmp_path, at_rate | {"burstiness": 0.5})
    assert {r.burstiness for r in bursts} == {0.5}


def test_a_server_that_falls_behind_arrivals_makes_a_run_doubtful(tmp_path: Path) -> None:
    rows = read(tmp_path, VLLM | {"request_rate": 20, "max_concurrency": None})
    assert {row.quality for row in rows} == {"doubtful"}
    assert "12.5 of 20 requests a second were completed" in rows[0].note


def test_arrivals_beside_a_limit_are_doubtful_and_a_ramp_is_refused(tmp_path: Path) -> None:
    rows = read(tmp_path, VLLM | {"request_rate": 20})
    assert {(row.quality, row.concurrency) for row in rows} == {("doubtful", 64)}
    assert "20 a second" in rows[0].note
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 9}
    assert "ramp_up_start_rps" in refusal(tmp_path, VLLM | ramp | {"max_concurrency": None})


def test_an_endpoint_of_openai_names_no_engine(tmp_path: Path) -> None:
    chat = VLLM | {"backend": "openai-chat", "endpoint_type": "openai-chat"}
    assert read(tmp_path, chat)[0].engine == "unknown"
    assert read(tmp_path, chat, engine="sglang")[0].engine == "sglang"


@pytest.mark.parametrize("report", [GENAI, AIPERF, PHASED], ids=["genai", "flat", "phased"])
def test_aiperf_and_genai_perf_key_by_key(tmp_path: Path, report: dict[str, Any]) -> None:
    row, ttft, tpot = read(tmp_path, report)
    assert (row.model, row.isl, row.osl) == ("qwen3-8b", 550, 200)
    assert (row.concurrency, row.num_requests) == (8, 40)
    assert (row.metric, row.value) == ("output_throughput", 1000.0)
    assert (ttft.metric, ttft.value) == ("ttft", pytest.approx(0.1))
    assert (tpot.metric, tpot.value) == ("tpot", pytest.approx(0.0075))
    assert {r.quality for r in (row, ttft, tpot)} == {"ok"}


def test_of_several_models_none_is_chosen(tmp_path: Path) -> None:
    several = changed(GENAI, "input_config.model", ["Qwen/Qwen3-8B", "Qwen/Qwen3-14B"])
    assert "model" in refusal(tmp_path, several)


def test_genai_perf_with_a_file_keeps_its_load_elsewhere(tmp_path: Path) -> None:
    config = {
        "model_names": ["Qwen/Qwen3-8B"],
        "perf_analyzer": {"stimulus": {"concurrency": 16}},
    }
    row, *_ = read(tmp_path, GENAI | {"input_config": config})
    assert (row.model, row.concurrency) == ("qwen3-8b", 16)


def test_units_are_read_not_guessed(tmp_path: Path) -> None:
    _, ttft, _ = read(tmp_path, GENAI | {"time_to_first_token": {"unit": "sec", "avg": 0.25}})
    assert ttft.value == 0.25
    mixed = GENAI | {"time_to_first_token": {"unit": "tokens", "avg": 0.25}}
    assert "time_to_first_token.unit: 'tokens'" in refusal(tmp_path, mixed)
    per_gpu = changed(GENAI, "output_token_throughput.unit", "tokens/sec/gpu")
    assert "output_token_throughput.unit: 'tokens/sec/gpu'" in refusal(tmp_path, per_gpu)


def test_errors_and_cancelled_runs_are_doubtful(tmp_path: Path) -> None:
    failed = AIPERF | {"error_request_count": {"unit": "requests", "avg": 3.0}}
    row, *_ = read(tmp_path, failed | {"was_cancelled": True})
    assert (row.quality, row.note) == ("doubtful", "3 requests failed; the run was cancelled")


def test_a_rate_of_aiperf_is_an_open_loop_or_doubtful(tmp_path: Path) -> None:
    both = changed(AIPERF, "input_config.loadgen.request_rate", 5.0)
    assert read(tmp_path, both)[0].quality == "doubtful"
    rate = changed(both, "input_config.loadgen.concurrency", None)
    row, ttft, _ = read(tmp_path, rate)
    assert (row.request_rate, row.concurrency, row.quality) == (5.0, None, "suspect")
    assert (ttft.value, ttft.quality) == (pytest.approx(0.1), "ok")


def test_several_measured_phases_are_refused(tmp_path: Path) -> None:
    phases = [{"name": n, "kind": "profiling", "concurrency": 8} for n in ("first", "second")]
    report = changed(PHASED, "input_config.phases", phases)
    assert "input_config.phases" in refusal(tmp_path, report)


def test_without_streaming_there_are_no_latencies(tmp_path: Path) -> None:
    # vLLM writes 0 where an endpoint does not stream, AIPerf leaves the metrics out.
    vllm = read(tmp_path, VLLM | {"mean_ttft_ms": 0.0, "mean_tpot_ms": 0.0})
    aiperf = changed(changed(AIPERF, "time_to_first_token", ...), "inter_token_latency", ...)
    rows = [*vllm, *read(tmp_path, aiperf), *read(tmp_path, TRTLLM)]
    assert [row.metric for row in rows] == ["output_throughput"] * 3


def test_one_output_token_has_no_time_per_output_token(tmp_path: Path) -> None:
    rows = read(tmp_path, VLLM | {"total_output_tokens": 200})
    assert [row.metric for row in rows] == ["output_throughput", "ttft"]


@pytest.mark.parametrize(
    ("report", "key", "value", "words"),
    [
        (TRTLLM, "performance.system_output_throughput_tok_s", 0.0, "0, so nothing"),
        (TRTLLM, "performance.system_output_throughput_tok_s", ..., "missing"),
        (TRTLLM, "request_info.avg_input_length", ..., "missing"),
        (TRTLLM, "world_info.kv_cache_percentage", 90, "at most 1"),
        (TRTLLM, "world_info.tp_size", 0, "at least 1"),
        (TRTLLM, "engine.quantization", "MIXED_PRECISION", "--set weight_dtype"),
        (TRTLLM, "engine.kv_cache_dtype", "FP6", "--set kv_dtype"),
        (TRTLLM, "engine.dtype", "float6", ""),
        (VLLM, "output_throughput", 0, "0, so nothing"),
        (VLLM, "output_throughput", ..., "missing"),
        (VLLM, "output_throughput", "fast", "'fast'"),
        (VLLM, "output_throughput", float("nan"), "nan"),
        (VLLM, "completed", 0, "0, so nothing"),
        (VLLM, "request_rate", ..., "missing"),
        (VLLM, "max_concurrency", 1.5, "whole number"),
        (VLLM, "mean_ttft_ms", -1.0, "at least 0"),
        (VLLM, "total_output_tokens", 40, "0.2 tokens a request"),
        (GENAI, "output_token_throughput.avg", 0.0, "0, so nothing"),
        (GENAI, "output_token_throughput", ..., "missing"),
        (GENAI, "input_sequence_length", ..., "missing"),
    ],
)
def test_bad_figures_are_refused_by_key(tmp_path: Path, report, key, value, words) -> None:
    report = changed(report, key, value)
    if key == "engine.dtype":
        report = changed(report, "engine.quantization", None)
    message = refusal(tmp_path, report)
    assert key in message
    assert words in message


def leaves(report: dict[str, Any], path: str = "") -> list[str]:
    """Dotted keys of all values that are no object, but those whose own names have dots."""
    found = []
    for key, value in report.items():
        if isinstance(value, dict):
            found += leaves(value, f"{path}{key}.")
        elif "." not in key:
            found.append(path + key)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sweep.errors.SpecWarning")
@pytest.mark.parametrize(
    "junk",
    [
        *(..., None, "x", 0, [{}]),
        *(
            pytest.param(more, marks=pytest.mark.campaign)
            for more in ("", -1, 1e30, float("inf"), True, [], {})
        ),
    ],
)
def test_no_value_escapes_as_a_traceback(tmp_path: Path, junk: object) -> None:
    everything = PLACE | {"model": "gpt2", "concurrency": 1, "weight_dtype": "half"}
    for report in (TRTLLM | STREAMED, VLLM, GENAI, AIPERF, PHASED):
        for key in leaves(report):
            path = write(tmp_path, changed(report, key, junk))
            try:
                read_measurements(path, settings=everything)
            except SpecError as error:
                assert "report.json" in str(error)
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps(VLLM)[:-40], "not valid JSON at line 1"),
        ("{", "not valid JSON"),
        ({}, "neither a table nor a report of a known tool: keys none"),
        ({"results": [1], "tool": "mine"}, "keys results, tool; known are trtllm-bench by"),
        ("[" * 100_000, "JSON"),
        ("3", "not a readable table"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: object, words: str) -> None:
    assert words in refusal(tmp_path, data)


def test_appended_results_are_read_one_by_one(tmp_path: Path) -> None:
    # As `vllm bench serve --append-result` writes them.
    lines = [json.dumps(VLLM | {"max_concurrency": n}) for n in (1, 16)]
    rows = read(tmp_path, "\n".join(lines))
    assert [row.concurrency for row in rows] == [1, 1, 1, 16, 16, 16]
    assert "report 2" in rows[-1].source
    lines[1] = json.dumps(VLLM | {"completed": 0})
    assert "report.json: report 2: completed" in refusal(tmp_path, "\n".join(lines))
