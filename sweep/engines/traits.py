"""Traits by which factors are pooled when they are fitted or looked up."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.engines.known import engine_of
from sweep.kernel.block import Block, is_routed
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec

AXES_OF_TRAITS = {
    "hardware": "hardware",
    "architecture": "hardware",
    "fabric": "hardware",
    "host": "hardware",
    "dtype": "precision",
    "expert_kernel": "precision",
    "attention": "model",
    "decoding": "model",
    "tokenizer": "model",
}
"""Axis along which a trait varies in a sweep; the other traits are the same for all its cells."""

SAME_DTYPES = {"fp4": "nvfp4", "bf16": "half", "fp16": "half"}
"""Types that are pooled under another's name."""


@dataclass(frozen=True)
class Traits:
    """Traits of a row or a cell.

    Attributes:
        hardware: The accelerator.
        architecture: Its generation.
        fabric: `link` where GPUs have a link to one another, else `pcie`.
        host: `superchip` where the CPU sits on the accelerator's module, else `server`.
        engine: Name of the inference engine.
        era: Range of its versions that share their kernels.
        version: Engine and version.
        dtype: Type of the weights.
        expert_kernel: Era and type of the weights of routed experts.
        attention: Era and query heads per KV head.
        decoding: The kind of kernel that decode attention runs in.
        tokenizer: Engine and size of the vocabulary, which models with one tokeniser share.
    """

    hardware: str
    architecture: str
    fabric: str
    host: str
    engine: str
    era: str
    version: str
    dtype: str
    expert_kernel: str
    attention: str
    decoding: str
    tokenizer: str


def experts_of(blocks: Sequence[Block]) -> str:
    """`routed` for a mixture of experts, else `none`: errors of the two differ."""
    return "routed" if is_routed(blocks) else "none"


def traits_of(
    hardware: HardwareSpec,
    precision: PrecisionSpec,
    engine: str,
    version: str,
    blocks: Sequence[Block],
) -> Traits:
    """Traits of a configuration.

    Args:
        hardware: The accelerator.
        precision: Types of the weights.
        engine: Name of the inference engine.
        version: Its version.
        blocks: Blocks of the model.
    """
    particulars = engine_of(engine)
    era, sharing = particulars.era(version), query_heads_per_kv_head(blocks)
    return Traits(
        hardware=hardware.name,
        architecture=hardware.architecture or hardware.name,
        fabric="link" if hardware.fabric_reach[0] > 1 else "pcie",
        host="superchip" if "superchip" in hardware.form_factor else "server",
        engine=engine,
        era=era,
        version=f"{engine} {version}",
        dtype=pooled_dtype(precision.weight_dtype),
        expert_kernel=f"{era}, {pooled_dtype(precision.part('experts').weight_dtype)}",
        attention=f"{era}, {sharing} to 1",
        decoding=particulars.decoding(era, sharing),
        tokenizer=f"{engine}, vocabulary of {vocabulary(blocks)}",
    )


def traits_of_levels(
    models: Sequence[Sequence[Block]],
    hardware: Sequence[HardwareSpec],
    precision: Sequence[PrecisionSpec],
    engine: str,
    version: str,
) -> dict[str, list[Traits]]:
    """Traits of each level of each axis, by axis; only traits that vary along the axis count."""
    machine, recipe, blocks = hardware[0], precision[0], models[0]

    def traits(machine: HardwareSpec, recipe: PrecisionSpec, blocks: Sequence[Block]) -> Traits:
        return traits_of(machine, recipe, engine, version, blocks)

    return {
        "model": [traits(machine, recipe, each) for each in models],
        "hardware": [traits(each, recipe, blocks) for each in hardware],
        "precision": [traits(machine, each, blocks) for each in precision],
    }


def pooled_dtype(dtype: str) -> str:
    """The type under whose name weights of type `dtype` are pooled."""
    return SAME_DTYPES.get(dtype, dtype)


def query_heads_per_kv_head(blocks: Sequence[Block]) -> int:
    """The most query heads that share a KV head in any block. [count]"""
    return round(max(int(block.heads) / max(int(block.kv_heads), 1) for block in blocks))


def vocabulary(blocks: Sequence[Block]) -> int:
    """Rows of the largest embedding or head of a model. [count]"""
    return round(max((float(block.vocab_size) for block in blocks), default=0))
