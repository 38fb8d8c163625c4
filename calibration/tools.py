"""Reports of benchmarking tools, read as rows of measurements; no file is opened here.

A report is a JSON object that one tool wrote about one run. Its keys are mapped by the names the
tool documents; what it does not state is left to the caller, with a sentence on what to do.

========================  ==========================  ======================  ===================
column                    trtllm-bench [1]            vllm bench serve [2]    AIPerf [3],
                                                                              GenAI-Perf [4]
========================  ==========================  ======================  ===================
model                     engine.model                model_id                model of input_config
engine, engine_version    engine.version              backend                 not stated
hardware                  not stated                  not stated              not stated
tp, pp, ep, num_gpus      tp_size, pp_size, ep_size,  not stated              not stated
                          world_size of world_info
weight_dtype,             engine.quantization, or     not stated              not stated
activation_dtype          engine.dtype without one
kv_dtype                  engine.kv_cache_dtype, or   not stated              not stated
                          engine.dtype without one
max_batch_size,           the same of world_info      not stated              not stated
max_num_tokens
kv_cache_fraction         kv_cache_percentage of      not stated              not stated
                          world_info, a fraction
isl                       request_info                total_input_tokens /    input_sequence_
                          .avg_input_length           completed               length.avg
osl                       request_info                total_output_tokens /   output_sequence_
                          .avg_output_length          completed               length.avg
num_requests              request_info.num_requests   completed               request_count.avg
concurrency               not stated                  max_concurrency, else   concurrency of
                                                      num_prompts             input_config
output_throughput [s-1]   performance.system_output_  output_throughput       output_token_
                          throughput_tok_s                                    throughput.avg
ttft [s]                  streaming_metrics           mean_ttft_ms            time_to_first_
                          .avg_ttft_ms                                        token.avg
tpot [s]                  streaming_metrics           mean_tpot_ms            inter_token_
                          .avg_tpot_ms                                        latency.avg
========================  ==========================  ======================  ===================

Every row is `inflight`. Lengths are means over requests, rounded. Latencies of zero are what tools
write where nothing was streamed, and make no row. `suspect`, and so left out of a fit, are runs
with speculative decoding, and times to first token of requests that were all sent at once: they
count the wait before admission, which the kernel does not. `doubtful` are runs in which requests
failed or were cancelled. Requests that arrive at a given rate, however fast the server is, measure
that rate: they are refused, or `doubtful` where a highest concurrency was given too.

Types that a report does not state are those of the schema, 16 bits, unless the model's name or
config says that its weights are narrower; then they must be given. So must attention_dp for a
mixture of experts on several GPUs of TensorRT-LLM, and the concurrency of trtllm-bench where the
requests that were open tell that it had one.

References:
    [1] https://nvidia.github.io/TensorRT-LLM/commands/trtllm-bench.html and, for the keys,
        https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/bench/dataclasses/reporting.py
        and quantization/mode.py beside it
    [2] https://docs.vllm.ai/en/latest/cli/bench/serve/ and, for the keys,
        https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/serve.py
    [3] https://docs.nvidia.com/aiperf/reference/json-export-schema; what input_config holds is at
        https://docs.nvidia.com/aiperf/tutorials/configuration/yaml-configuration-files
    [4] https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/perf_analyzer/
        genai-perf/README.html and, for the keys, genai_perf/export_data/json_exporter.py of
        https://github.com/triton-inference-server/perf_analyzer
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from calibration.keys import PER_SECOND, SECONDS, TOKENS, Keys
from calibration.reports import (
    Report,
    Row,
    arrive,
    ask_hardware,
    ask_narrow,
    ask_tp,
    name_model,
)
from sweep.architecture import is_routed
from sweep.catalog import Catalog
from sweep.errors import SpecError
from sweep.families import read_blocks

TRTLLM, VLLM, GENAI = "trtllm-bench", "vllm bench serve", "AIPerf or GenAI-Perf"
TELLING: dict[str, tuple[str, ...]] = {
    TRTLLM: ("engine", "world_info"),
    VLLM: ("model_id", "num_prompts"),
    GENAI: ("request_throughput", "request_latency"),
}
"""Keys at the top of a report that no other tool writes together."""

PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
QUANTIZED = {
    "FP8": ("fp8", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
    "FP8_BLOCK_SCALES": ("fp8", "fp8"),
    "NVFP4": ("nvfp4", "nvfp4"),
    "NVFP4_AWQ": ("nvfp4", "nvfp4"),
    "W8A8_SQ_PER_CHANNEL": ("int8", "int8"),
    "W8A16": ("int8", "half"),
    "W8A16_GPTQ": ("int8", "half"),
    "W4A16": ("int4", "half"),
    "W4A16_AWQ": ("int4", "half"),
    "W4A16_GPTQ": ("int4", "half"),
    "W4A16_MXFP4": ("mxfp4", "half"),
    "W4A8_AWQ": ("int4", "fp8"),
    "W4A8_NVFP4_FP8": ("nvfp4", "fp8"),
    "W4A8_MXFP4_FP8": ("mxfp4", "fp8"),
}
"""Types of weights and activations by TensorRT-LLM's name of a quantization."""
KV_TYPES = {"FP8": "fp8", "INT8": "int8", "NVFP4": "nvfp4"}
NOT_QUANTIZED = (None, "NO_QUANT")


def tool_of(data: Mapping[str, Any]) -> str | None:
    """The tool that wrote a JSON object, or nothing where no tool is known by its keys."""
    for tool, keys in TELLING.items():
        if all(key in data for key in keys):
            return tool
    return None


def read_report(data: Mapping[str, Any], where: str, catalog: Catalog) -> Report:
    """Map a report to columns of measurements.

    Args:
        data: The parsed JSON object.
        where: What to call it in errors.
        catalog: Where to look for the model it names.

    Raises:
        SpecError: No tool is known to write it, or a key is missing or says what no row can hold;
            the message names the key.
    """
    readers: dict[str | None, Callable[[Keys, Catalog], Report]] = {
        TRTLLM: _trtllm,
        VLLM: _vllm,
        GENAI: _genai,
    }
    tool = tool_of(data)
    if tool is None:
        known = "; ".join(f"{name} by {' and '.join(keys)}" for name, keys in TELLING.items())
        given = ", ".join(data) or "none"
        raise SpecError(
            f"{where}: neither a table nor a report of a known tool: keys {given:.60}; "
            f"known are {known}"
        )
    return readers[tool](Keys(data, where, tool), catalog)


def _trtllm(keys: Keys, catalog: Catalog) -> Report:
    isl, osl = "request_info.avg_input_length", "request_info.avg_output_length"
    share = "world_info.kv_cache_percentage"
    columns: Row = {
        "engine": "tensorrt-llm",
        "engine_version": keys.get("engine.version"),
        "num_gpus": keys.count("world_info.world_size"),
        "tp": keys.count("world_info.tp_size"),
        "pp": keys.count("world_info.pp_size"),
        # TensorRT-LLM writes -1 where it chooses for itself.
        "ep": None if keys.get("world_info.ep_size") == -1 else keys.count("world_info.ep_size"),
        "isl": keys.length(isl, keys.positive(isl)),
        "osl": keys.length(osl, keys.positive(osl)),
        "max_batch_size": keys.count("world_info.max_batch_size"),
        "max_num_tokens": keys.count("world_info.max_num_tokens"),
        "num_requests": int(keys.positive("request_info.num_requests")),
        "kv_cache_fraction": None if keys.get(share) is None else keys.positive(share),
    }
    if (columns["kv_cache_fraction"] or 1) > 1:
        raise keys.refuse(share, f"a share of at most 1 is meant, not {keys.get(share)!r}")
    report = Report(
        keys,
        columns,
        figures={
            "output_throughput": keys.positive("performance.system_output_throughput_tok_s"),
            "ttft": keys.seconds("streaming_metrics.avg_ttft_ms"),
            "tpot": keys.seconds("streaming_metrics.avg_tpot_ms"),
        },
        unstated=ask_hardware(keys, str(keys.get("machine.name") or "")),
        foreign=["speculative decoding"] if keys.get("decoding_stats") else [],
    )
    if columns["tp"] is None:
        report.unstated["tp"] = ask_tp(keys)
    name_model(report, "engine.model", keys.get("engine.model"), catalog)
    _type_engine(report)
    _limit_engine(report)
    _ask_attention(report, catalog)
    return report


def _type_engine(report: Report) -> None:
    """Types of weights, activations and cache from what TensorRT-LLM calls them."""
    keys, columns = report.keys, report.columns
    plain = PLAIN.get(str(keys.get("engine.dtype")).removeprefix("torch."))
    scheme, cache = keys.get("engine.quantization"), keys.get("engine.kv_cache_dtype")
    if scheme in NOT_QUANTIZED:
        types: tuple[str | None, str | None] = (plain, plain)
    else:
        types = QUANTIZED.get(str(scheme), (None, None))
    columns["weight_dtype"], columns["activation_dtype"] = types
    # Without a type of its own the cache has that of the hidden states.
    columns["kv_dtype"] = (
        plain or "half" if cache in NOT_QUANTIZED else KV_TYPES.get(str(cache).upper())
    )
    stated = "dtype" if scheme in NOT_QUANTIZED else "quantization"
    for column, key in (("weight_dtype", stated), ("kv_dtype", "kv_cache_dtype")):
        if columns[column] is None:
            report.unstated[column] = (
                f"{keys.where}: engine.{key}: {keys.get(f'engine.{key}')!r} is no known type; "
                f"give it with --set {column}=TYPE"
            )


def _limit_engine(report: Report) -> None:
    """Tell whether trtllm-bench sent all requests at once; it does unless told a concurrency.

    Of requests sent at once and served evenly at least half are open on average; of those of a
    limited run about as many as the limit. Below a quarter there is no doubt.
    """
    keys, sent = report.keys, report.columns["num_requests"]
    key = "request_info.avg_num_concurrent_requests"
    held = keys.number(key)
    report.at_once = held is None or held >= sent / 4
    if not report.at_once:
        report.unstated["concurrency"] = (
            f"{keys.where}: {key}: {held:.4g} of {sent} requests, so the run was given a "
            "--concurrency, which the report does not state; give it with --set concurrency=N"
        )


def _ask_attention(report: Report, catalog: Catalog) -> None:
    """Ask how attention ran beside experts, which decides the layout and stands in no report."""
    name, tp = report.columns["model"], report.columns["tp"] or 1
    if name is None or tp == 1:
        return
    spec = catalog.model(name)
    if is_routed(read_blocks(spec.config, spec.where)):
        report.unstated["attention_dp"] = (
            f"{report.keys.where}: attention_dp: the report does not state whether attention ran "
            f"data-parallel; give --set attention_dp={tp} if enable_attention_dp was set, else "
            "--set attention_dp=1"
        )


def _vllm(keys: Keys, catalog: Catalog) -> Report:
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


def _genai(keys: Keys, catalog: Catalog) -> Report:
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


PLACES = {
    # AIPerf with a flat and with a phased configuration; GenAI-Perf with a file and with options.
    "model": ("endpoint.model_names", "models.items", "models", "model_names", "model"),
    "concurrency": ("loadgen.concurrency", "perf_analyzer.stimulus.concurrency", "concurrency"),
    "request rate": ("loadgen.request_rate", "perf_analyzer.stimulus.request_rate", "request_rate"),
}
"""Where versions of `input_config` keep the model and the load."""


def _load(keys: Keys) -> Row:
    """Model, concurrency and request rate of `input_config`."""
    stated = {
        name: [keys.get(f"input_config.{place}") for place in places]
        for name, places in PLACES.items()
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
    """The one phase of an AIPerf run that was measured, empty where it knows no phases."""
    phases = keys.get("input_config.phases")
    measured = [
        phase
        for phase in (phases if isinstance(phases, list) else [phases])
        if isinstance(phase, Mapping) and "warmup" not in (phase.get("kind"), phase.get("name"))
    ]
    if len(measured) > 1:
        raise keys.refuse("input_config.phases", "several were measured; read each on its own")
    return measured[0] if measured else {}
