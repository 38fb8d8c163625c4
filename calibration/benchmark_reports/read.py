"""Reports of benchmarking tools, read as rows of measurements; no file is opened here.

A report is a JSON object that one tool wrote about one run. Its keys are mapped by the names that
the tool documents. What it does not state, the caller must give; the error says how.

========================  ==========================  ======================  ===================
column                    trtllm-bench [1]            vllm bench serve [2]    AIPerf [3],
                                                                              GenAI-Perf [4]
========================  ==========================  ======================  ===================
model                     engine.model                model_id                model of input_config
engine, engine_version    engine.version              backend                 not stated
hardware                  not stated                  not stated              not stated
tp · dp_attention, pp,    tp_size, pp_size, ep_size,  not stated              not stated
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

Every row is `inflight`. Lengths are means over requests, rounded. Tools write a latency of 0 where
nothing was streamed; it makes no row. Runs with speculative decoding are `suspect` and left out of
a fit, and so are times to first token of requests that were all sent at once: they include the
wait before admission, which the kernel does not price. Runs in which requests failed or were
cancelled are `doubtful`. Requests that arrive at a given rate measure that rate, however fast the
server is: they are refused, or `doubtful` if the report states a highest concurrency too.

Types that a report does not state are 16 bits wide, the default of the schema, unless the model's
name or config says that its weights are narrower; then the caller must give them. The caller must
also give dp_attention for a mixture of experts on several GPUs of TensorRT-LLM, and the
concurrency of trtllm-bench if the number of open requests shows that it had one.

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

from collections.abc import Callable, Mapping
from typing import Any

from calibration.benchmark_reports.aiperf import read_aiperf
from calibration.benchmark_reports.json_keys import Keys
from calibration.benchmark_reports.report import (
    Report,
)
from calibration.benchmark_reports.trtllm_bench import read_trtllm_bench
from calibration.benchmark_reports.vllm_bench import read_vllm_bench
from sweep.errors import SpecError
from sweep.specs.catalog import Catalog

TRTLLM, VLLM, GENAI = "trtllm-bench", "vllm bench serve", "AIPerf or GenAI-Perf"
TELLING: dict[str, tuple[str, ...]] = {
    TRTLLM: ("engine", "world_info"),
    VLLM: ("model_id", "num_prompts"),
    GENAI: ("request_throughput", "request_latency"),
}
"""Keys at the top of a report that no other tool writes together."""


def tool_of(data: Mapping[str, Any]) -> str | None:
    """The tool that wrote a JSON object; `None` if its keys are of no known tool."""
    for tool, keys in TELLING.items():
        if all(key in data for key in keys):
            return tool
    return None


def read_report(data: Mapping[str, Any], where: str, catalog: Catalog) -> Report:
    """Map a report to columns of measurements.

    Args:
        data: The parsed JSON object.
        where: Its name in errors.
        catalog: Where to look for the model it names.

    Raises:
        SpecError: No tool is known to write it, or a key is missing or says what no row can hold;
            the message names the key.
    """
    readers: dict[str | None, Callable[[Keys, Catalog], Report]] = {
        TRTLLM: read_trtllm_bench,
        VLLM: read_vllm_bench,
        GENAI: read_aiperf,
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
