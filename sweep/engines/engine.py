"""Interface of an inference engine, with neutral defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.specs.dtypes import COMPUTED_AS, DTYPE_BYTES, PEAK_DTYPES
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import parse
from sweep.specs.precision import LinearSpec, PrecisionSpec

BLOCK_FORMAT = {"fp4": "nvfp4"}
"""Format meant by a 4-bit float in a table: without scales nobody publishes one."""
INT4_SCALES: dict[str, Any] = {"weight_group_size": 128, "weight_scale_bytes": 2.0}
"""Scales of 4-bit integers as AWQ and GPTQ checkpoints store them."""

UNSTATED_VENDOR = "unknown"
"""Maker of an accelerator whose specification names none."""


Settings = Mapping[str, Mapping[str, float]]
"""Values of factors by era; `default` is for every other era."""


@dataclass(frozen=True)
class Types:
    """Storage types that a measurement states; `None` for what it leaves open.

    Attributes:
        weight: Of the weights.
        activation: That linear layers compute in.
        kv: Of the KV cache.
    """

    weight: str
    activation: str | None = None
    kv: str | None = None


@dataclass(frozen=True)
class Engine:
    """An inference engine; a subclass overrides what is particular to its engine.

    Attributes:
        name: Name in measurements and calibrations.
        settings: Factors that are habits of the engine and are not fitted: value by era, with
            `default` for all other eras.
        memory_share: Axis of `MEMORY_SHARES` by which the engine sizes its KV cache, and the
            engine's default for it.
        vendors: Makers of the accelerators that it runs on; empty where any may do.
        without: Generations of chips of these makers that its documentation does not list.
        precisions: Recipes that models without one of their own are normally run in.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    memory_share: tuple[str, float] = ("kv_cache_fraction", 0.9)
    vendors: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp16", "fp8-kv16")

    def runs_on(self, vendor: str, architecture: str = "") -> bool:
        """Whether it runs on a maker's generation of chips; a maker that is not stated passes."""
        known = not self.vendors or vendor in (*self.vendors, UNSTATED_VENDOR)
        return known and architecture not in self.without

    def covers(self, other: "Engine") -> bool:
        """Whether it runs on every accelerator that another engine runs on."""
        return set(other.vendors) <= set(self.vendors) and set(self.without) <= set(other.without)

    def era(self, version: str) -> str:
        """Name of the range of versions, around `version`, that share their kernels."""
        del version
        return self.name

    def decoding(self, era: str, sharing: int) -> str:
        """Kind of kernel of decode attention when `sharing` query heads share a KV head."""
        del era
        return "single heads" if sharing == 1 else "shared heads together"

    def attention_groups(self, version: str, stage_gpus: int, *, routed: bool) -> int:
        """Attention groups of a published row that does not state them. [count]

        Args:
            version: Version of the engine.
            stage_gpus: GPUs of one pipeline stage. [count]
            routed: Whether the model is a mixture of experts.
        """
        del version, stage_gpus, routed
        return 1

    def as_run(self, spec: ModelSpec) -> ModelSpec:
        """The model as the engine runs it."""
        return spec

    def kv_dtype(self, activation: str, hidden: str) -> str:
        """Type of the KV cache of a run that does not state one."""
        del activation
        return hidden

    def attention(self, types: Types, *, latent: bool) -> LinearSpec | None:
        """Projections around attention where their types differ from the other layers'.

        Args:
            types: Types that the run states.
            latent: Whether the model caches latents.
        """
        del types, latent
        return None

    def recipe(self, types: Types, *, latent: bool = False) -> PrecisionSpec:
        """The precision recipe of a run that states `types`.

        The head and the hidden state keep at least 16 bits. Weights in whose type nothing computes,
        such as int4, are multiplied in 16 bits if the run states no type for that.

        Args:
            types: Types that the run states.
            latent: Whether the model caches latents.

        Raises:
            SpecError: Nothing computes in a type that is stated.
        """
        weight = BLOCK_FORMAT.get(types.weight, types.weight)
        usual = weight if COMPUTED_AS.get(weight, weight) in PEAK_DTYPES else "half"
        activation = BLOCK_FORMAT.get(types.activation or "", types.activation) or usual
        hidden = activation if DTYPE_BYTES[activation] >= 2 else "half"
        fields: dict[str, Any] = {
            "name": f"{weight}-{activation}-{types.kv or 'default'}",
            "weight_dtype": weight,
            "activation_dtype": activation,
            "hidden_dtype": hidden,
            "kv_dtype": types.kv or self.kv_dtype(activation, hidden),
            "head_dtype": hidden,
            "attention": self.attention(Types(weight, activation, types.kv), latent=latent),
            **(INT4_SCALES if weight == "int4" else {}),
        }
        return parse(PrecisionSpec, fields, f"types {fields['name']}")

    def reported_apart(self, era: str) -> str | None:
        """Heading under which an accuracy report lists the runs of an era, if apart from others."""
        del era
        return None
