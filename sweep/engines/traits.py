"""What a configuration is pooled by when its efficiency is fitted or looked up."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.engines.tensorrt_llm import decoding_of
from sweep.kernel.block import Block, is_routed
from sweep.specs.hardware import HardwareSpec

AXES_OF_TRAITS = {
    "hardware": "hardware",
    "architecture": "hardware",
    "fabric": "hardware",
    "host": "hardware",
    "dtype": "precision",
    "attention": "model",
    "decoding": "model",
}
"""The axis along which a trait varies in a sweep; the others hold for all of it."""


@dataclass(frozen=True)
class Traits:
    """What a row is pooled by.

    Attributes:
        hardware: The accelerator.
        architecture: Its generation.
        fabric: `link` where GPUs have a link to one another, else `pcie`.
        host: `superchip` where the CPU sits on the accelerator's module, else `server`.
        era: Stretch of engine versions between which its kernels were rewritten.
        version: Engine and version.
        dtype: Type of the weights.
        attention: Era and query heads per KV head.
        decoding: The kind of kernel that decode attention runs in.
    """

    hardware: str
    architecture: str
    fabric: str
    host: str
    era: str
    version: str
    dtype: str
    attention: str
    decoding: str


def version_of(text: str) -> tuple[int, ...]:
    """A version as numbers to compare by; what is no number ends it."""
    parts = []
    for part in text.removeprefix("v").split("."):
        digits = "".join(character for character in part if character.isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def era_of(engine: str, version: str) -> str:
    """The stretch of versions a row belongs to.

    TensorRT-LLM ran static batches up to 0.9, in-flight batches from 0.10, whose 8-bit kernels
    for grouped queries were slow, and on PyTorch from 0.19 on. Another engine is one era.
    """
    if engine != "tensorrt-llm":
        return engine
    number = version_of(version)
    bounds = (((0, 8), "static-0.7"), ((0, 10), "static"), ((0, 11), "0.10"), ((0, 15), "cpp-0.14"))
    for below, name in bounds:
        if number < below:
            return name
    return "cpp" if number < (0, 19) else "pytorch"


def experts_of(blocks: Sequence[Block]) -> str:
    """`routed` for a mixture of experts, else `none`: errors of the two differ."""
    return "routed" if is_routed(blocks) else "none"


def traits_of(
    hardware: HardwareSpec, dtype: str, engine: str, version: str, blocks: Sequence[Block]
) -> Traits:
    """The traits of a configuration whose weights are of type `dtype`."""
    era = era_of(engine, version)
    sharing = round(max(int(b.heads) / max(int(b.kv_heads), 1) for b in blocks))
    return Traits(
        hardware=hardware.name,
        architecture=hardware.architecture or hardware.name,
        fabric="link" if hardware.fabric_reach[0] > 1 else "pcie",
        host="superchip" if "superchip" in hardware.form_factor else "server",
        era=era,
        version=f"{engine} {version}",
        dtype={"fp4": "nvfp4", "bf16": "half", "fp16": "half"}.get(dtype, dtype),
        attention=f"{era}, {sharing} to 1",
        decoding=decoding_of(era, sharing),
    )
