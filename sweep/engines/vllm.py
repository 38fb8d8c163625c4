"""vLLM: the memory that it takes."""

from dataclasses import dataclass

from sweep.engines.engine import Engine


@dataclass(frozen=True)
class VLLM(Engine):
    """vLLM, whose default is in its documentation, "Engine Arguments"."""

    name: str = "vllm"
    memory_share: tuple[str, float] = ("gpu_memory_utilization", 0.9)
