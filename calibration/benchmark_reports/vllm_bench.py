"""Reports of `vllm bench serve`, of its sweeps, and results of InferenceX in the same keys."""

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
from sweep.errors import SpecError
from sweep.specs.catalog import Catalog


def read_vllm_bench(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map a report of `vllm bench serve`.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    completed, prompts = keys.positive("completed"), keys.positive("num_prompts")
    limit = keys.count("max_concurrency")
    backend = str(keys.get("backend") or keys.get("endpoint_type") or "openai")
    report = Report(
        keys,
        columns={
            # The backend is a kind of endpoint, and any engine may serve OpenAI's.
            "engine": None if backend.startswith("openai") else backend,
            "concurrency": int(min(limit or prompts, prompts)),
            "num_requests": int(completed),
            # A sweep adds the settings of the server that it varied.
            "tp": keys.count("tensor_parallel_size"),
            "max_batch_size": keys.count("max_num_seqs"),
            "max_num_tokens": keys.count("max_num_batched_tokens"),
        },
        figures={"output_throughput": keys.positive("output_throughput")},
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=keys.seconds("mean_e2el_ms") or keys.positive_or_none("mean_e2el"),
        foreign=["speculative decoding"] if "spec_decode_num_drafts" in keys.data else [],
        at_once=limit is None,
    )
    read_mean_lengths(report, completed)
    read_latencies(report, ("ttft", "tpot"))
    _read_arrivals(report, limit)
    if completed < prompts:
        report.doubts.append(f"{prompts - completed:g} requests failed")
    name_model(report, "model_id", keys.get("model_id"), catalog)
    report.duration = keys.number("duration")
    return [report]


def read_latencies(report: Report, metrics: tuple[str, ...]) -> None:
    """Read the means of latencies, or medians where there are no means.

    Keys with `_ms` are in milliseconds; InferenceX writes the same without it, in seconds. The
    median of a time to first token is below its mean where some requests wait.
    """
    keys = report.keys
    for metric in metrics:
        # A mean of 0 says that nothing was streamed.
        stated = [keys.get(f"mean_{metric}{unit}") is not None for unit in ("_ms", "")]
        word = "mean" if any(stated) else "median"
        report.figures[metric] = keys.seconds(f"{word}_{metric}_ms") or keys.positive_or_none(
            f"{word}_{metric}"
        )
        if word == "median" and metric == "ttft":
            report.doubt(metric, "the median, since the report states no mean")


def _read_arrivals(report: Report, limit: int | None) -> None:
    keys = report.keys
    # "inf" as text means requests sent as fast as the clients can.
    if keys.get("request_rate") not in ("inf", math.inf):
        arrive(report, keys.positive("request_rate"), limit, keys.number("request_throughput"))
        report.at_once = False
        burstiness = keys.number("burstiness")
        if limit is None and burstiness not in (None, 0.0, 1.0):
            report.columns["burstiness"] = burstiness
    if keys.get("ramp_up_strategy") is not None:
        if limit is None:
            raise keys.refuse(
                "ramp_up_start_rps",
                "the rate of arrivals grew during the run; repeat it at one rate, or with a "
                "highest concurrency",
            )
        arrive(report, keys.number("ramp_up_start_rps") or 0.0, limit)


def refuse_multi_turn(keys: Keys, catalog: Catalog) -> list[Report]:
    """Refuse a run of conversations.

    Raises:
        SpecError: Always.
    """
    del catalog
    raise SpecError(
        f"{keys.where}: turns_per_conversation: later turns find earlier ones in the cache, and "
        "the report does not state how many tokens; repeat the run with single turns"
    )
