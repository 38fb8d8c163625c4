"""Models of one structure, which share a compiled kernel."""

from collections.abc import Sequence
from typing import Any

import jax

from sweep.grid.tiling import Region

FACTOR = "efficiency."
"""Prefix of the name of a factor, since some axes have the name of a factor."""
TABLE = "intervals."
"""Prefix of the name of a table of intervals."""


class Structure:
    """Models of one structure, and the numbers that the kernel reads of them.

    Attributes:
        models: Their indices along the `model` axis of the grid.
        operators: Indices of their operators along the `operator` axis of the grid.
    """

    def __init__(
        self, models: Sequence[int], operators: Sequence[int], numbers: dict[str, Any]
    ) -> None:
        """Store the numbers by name: that of an axis, or a prefix and that of a factor or table."""
        self.models = models
        self.operators = operators
        self._numbers = numbers
        self._sliced: dict[tuple[Any, ...], Any] = {}

    def read(self, name: str, axes: Sequence[str], tile: Region) -> Any:
        """Numbers of `name` over a tile, sliced once for all tiles; `None` if the grid has none."""
        if name not in self._numbers:
            return None
        key = (name, *(tile[axis] for axis in axes))
        if key not in self._sliced:
            where = tuple(slice(tile[axis].start, tile[axis].stop) for axis in axes)
            self._sliced[key] = jax.tree.map(lambda leaf: leaf[where], self._numbers[name])
        return self._sliced[key]

    def own(self, region: Region) -> dict[str, range] | None:
        """The region with models by their index in `models`; `None` if it has none of them."""
        inside = [i for i, model in enumerate(self.models) if model in region["model"]]
        if not inside:
            return None
        return {**region, "model": range(inside[0], inside[-1] + 1)}
