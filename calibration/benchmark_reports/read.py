"""Reports of benchmarking tools, read as rows of measurements; no file is opened here.

A report is a JSON object that one tool wrote about one run, or a list or lines of several. Its keys
are mapped by the names that the tool documents. What it does not state, the caller must give; the
error says how. Every row is `inflight`; lengths are means over requests, rounded.

====================  ===================================================================
tool                  what its rows are read from
====================  ===================================================================
trtllm-bench [1]      `engine` (model, version, types), `world_info` (layout and limits),
                      `request_info` (lengths), `performance`, `streaming_metrics`
vllm bench serve [2]  totals over `completed`; `max_concurrency`, or `request_rate`;
and InferenceX [3]    `output_throughput`; `mean_…_ms`, `median_…_ms` where there are no
                      means, and the same in seconds without `_ms`
SGLang                the same, and `mean_e2e_latency_ms`; model and layout from
bench_serving [4]     `server_info`, where there is one
AIPerf [5] and        `avg` and `unit` of each metric; model and load from `input_config`,
GenAI-Perf [6]        a phase of it, or the parameters of a sweep
GuideLLM [7]          means of successful requests; the load from a benchmark's strategy
inference-perf [8]    `successes` and `load_summary` of one stage
LLMPerf [9]           `results_…_mean`, `num_concurrent_requests`
====================  ===================================================================

Tools write a latency of 0 where nothing was streamed; it makes no row. Runs with speculative
decoding are `suspect` and left out of a fit, and so are times to first token of requests that were
all sent at once: they include the wait before admission. Runs in which requests failed or were
cancelled are `doubtful`, and so are those whose figures contradict one another (see
`consistency`). Requests that arrive at a given rate make rows with a `request_rate`; their
throughput is that rate, however fast the server is, and `suspect`. With a highest concurrency
beside the rate a run is `doubtful`.

Types that a report does not state are 16 bits wide, the default of the schema, unless the name that
the report or the caller gives, or the model's own config, says that its weights are narrower; then
the caller must give them. The caller must also give dp_attention for a mixture of experts on
several GPUs of TensorRT-LLM, and the concurrency of trtllm-bench if the number of open requests
shows that it had one.

References:
    [1] https://nvidia.github.io/TensorRT-LLM/commands/trtllm-bench.html and, for the keys,
        https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/bench/dataclasses/reporting.py
        and quantization/mode.py beside it
    [2] https://docs.vllm.ai/en/latest/cli/bench/serve/ and, for the keys,
        https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/serve.py
    [3] https://github.com/SemiAnalysisAI/InferenceX, whose client is that of vLLM
    [4] https://docs.sglang.ai/developer_guide/bench_serving.html
    [5] https://docs.nvidia.com/aiperf/reference/json-export-schema; what input_config holds is at
        https://docs.nvidia.com/aiperf/tutorials/configuration/yaml-configuration-files
    [6] https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/perf_analyzer/
        genai-perf/README.html and, for the keys, genai_perf/export_data/json_exporter.py of
        https://github.com/triton-inference-server/perf_analyzer
    [7] https://blog.vllm.ai/guidellm/main/guides/metrics
    [8] https://github.com/kubernetes-sigs/inference-perf/blob/main/docs/reports.md
    [9] https://github.com/ray-project/llmperf
"""

from collections.abc import Callable, Mapping
from typing import Any

from calibration.benchmark_reports.aiperf import read_aiperf, read_aiperf_sweep
from calibration.benchmark_reports.guidellm import read_guidellm
from calibration.benchmark_reports.inference_perf import read_inference_perf
from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.llmperf import read_llmperf
from calibration.benchmark_reports.report import Report
from calibration.benchmark_reports.sglang_bench import read_sglang_bench
from calibration.benchmark_reports.trtllm_bench import read_trtllm_bench
from calibration.benchmark_reports.vllm_bench import read_vllm_bench, refuse_multi_turn
from sweep.errors import SpecError
from sweep.specs.catalog import Catalog

TOOLS: dict[str, tuple[tuple[str, ...], Callable[[Keys, Catalog], list[Report]]]] = {
    "trtllm-bench": (("engine", "world_info"), read_trtllm_bench),
    "vLLM's multi-turn benchmark": (("turns_per_conversation",), refuse_multi_turn),
    "vllm bench serve": (("model_id", "num_prompts"), read_vllm_bench),
    "SGLang bench_serving": (
        ("backend", "dataset_name", "completed"),
        read_sglang_bench,
    ),
    "AIPerf or GenAI-Perf": (("request_throughput", "request_latency"), read_aiperf),
    "an AIPerf sweep": (("aggregation_type", "per_combination_metrics"), read_aiperf_sweep),
    "GuideLLM": (("benchmarks",), read_guidellm),
    "inference-perf": (("load_summary", "successes"), read_inference_perf),
    "LLMPerf": (
        ("num_concurrent_requests", "results_num_completed_requests"),
        read_llmperf,
    ),
}
"""Keys at the top of a report that no other tool writes together, and its reader; the first tool
that fits counts."""


def tool_of(data: Mapping[str, Any]) -> str | None:
    """The tool that wrote a JSON object; `None` if its keys are of no known tool."""
    for tool, (keys, _) in TOOLS.items():
        if all(key in data for key in keys):
            return tool
    return None


def read_report(data: Mapping[str, Any], where: str, catalog: Catalog) -> list[Report]:
    """Map the runs of a report to columns of measurements.

    Args:
        data: The parsed JSON object.
        where: Its name in errors.
        catalog: Where to look for the model it names.

    Raises:
        SpecError: No tool is known to write it, or a key is missing or says what no row can hold;
            the message names the key.
    """
    tool = tool_of(data)
    if tool is None:
        known = "; ".join(f"{name} by {' and '.join(keys)}" for name, (keys, _) in TOOLS.items())
        given = ", ".join(map(str, data)) or "none"
        raise SpecError(
            f"{where}: neither a table nor a report of a known tool: keys {given:.60}; "
            f"known are {known}"
        )
    return TOOLS[tool][1](Keys(data, where, tool), catalog)
