"""SGLang on NVIDIA accelerators."""

from dataclasses import dataclass, field

from sweep.engines.engine import Engine, Settings

SETTINGS = {
    "prefill_first": {"default": 1.0},
    "staggered": {"default": 1.0},
    "reserved_memory_bytes": {"default": 16e9},
}
"""Habits: waiting prompts are prefilled before any sequence decodes; requests of many clients lose
step in a long run; and the server keeps memory for the activations of a chunk of prompts and for
CUDA graphs, 1.5 MB a token of the chunk by its own estimate. Of 2.5, 8, 13 and 16 GB, the last fits
rows of full caches best."""


@dataclass(frozen=True)
class SGLang(Engine):
    """SGLang, one era: the measured versions, 0.4 to 0.5, share their kernels and scheduler."""

    name: str = "sglang"
    settings: Settings = field(default_factory=lambda: SETTINGS)
    vendors: tuple[str, ...] = ("NVIDIA",)
    # Its documentation, "Install SGLang": FlashInfer, its kernels for attention, takes compute
    # capability 7.5, which is Turing, and newer.
    without: tuple[str, ...] = ("volta",)
    # Its documentation, "Server Arguments", names 0.9 where it does not compute a share.
    memory_share: tuple[str, float] = ("mem_fraction_static", 0.9)
