"""Reports of the Kubernetes project's inference-perf, one for each stage of a load."""

from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
    arrive,
    ask_concurrency,
    ask_hardware,
    ask_tp,
    length_or_question,
    name_model,
)
from sweep.specs.catalog import Catalog


def read_inference_perf(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map a report of one stage.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    keys.positive("successes.count")
    limit, rate = keys.count("load_summary.concurrency"), keys.number("load_summary.requested_rate")
    latency = "successes.latency"
    report = Report(
        keys,
        columns={"concurrency": limit, "num_requests": keys.count("successes.count")},
        figures={
            "output_throughput": keys.positive("successes.throughput.output_tokens_per_sec"),
            "ttft": keys.positive_or_none(f"{latency}.time_to_first_token.mean"),
            "tpot": keys.positive_or_none(f"{latency}.time_per_output_token.mean"),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=keys.positive_or_none(f"{latency}.request_latency.mean"),
    )
    for column, metric, said in (("isl", "prompt_len", "input"), ("osl", "output_len", "output")):
        key = f"successes.{metric}.mean"
        length_or_question(report, column, key, keys.positive_or_none(key), said)
    if rate:
        arrive(report, rate, limit, keys.number("successes.throughput.requests_per_sec"))
    ask_concurrency(report, "load_summary")
    failed = keys.number("failures.count")
    if failed:
        report.doubts.append(f"{failed:g} requests failed")
    name_model(report, "model", keys.get("model"), catalog)
    return [report]
