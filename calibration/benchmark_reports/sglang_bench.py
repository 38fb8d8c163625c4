"""Reports of SGLang's `bench_serving`."""

import math

from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
    arrive,
    ask_hardware,
    ask_tp,
    name_model,
    read_mean_lengths,
)
from calibration.benchmark_reports.vllm_bench import read_latencies
from sweep.specs.catalog import Catalog

ENGINES = {"sglang": "sglang", "vllm": "vllm", "trt": "tensorrt-llm", "lmdeploy": "lmdeploy"}
"""Engine by the first word of a backend; `sglang-oai` is SGLang behind OpenAI's interface."""


def read_sglang_bench(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map one line of a report of `bench_serving`.

    The time per output token is that of requests without their first one, since the median time
    between tokens leaves out what prefills interrupt.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    completed, limit = keys.positive("completed"), keys.count("max_concurrency")
    report = Report(
        keys,
        columns={
            "engine": ENGINES.get(str(keys.get("backend")).partition("-")[0]),
            "engine_version": _version(keys),
            "tp": _tp(keys),
            "concurrency": int(min(limit or completed, completed)),
            "num_requests": int(completed),
        },
        figures={"output_throughput": keys.positive("output_throughput")},
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=keys.seconds("mean_e2e_latency_ms"),
        foreign=["speculative decoding"] if keys.get("accept_length") else [],
        at_once=limit is None,
    )
    read_mean_lengths(report, completed)
    read_latencies(report, ("ttft",))
    report.figures["tpot"] = keys.seconds("mean_tpot_ms") or _per_later_token(report)
    rate = keys.get("request_rate")
    if rate not in (None, math.inf, "inf"):
        duration = keys.positive_or_none("duration")
        done = completed / duration if duration else None
        arrive(report, keys.positive("request_rate"), limit, done)
        report.at_once = False
    name_model(report, "server_info.model_path", keys.get("server_info.model_path"), catalog)
    report.duration = keys.number("duration")
    return [report]


def _per_later_token(report: Report) -> float | None:
    """Mean latency less the time to first token, over the later tokens. [s]"""
    ttft = report.keys.seconds("mean_ttft_ms")
    if ttft is None or report.latency is None or (report.columns["osl"] or 1) < 2:
        return None
    spent = (report.latency - ttft) / (report.columns["osl"] - 1)
    return spent if spent > 0 else None


def _version(keys: Keys) -> str | None:
    found = keys.get("server_info.version")
    return found if isinstance(found, str) else None


def _tp(keys: Keys) -> int | None:
    """GPUs that share each layer; not stated where attention is data-parallel. [count]"""
    alone = keys.get("server_info.dp_size") in (None, 1)
    return keys.count("server_info.tp_size") if alone else None
