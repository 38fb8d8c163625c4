"""Buffers in which tiles are computed, on every device of the machine."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from sweep.evaluation.structures import Structure
from sweep.grid import thresholds
from sweep.grid.tiling import Region


class Computed(NamedTuple):
    """A tile of a workspace, whose buffers the next one of the structure takes over.

    Attributes:
        structure: The models that it is of.
        own: The cells that it is for, models by their index in the structure.
        tile: These cells and neighbours, up to the shape of all tiles.
        results: Variables over the cells of `tile`.
    """

    structure: Structure
    own: Region
    tile: Region
    results: dict[str, jax.Array]


class Workspace:
    """Buffers on one device, and the tile that was computed in them last."""

    def __init__(self, device: jax.Device) -> None:
        """Start without buffers."""
        self.device = device
        self.computed: Computed | None = None

    def holds(self, structure: Structure, own: Region) -> bool:
        """Whether the tile is the last one and need not be computed again."""
        last = self.computed
        return last is not None and last.structure is structure and last.own == own

    def read(self) -> Computed:
        """The last tile, which may still be in the making."""
        assert self.computed is not None
        return self.computed


PER_DEVICE = 2
"""Workspaces on each device: one tile is computed while another is copied. [count]"""


def workspaces(devices: Sequence[jax.Device]) -> list[Workspace]:
    """Workspaces that take tiles in turn."""
    return [Workspace(device) for _ in range(PER_DEVICE) for device in devices]


def tile_limit(devices: Sequence[jax.Device]) -> int:
    """Largest output of one call of the kernel on such devices. [byte]"""
    if all(device.platform == "cpu" for device in devices):
        return thresholds.TILE_BYTES
    stated = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    shares = [limit // thresholds.SHARE_OF_DEVICE for limit in stated if limit]
    return int(min([thresholds.SHARD_BYTES, *shares]))
