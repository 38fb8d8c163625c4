"""Memory that an engine keeps for itself whatever the accelerator, where it is a large part."""

from collections.abc import Mapping

import pandas as pd

from sweep.decisions.deployments import STATIC, Deployments
from sweep.engines.calibration_file import Calibration, setting
from sweep.engines.known import engine_of
from sweep.schema.axes import MEMORY_SHARES

LARGE = 0.2
"""Share of the memory above which a fixed reserve is named beside an answer. [1]"""
REPLACING = tuple(axis for axis in MEMORY_SHARES if axis != "kv_cache_fraction")
"""Shares of the memory that take the place of a fixed reserve."""


def fixed_reserve(calibration: Calibration | None) -> float:
    """Memory of each GPU that the calibration's engine keeps for itself by default. [byte]"""
    if calibration is None:
        return 0.0
    return setting(calibration.settings, "reserved_memory_bytes", "default")


def reserves_in_words(deployments: Deployments, frame: pd.DataFrame) -> str:
    """Sentence on memory that engines keep for themselves, a large part of it; else nothing.

    Args:
        deployments: Those on offer.
        frame: Rows of them.
    """
    if deployments.scheme is STATIC:
        return ""
    shares = [axis for axis in REPLACING if axis in frame]
    by_habit = frame[~(frame[shares].fillna(0.0) > 0).any(axis=1)]
    memory: dict[str, dict[str, float]] = {}
    for row in by_habit.to_dict("records"):
        machine = deployments.specs.hardware.get(row["hardware"])
        name = deployments.calibration_of({str(key): value for key, value in row.items()})
        if machine is not None and name in deployments.reserves:
            size = float(machine.usable_memory_bytes or machine.memory_bytes)
            memory.setdefault(name, {})[machine.name] = size
    said = [reserve_in_words(*deployments.reserves[name], own) for name, own in memory.items()]
    return "; ".join(filter(None, said))


def reserve_in_words(engine: str, kept: float, memory: Mapping[str, float]) -> str:
    """Sentence on memory that one engine keeps, a large part of some accelerators; else nothing.

    Args:
        engine: Name of the engine.
        kept: Memory that it keeps on each. [byte]
        memory: Memory of each accelerator by name. [byte]
    """
    small = {name: size for name, size in memory.items() if kept > LARGE * size}
    if not small:
        return ""
    each = " and ".join(f"the {size / 1e9:.3g} GB of {name}" for name, size in small.items())
    axis, _ = engine_of(engine).memory_share
    instead = f"; --{axis.replace('_', '-')} gives it a share instead" if axis in REPLACING else ""
    return f"{engine} keeps {kept / 1e9:.3g} of {each} for itself{instead}"
