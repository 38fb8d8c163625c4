"""Reports of GuideLLM."""

from collections.abc import Mapping
from typing import Any

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

STRATEGIES = ("config.strategy", "scheduler.strategy", "args.strategy")
"""Keys of the load of a benchmark, in versions of the report."""
MODELS = (
    *("config.backend.model", "benchmarker.backend.model", "worker.backend_model"),
    *("args.backend.model", "backend.model"),
)
"""Keys of the model of a benchmark."""
MODELS_OF_ALL = ("args.model", "config.spec.backend.model", "args.backend_kwargs.model")
"""Keys of the model beside all benchmarks."""


def read_guidellm(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map the benchmarks of a report of GuideLLM.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    found = keys.get("benchmarks")
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise keys.refuse("benchmarks", "must be a list of benchmarks")
    if not found:
        raise keys.refuse("benchmarks", "empty, so nothing was measured; repeat the run")
    several = len(found) > 1
    return [
        _read_one(
            Keys(one, f"{keys.where}: benchmark {number}" if several else keys.where, keys.tool),
            next((keys.get(key) for key in MODELS_OF_ALL if keys.get(key) is not None), None),
            catalog,
        )
        for number, one in enumerate(found, start=1)
    ]


def _read_one(keys: Keys, model: Any, catalog: Catalog) -> Report:
    def mean(metric: str) -> float | None:
        return keys.positive_or_none(f"metrics.{metric}.successful.mean")

    rate, osl = mean("requests_per_second"), mean("output_token_count")
    report = Report(
        keys,
        columns={
            "concurrency": None,
            "num_requests": keys.count("metrics.request_totals.successful"),
        },
        figures={
            # A mean of tokens a second is over time or over requests, by the version.
            "output_throughput": rate * osl if rate and osl else None,
            "ttft": _seconds(mean("time_to_first_token_ms")),
            # GuideLLM's time per output token counts the first one; that between tokens does not.
            "tpot": _seconds(mean("inter_token_latency_ms")),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        latency=mean("request_latency"),
    )
    for column, metric, said in (
        ("isl", "prompt_token_count", "input"),
        ("osl", "output_token_count", "output"),
    ):
        length_or_question(report, column, f"metrics.{metric}", mean(metric), said)
    _read_load(report, rate)
    failed = keys.number("metrics.request_totals.errored")
    if failed:
        report.doubts.append(f"{failed:g} requests failed")
    own = next((keys.get(key) for key in MODELS if keys.get(key) is not None), model)
    name_model(report, "model", own, catalog)
    return report


def _read_load(report: Report, completed: float | None) -> None:
    keys, columns = report.keys, report.columns
    prefix = next((key for key in STRATEGIES if isinstance(keys.get(key), Mapping)), STRATEGIES[0])
    kind = keys.get(f"{prefix}.type_") or keys.get(f"{prefix}.kind")
    if kind == "synchronous":
        columns["concurrency"] = 1
    elif kind == "throughput":
        columns["concurrency"] = keys.count(f"{prefix}.max_concurrency") or columns["num_requests"]
        report.at_once = keys.get(f"{prefix}.max_concurrency") is None
    elif kind in ("constant", "poisson", "async"):
        arrive(report, keys.positive(f"{prefix}.rate"), None, completed)
    else:
        columns["concurrency"] = keys.count(f"{prefix}.streams")
    ask_concurrency(report, prefix)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds * 1e-3
