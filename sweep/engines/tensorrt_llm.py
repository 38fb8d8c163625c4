"""TensorRT-LLM: eras of its kernels, and the habits of its published figures."""

from dataclasses import dataclass, field

from sweep.engines.engine import Engine, Settings, Types
from sweep.engines.versions import version_of
from sweep.specs.dtypes import DTYPE_BYTES
from sweep.specs.model import ModelSpec
from sweep.specs.precision import LinearSpec

ERAS = (
    ((0, 8), "static-0.7"),
    ((0, 10), "static"),
    ((0, 11), "0.10"),
    ((0, 15), "cpp-0.14"),
    ((0, 19), "cpp"),
)
"""First version after each era, and the era's name; `LAST_ERA` follows.

Runs were static batches up to 0.9 and in-flight batches from 0.10 on, whose 8-bit kernels for
grouped queries were slow; 0.19 moved to PyTorch.
"""
LAST_ERA = "pytorch"
ATTENTION_GROUPS_FROM = (1, 0)
"""Version from which mixtures of experts are published with attention data-parallel."""
SETTINGS = {
    "dispatch_everywhere": {"default": 1.0},
    "kept_context": {"default": 1.0},
    "staggered": {"default": 1.0},
    "reserved_memory_bytes": {"default": 2.5e9},
    "exchange_memory_bytes": {"default": 2.55e9},
    "logit_copies": {"default": 1.0, "0.10": 5.0, "cpp-0.14": 5.0},
}
"""Habits that throughputs alone cannot determine: tokens are gathered to be dispatched, the cache
keeps tokens behind a window, requests of clients start one at a time, and samplers kept several
copies of the logits until 0.15. The values are those under which rows of full caches fit best, but
for the memory of exchanges: it is the middle of what the numbers of sequences allow that servers of
two and four H100 held at once (NVIDIA, aiconfigurator, pull request 652), 2.2 to 2.9 GB for all of
them within one."""
FULL_ATTENTION = ("mistral", "mixtral")
"""Families whose one window for all layers is not used unless a run asks for it."""


@dataclass(frozen=True)
class TensorRTLLM(Engine):
    """NVIDIA TensorRT-LLM."""

    name: str = "tensorrt-llm"
    settings: Settings = field(default_factory=lambda: SETTINGS)
    vendors: tuple[str, ...] = ("NVIDIA",)
    # Its documentation, "Support Matrix", lists Ampere, Ada Lovelace, Hopper and Blackwell.
    without: tuple[str, ...] = ("volta", "turing")
    # Its checkpoints in 8 bits keep the cache in 8 bits too.
    precisions: tuple[str, ...] = ("fp16", "fp8")

    def era(self, version: str) -> str:
        """Name of the range of versions, around `version`, that share their kernels.

        A version that is no number counts as the latest.
        """
        number = version_of(version)
        if not number:
            return LAST_ERA
        return next((name for end, name in ERAS if number < end), LAST_ERA)

    def decoding(self, era: str, sharing: int) -> str:
        """Kind of kernel of decode attention when `sharing` query heads share a KV head.

        Kernels that compute shared heads together, on matrix units, came with 0.8, at first for
        eight heads alone. Before, and for other numbers up to 0.10, each query head read the cache
        by itself and computed on the vector units.
        """
        one_by_one = era == "static-0.7" or (era in ("static", "0.10") and sharing != 8)
        if sharing > 1 and one_by_one:
            return "shared heads one by one"
        return super().decoding(era, sharing)

    def attention_groups(self, version: str, stage_gpus: int, *, routed: bool) -> int:
        """Attention groups of a published row that does not state them. [count]

        From 1.0 on, mixtures of experts are measured with one group per GPU, by the options that
        the published figures name.
        """
        return stage_gpus if routed and version_of(version) >= ATTENTION_GROUPS_FROM else 1

    def as_run(self, spec: ModelSpec) -> ModelSpec:
        """The model as the engine runs it: attending to the whole context behind one window."""
        if spec.family not in FULL_ATTENTION:
            return spec
        return spec.model_copy(update={"config": {**spec.config, "sliding_window": None}})

    def kv_dtype(self, activation: str, hidden: str) -> str:
        """Type of the KV cache of a run that does not state one: 8 bits beside narrow inputs."""
        return "fp8" if DTYPE_BYTES[activation] < 2 else hidden

    def attention(self, types: Types, *, latent: bool) -> LinearSpec | None:
        """16 bits around attention to latents in 4-bit checkpoints that compute in narrow types.

        NVIDIA's checkpoints of DeepSeek and Kimi list these projections as not quantised.
        """
        narrow = DTYPE_BYTES[types.activation or types.weight] < 2
        if latent and DTYPE_BYTES[types.weight] < 1 and narrow:
            return LinearSpec(weight_dtype="half", activation_dtype="half")
        return None

    def reported_apart(self, era: str) -> str | None:
        """Version 0.10, whose kernels were all rewritten at once."""
        return "version 0.10" if era == "0.10" else None
