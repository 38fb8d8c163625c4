"""KV caches that engines report when they start, on H100 with 80 GB, against predicted ones.

References:
    [1] NVIDIA, aiconfigurator, "Integration tests for KV cache oversubscription detection":
        sequences that TensorRT-LLM held at once, of up to 1,000 tokens more than they have, with
        `max_num_tokens` of twice the input, 0.8 of the free memory and a cache of 16 bits.
    [2] llm-d-planner, "Capacity Planner Accuracy Report", pull request 205: memory that vLLM 0.19
        reports, with 0.95 of 79.19 GiB and 8,192 tokens an iteration. Where it states no cache, it
        is what the stated weights, activations and other memory leave.
"""

from dataclasses import replace

import pytest
from factories import shipped

from sweep.engines.known import engine_of
from sweep.evaluation.single_cell import cell
from sweep.kernel import memory
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.models.read import read_model

GIB = 2.0**30
LENGTHS = ((2048, 2048), (2048, 4096), (4096, 2048), (4096, 4096))
"""Input and output tokens of a sequence."""
HELD = {
    ("qwen3-32b", 1): (27, 19, 19, 14),
    ("qwen3-32b", 2): (75, 53, 53, 41),
    ("qwen3-32b", 4): (169, 121, 120, 93),
    ("llama-3.1-8b", 1): (78, 56, 55, 43),
    ("llama-3.1-8b", 2): (173, 124, 123, 96),
    ("llama-3.1-8b", 4): (363, 259, 258, 201),
}
"""Sequences that fit [1], by model and tensor parallelism, of `LENGTHS`. [count]"""
RECIPES = {"qwen3-32b": "fp8-kv16", "llama-3.1-70b": "fp8-kv16"}
"""Precision of models that are not in 16 bits."""
CACHES = {
    ("llama-3.1-8b", 1): 58.11,
    ("llama-3.1-8b", 2): 63.76,
    ("llama-3.1-8b", 4): 67.44,
    ("qwen2.5-7b", 1): 58.53,
    ("qwen2.5-7b", 2): 63.84,
    ("qwen2.5-7b", 4): 67.34,
    ("qwen3-8b", 1): 57.50,
    ("llama-3.1-70b", 2): 37.29,
    ("llama-3.1-70b", 4): 54.10,
    ("mixtral-8x7b", 2): 28.45,
    ("phi-4", 1): 46.15,
    ("gemma-2-9b", 1): 54.1,
    ("gemma-2-27b", 1): 20.59,
    ("codellama-7b", 1): 61.66,
    ("deepseek-v2-lite", 1): 43.6,
}
"""KV cache of each GPU under vLLM [2], by model and tensor parallelism; the 70B is Llama 3.3's, in
fp8. [GiB]"""


def served(engine: str, era: str, model: str, **numbers: float) -> Point:
    """A server on H100 with the settings of an engine's era."""
    recipe = shipped().precision(RECIPES.get(model, "bf16"))
    blocks = read_model(shipped().model(model))
    where = cell(blocks, shipped().hardware("h100-sxm-80gb"), recipe, numbers)
    settings = engine_of(engine).settings.items()
    habits = {name: by_era.get(era, by_era["default"]) for name, by_era in settings}
    return replace(where, factors=Factors(**habits))


@pytest.mark.parametrize(("model", "tp"), HELD)
def test_tensorrt_llm_holds_as_many_sequences_as_measured(model: str, tp: int) -> None:
    for (isl, osl), held in zip(LENGTHS, HELD[model, tp], strict=True):
        numbers = {"tp": tp, "isl": isl, "osl": osl + 1000, "max_num_tokens": 2 * isl}
        where = served("tensorrt-llm", "pytorch", model, kv_cache_fraction=0.8, **numbers)
        assert float(memory.max_concurrency(where)) == pytest.approx(held, abs=1)


@pytest.mark.parametrize(("model", "tp"), CACHES)
def test_vllm_reports_the_cache_that_is_predicted(model: str, tp: int) -> None:
    lengths = {"isl": 1000, "osl": 1000, "max_num_tokens": 8192}
    where = served("vllm", "vllm", model, tp=tp, gpu_memory_utilization=0.95, **lengths)
    found = float(memory.cache_memory(where)) / GIB
    # The memory of experts' kernels is not counted.
    assert found == pytest.approx(CACHES[model, tp], abs=0.9)
