"""Reports of AIPerf and GenAI-Perf, and AIPerf's aggregates of sweeps."""

from collections.abc import Mapping
from typing import Any

from calibration.benchmark_reports.json_keys import PER_SECOND, SECONDS, TOKENS, Keys
from calibration.benchmark_reports.report import (
    Report,
    Row,
    arrive,
    ask_concurrency,
    ask_hardware,
    ask_tp,
    length_or_question,
    name_model,
)
from sweep.specs.catalog import Catalog

LENGTHS = {
    "isl": ("input_sequence_length", "num_input_token", "usage_prompt_tokens"),
    "osl": ("output_sequence_length", "num_output_token", "usage_completion_tokens"),
}
"""Metrics of the lengths of a request: of today, of the oldest versions, and as the server counts
them."""


def read_aiperf(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map a report of AIPerf or GenAI-Perf.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    return [_read_one(keys, catalog, {})]


def read_aiperf_sweep(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map the aggregate of a sweep: one run for each combination of its parameters.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    found = keys.get("per_combination_metrics")
    sound = isinstance(found, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("metrics"), Mapping) for one in found
    )
    if not sound:
        raise keys.refuse("per_combination_metrics", "must be a list of parameters and metrics")
    if not found:
        raise keys.refuse("per_combination_metrics", "empty, so nothing was measured")
    config = keys.get("input_config") or keys.get("metadata.input_config")
    reports = []
    for number, one in enumerate(found, start=1):
        parameters = one.get("parameters")
        parameters = parameters if isinstance(parameters, Mapping) else {}
        # A nested parameter has a dotted name: `phases.profiling.concurrency`.
        varied = {str(name).rpartition(".")[2]: value for name, value in parameters.items()}
        inside = Keys(
            {**one["metrics"], "input_config": config},
            f"{keys.where}: combination {number}",
            keys.tool,
        )
        reports.append(_read_one(inside, catalog, varied))
    return reports


def _read_one(keys: Keys, catalog: Catalog, varied: Mapping[str, Any]) -> Report:
    config = Keys(_load(keys, varied), f"{keys.where}: input_config", keys.tool)
    throughput = keys.average("output_token_throughput", PER_SECOND)
    if throughput is None:
        throughput = keys.positive("output_token_throughput.avg")
    limit, rate = config.count("concurrency"), config.positive_or_none("request rate")
    report = Report(
        keys,
        columns={
            "concurrency": limit,
            "num_requests": keys.count("request_count.avg") or keys.count("request_count.mean"),
        },
        figures={
            "output_throughput": throughput,
            "ttft": keys.average("time_to_first_token", SECONDS),
            "tpot": keys.average("inter_token_latency", SECONDS),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=keys.average("request_latency", SECONDS),
    )
    for column, said in (("isl", "input"), ("osl", "output")):
        metrics = LENGTHS[column]
        known = (keys.average(metric, TOKENS) for metric in metrics)
        tokens = next((length for length in known if length), None)
        length_or_question(report, column, metrics[0], tokens, said)
    if rate is not None:
        arrive(report, rate, limit, keys.average("request_throughput", REQUESTS))
    else:
        ask_concurrency(report, "input_config")
    failed = keys.number("error_request_count.avg")
    if failed:
        report.doubts.append(f"{failed:g} requests failed")
    if keys.get("was_cancelled"):
        report.doubts.append("the run was cancelled")
    name_model(report, "input_config: model", config.get("model"), catalog)
    return report


REQUESTS = {"requests/sec": 1.0, "requests per sec": 1.0}
"""Units of a rate of requests."""
KEYS = {
    # AIPerf with a flat and with a phased configuration; GenAI-Perf with a file and with options.
    "model": ("endpoint.model_names", "models.items", "models", "model_names", "model"),
    "concurrency": ("loadgen.concurrency", "perf_analyzer.stimulus.concurrency", "concurrency"),
    "request rate": ("loadgen.request_rate", "perf_analyzer.stimulus.request_rate", "request_rate"),
}
"""Keys of the model and the load in versions of `input_config`."""


def _load(keys: Keys, varied: Mapping[str, Any]) -> Row:
    """Model, concurrency and request rate of `input_config`, or of what a sweep varied."""
    stated = {
        name: [keys.get(f"input_config.{key}") for key in spellings]
        for name, spellings in KEYS.items()
    }
    for name, key in (
        ("concurrency", "concurrency"),
        ("request rate", "request_rate"),
        ("request rate", "rate"),
    ):
        stated[name].insert(0, varied.get(key))
    phase = _profiled_phase(keys)
    stated["concurrency"].append(phase.get("concurrency"))
    stated["request rate"].append(phase.get("rate"))
    found = {
        name: next((value for value in values if value is not None), None)
        for name, values in stated.items()
    }
    model = found["model"]
    if isinstance(model, list) and len(model) == 1:
        model = model[0]
    return found | {"model": model.get("name") if isinstance(model, Mapping) else model}


def _profiled_phase(keys: Keys) -> Mapping[str, Any]:
    """The measured phase of an AIPerf run; empty if the run has no phases."""
    phases = keys.get("input_config.phases")
    measured = [
        phase
        for phase in (phases if isinstance(phases, list) else [phases])
        if isinstance(phase, Mapping)
        and "warmup" not in (phase.get("kind"), phase.get("name"))
        and phase.get("exclude_from_results") is not True
    ]
    if len(measured) > 1:
        raise keys.refuse("input_config.phases", "several were measured; read each on its own")
    return measured[0] if measured else {}
