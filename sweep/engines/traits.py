"""Traits by which factors are pooled when they are fitted or looked up."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.engines.known import engine_of
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
"""Axis along which a trait varies in a sweep; the other traits are the same for all its cells."""


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
        attention: Era and query heads per KV head.
        decoding: The kind of kernel that decode attention runs in.
    """

    hardware: str
    architecture: str
    fabric: str
    host: str
    engine: str
    era: str
    version: str
    dtype: str
    attention: str
    decoding: str


def experts_of(blocks: Sequence[Block]) -> str:
    """`routed` for a mixture of experts, else `none`: errors of the two differ."""
    return "routed" if is_routed(blocks) else "none"


def traits_of(
    hardware: HardwareSpec, dtype: str, engine: str, version: str, blocks: Sequence[Block]
) -> Traits:
    """Traits of a configuration.

    Args:
        hardware: The accelerator.
        dtype: Type of the weights.
        engine: Name of the inference engine.
        version: Its version.
        blocks: Blocks of the model.
    """
    particulars = engine_of(engine)
    era = particulars.era(version)
    sharing = round(max(int(b.heads) / max(int(b.kv_heads), 1) for b in blocks))
    return Traits(
        hardware=hardware.name,
        architecture=hardware.architecture or hardware.name,
        fabric="link" if hardware.fabric_reach[0] > 1 else "pcie",
        host="superchip" if "superchip" in hardware.form_factor else "server",
        engine=engine,
        era=era,
        version=f"{engine} {version}",
        dtype={"fp4": "nvfp4", "bf16": "half", "fp16": "half"}.get(dtype, dtype),
        attention=f"{era}, {sharing} to 1",
        decoding=particulars.decoding(era, sharing),
    )
