"""vLLM on NVIDIA and on AMD accelerators: eras of its kernels and scheduler."""

from dataclasses import dataclass, field

from sweep.engines.engine import Engine, Settings
from sweep.engines.versions import UNSTATED_VERSION, version_of

SETTINGS = {
    "total_memory_share": {"default": 0.9},
    "library_memory_bytes": {"default": 7e8},
    "exchange_memory_bytes": {"default": 3.6e9},
    "logit_copies": {"default": 1.25},
    "reserved_output": {"default": 0.5},
    "staggered": {"default": 1.0},
    "prefill_first": {
        "default": 0.0,
        "vllm, first core": 1.0,
        "vllm-rocm, first core": 1.0,
    },
}
"""Habits: a tenth of the memory is left alone by default, as its documentation says; pages of the
cache are taken as tokens come (Kwon et al., "PagedAttention", SOSP 2023), so that requests at all
stages fill it to the average; requests of clients start one at a time; and the first core prefills
waiting prompts before any sequence decodes.

It reports that 0.25 GiB of an H100 are used outside of its allocator, 2.1 GiB of each of two and
2.2 GiB of four (llm-d-planner, pull request 205, vLLM 0.19), and 0.5 GiB less than the driver. It
samples 1,024 sequences by default with three copies of their logits; the default here is 2,048."""


@dataclass(frozen=True)
class VLLM(Engine):
    """vLLM on NVIDIA accelerators; its share of memory is that of "Engine Arguments".

    Its documentation, "GPU", asks for compute capability 7.0, which is Volta, or newer: every
    generation of the catalog.

    Attributes:
        second_core: First version whose default is the second core, which mixes prefill chunks with
            decode and prepares the next pass on another thread.
    """

    name: str = "vllm"
    settings: Settings = field(default_factory=lambda: SETTINGS)
    vendors: tuple[str, ...] = ("NVIDIA",)
    memory_share: tuple[str, float] = ("gpu_memory_utilization", 0.9)
    second_core: tuple[int, ...] = (0, 8)

    def era(self, version: str) -> str:
        """Name of the range of versions, around `version`, that share their core.

        Rows without a version are a range of their own; a malformed version counts as the latest.
        """
        if version == UNSTATED_VERSION:
            return f"{self.name}, unstated"
        number = version_of(version)
        return f"{self.name}, first core" if () < number < self.second_core else self.name


@dataclass(frozen=True)
class VLLMOnROCm(VLLM):
    """vLLM on AMD accelerators, whose kernels are not those on NVIDIA's.

    Its documentation, "GPU", lists MI200, MI300 and MI350: CDNA 2 to 4, all of the catalog. Its
    pull request 19440 makes the second core the default on AMD accelerators too; AMD's images have
    it from 0.9.1 on.
    """

    name: str = "vllm-rocm"
    vendors: tuple[str, ...] = ("AMD",)
    second_core: tuple[int, ...] = (0, 9, 1)
