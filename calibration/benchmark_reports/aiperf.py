"""Reports of AIPerf and GenAI-Perf."""

from collections.abc import Mapping
from typing import Any

from calibration.benchmark_reports.json_keys import PER_SECOND, SECONDS, TOKENS, Keys
from calibration.benchmark_reports.report import (
    Report,
    Row,
    arrive,
    ask_hardware,
    ask_narrow,
    ask_tp,
    name_model,
)
from sweep.specs.catalog import Catalog


def read_aiperf(keys: Keys, catalog: Catalog) -> Report:
    """Map a report of AIPerf or GenAI-Perf.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    config = Keys(_load(keys), f"{keys.where}: input_config", keys.tool)
    limit, rate = config.count("concurrency"), config.number("request rate")
    isl, osl = "input_sequence_length", "output_sequence_length"
    report = Report(
        keys,
        columns={
            "isl": keys.length(isl, keys.measured(isl, TOKENS)),
            "osl": keys.length(osl, keys.measured(osl, TOKENS)),
            "concurrency": limit,
            "num_requests": keys.count("request_count.avg"),
        },
        figures={
            "output_throughput": keys.measured("output_token_throughput", PER_SECOND),
            "ttft": keys.average("time_to_first_token", SECONDS),
            "tpot": keys.average("inter_token_latency", SECONDS),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
    )
    if rate is not None:
        arrive(report, "input_config: request rate", rate, limit)
    elif limit is None:
        report.unstated["concurrency"] = (
            f"{keys.where}: input_config: no concurrency is stated; "
            "give the requests kept open with --set concurrency=N"
        )
    failed = keys.number("error_request_count.avg")
    if failed:
        report.doubts.append(f"{failed:g} requests failed")
    if keys.get("was_cancelled"):
        report.doubts.append("the run was cancelled")
    name_model(report, "input_config: model", config.get("model"), catalog)
    ask_narrow(report, "input_config: model", config.get("model"), catalog)
    return report


KEYS = {
    # AIPerf with a flat and with a phased configuration; GenAI-Perf with a file and with options.
    "model": ("endpoint.model_names", "models.items", "models", "model_names", "model"),
    "concurrency": ("loadgen.concurrency", "perf_analyzer.stimulus.concurrency", "concurrency"),
    "request rate": ("loadgen.request_rate", "perf_analyzer.stimulus.request_rate", "request_rate"),
}
"""Keys of the model and the load in versions of `input_config`."""


def _load(keys: Keys) -> Row:
    """Model, concurrency and request rate of `input_config`."""
    stated = {
        name: [keys.get(f"input_config.{key}") for key in spellings]
        for name, spellings in KEYS.items()
    }
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
        if isinstance(phase, Mapping) and "warmup" not in (phase.get("kind"), phase.get("name"))
    ]
    if len(measured) > 1:
        raise keys.refuse("input_config.phases", "several were measured; read each on its own")
    return measured[0] if measured else {}
