"""SGLang: the memory that it takes."""

from dataclasses import dataclass

from sweep.engines.engine import Engine


@dataclass(frozen=True)
class SGLang(Engine):
    """SGLang, whose documentation, "Server Arguments", names 0.9 where it does not compute one."""

    name: str = "sglang"
    memory_share: tuple[str, float] = ("mem_fraction_static", 0.9)
