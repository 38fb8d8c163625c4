"""Reports of `vllm bench serve`."""

import math

from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
    arrive,
    ask_hardware,
    ask_narrow,
    ask_tp,
    name_model,
)
from sweep.specs.catalog import Catalog


def read_vllm_bench(keys: Keys, catalog: Catalog) -> Report:
    """Map a report of `vllm bench serve`.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    completed, prompts = keys.positive("completed"), keys.positive("num_prompts")
    limit = keys.count("max_concurrency")
    read = {
        column: keys.length(key, keys.positive(key) / completed)
        for column, key in (("isl", "total_input_tokens"), ("osl", "total_output_tokens"))
    }
    backend = str(keys.get("backend") or keys.get("endpoint_type") or "openai")
    report = Report(
        keys,
        columns={
            # The backend is a kind of endpoint, and any engine may stand behind OpenAI's.
            "engine": None if backend.startswith("openai") else backend,
            **read,
            "concurrency": int(min(limit or prompts, prompts)),
            "num_requests": int(completed),
        },
        figures={
            "output_throughput": keys.positive("output_throughput"),
            "ttft": keys.seconds("mean_ttft_ms"),
            "tpot": keys.seconds("mean_tpot_ms"),
        },
        unstated=ask_hardware(keys) | {"tp": ask_tp(keys)},
        foreign=["speculative decoding"] if "spec_decode_num_drafts" in keys.data else [],
        at_once=limit is None,
    )
    # "inf" as text stands for requests sent as fast as the clients can.
    if keys.get("request_rate") not in ("inf", math.inf):
        arrive(report, "request_rate", keys.positive("request_rate"), limit)
    if keys.get("ramp_up_strategy") is not None:
        arrive(report, "ramp_up_start_rps", keys.number("ramp_up_start_rps") or 0.0, limit)
    if completed < prompts:
        report.doubts.append(f"{prompts - completed:g} requests failed")
    name_model(report, "model_id", keys.get("model_id"), catalog)
    ask_narrow(report, "model_id", keys.get("model_id"), catalog)
    return report
