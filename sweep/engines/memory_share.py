"""The share of the memory that an engine gives its KV cache."""

from collections.abc import Mapping
from typing import Any

from sweep.engines.calibration_file import Calibration
from sweep.engines.known import engine_of
from sweep.schema.axes import MEMORY_SHARES

SIZES_ITS_CACHE = {"reserved_memory_bytes", "total_memory_share"}
"""Factors by which a calibration says how its engine sizes the KV cache."""


def memory_share(
    calibration: Calibration | None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Axis by which the calibration's engine sizes its KV cache, if not by the server's default.

    A calibration that knows how its engine sizes the cache was fitted with that instead.

    Args:
        calibration: A calibration; ideal rooflines if not given.
        given: Axes that are asked for; none is returned where they have a share already.
    """
    asked = any((given or {}).get(axis) is not None for axis in MEMORY_SHARES)
    if asked or calibration is None or SIZES_ITS_CACHE & set(calibration.settings):
        return {}
    axis, share = engine_of(calibration.engine).memory_share
    return {} if axis == "kv_cache_fraction" else {axis: [share]}
