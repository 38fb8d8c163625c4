"""Reports of `trtllm-bench`."""

from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
    Row,
    ask_tp,
    name_hardware,
    name_model,
)
from sweep.kernel.block import is_routed
from sweep.models.read import read_model
from sweep.specs.catalog import Catalog
from sweep.specs.parsing import short

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
OPENED = "request_info.avg_num_concurrent_requests"


def read_trtllm_bench(keys: Keys, catalog: Catalog) -> list[Report]:
    """Map a report of `trtllm-bench`.

    Raises:
        SpecError: A key is missing or says what no row can hold.
    """
    isl, osl = "request_info.avg_input_length", "request_info.avg_output_length"
    share = "world_info.kv_cache_percentage"
    columns: Row = {
        "engine": "tensorrt-llm",
        "engine_version": keys.get("engine.version"),
        "num_gpus": keys.count("world_info.world_size"),
        "stage_gpus": keys.count("world_info.tp_size"),
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
        raise keys.refuse(share, f"a share of at most 1 is meant, not {short(keys.get(share))}")
    report = Report(
        keys,
        columns,
        figures={
            "output_throughput": keys.positive("performance.system_output_throughput_tok_s"),
            "ttft": keys.seconds("streaming_metrics.avg_ttft_ms"),
            "tpot": keys.seconds("streaming_metrics.avg_tpot_ms"),
        },
        unstated={},
        foreign=["speculative decoding"] if keys.get("decoding_stats") else [],
        latency=keys.seconds("performance.avg_request_latency_ms"),
        duration=keys.seconds("performance.total_latency_ms"),
        opened=keys.number(OPENED),
    )
    name_hardware(report, str(keys.get("machine.name") or ""), catalog)
    if columns["stage_gpus"] is None:
        report.unstated["tp"] = ask_tp(keys)
    name_model(report, "engine.model", keys.get("engine.model"), catalog)
    _type_engine(report)
    _limit_engine(report)
    _ask_attention(report, catalog)
    return [report]


def _type_engine(report: Report) -> None:
    """Types of weights, activations and cache by their names in TensorRT-LLM."""
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
                f"{keys.where}: engine.{key}: {short(keys.get(f'engine.{key}'))} is no known type; "
                f"give it with --set {column}=TYPE"
            )


def _limit_engine(report: Report) -> None:
    """Record whether trtllm-bench sent all requests at once, as it does without a concurrency.

    Of requests sent at once and served evenly at least half are open on average; of those of a
    limited run about as many as the limit. Below a quarter there is no doubt.
    """
    held, sent = report.opened, report.columns["num_requests"]
    report.at_once = held is None or held >= sent / 4
    if not report.at_once:
        report.unstated["concurrency"] = (
            f"{report.keys.where}: {OPENED}: {held:.4g} of {sent} requests, so the run was given a "
            "--concurrency, which the report does not state; give it with --set concurrency=N"
        )


def _ask_attention(report: Report, catalog: Catalog) -> None:
    """Require the layout of attention beside experts, which no report states."""
    name, gpus = report.columns["model"], report.columns["stage_gpus"] or 1
    if name is None or gpus == 1:
        return
    spec = catalog.model(name)
    if is_routed(read_model(spec)):
        report.unstated["dp_attention"] = (
            f"{report.keys.where}: dp_attention: the report does not state whether attention ran "
            f"data-parallel; give --set dp_attention={gpus} if enable_attention_dp was set, else "
            "--set dp_attention=1"
        )
