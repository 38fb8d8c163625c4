"""Summaries of LLMPerf."""

from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
    ask_concurrency,
    ask_hardware,
    ask_tp,
    length_or_question,
    name_model,
)
from sweep.specs.catalog import Catalog


def read_llmperf(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map a summary of LLMPerf.

    Its time between tokens is a request's latency over its output tokens, the first included.
    Lengths are those measured, or those asked for where the summary has no others.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    report = Report(
        keys,
        columns={
            "concurrency": keys.count("num_concurrent_requests"),
            "num_requests": int(keys.positive("results_num_completed_requests")),
        },
        figures={
            "output_throughput": keys.positive("results_mean_output_throughput_token_per_s"),
            "ttft": keys.positive_or_none("results_ttft_s_mean"),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=keys.positive_or_none("results_end_to_end_latency_s_mean"),
    )
    for column, word in (("isl", "input"), ("osl", "output")):
        measured, asked = f"results_number_{word}_tokens_mean", f"mean_{word}_tokens"
        tokens = keys.positive_or_none(measured) or keys.positive_or_none(asked)
        length_or_question(report, column, asked, tokens, word)
    report.figures["tpot"] = _per_later_token(report)
    failed = keys.number("results_number_errors")
    if failed:
        report.doubts.append(f"{failed:g} requests failed")
    ask_concurrency(report, "num_concurrent_requests")
    name_model(report, "model", keys.get("model"), catalog)
    return [report]


def _per_later_token(report: Report) -> float | None:
    """Latency less the time to first token, over the later tokens. [s]"""
    osl, ttft = report.columns["osl"] or 1, report.figures["ttft"]
    each = report.keys.positive_or_none("results_inter_token_latency_s_mean")
    if each is None or ttft is None or osl < 2:
        return None
    spent = (each * osl - ttft) / (osl - 1)
    report.latency = report.latency or each * osl
    return spent if spent > 0 else None
