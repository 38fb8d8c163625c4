"""Engines known by name."""

from collections.abc import Mapping

from sweep.engines.engine import Engine
from sweep.engines.sglang import SGLang
from sweep.engines.tensorrt_llm import TensorRTLLM
from sweep.engines.vllm import VLLM, VLLMOnROCm

ENGINES: Mapping[str, Engine] = {
    engine.name: engine for engine in (TensorRTLLM(), VLLM(), VLLMOnROCm(), SGLang())
}
"""Engines with particulars; any other name means an engine without."""


def engine_of(name: str) -> Engine:
    """The engine of that name; one without particulars where none is known."""
    return ENGINES.get(name) or Engine(name)
