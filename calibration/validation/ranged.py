"""Numbers of rows that a calibration records the ranges of."""

import dataclasses

import numpy as np

from calibration.fit.forward import predict
from calibration.fit.parameters import Array
from calibration.fit.points import arrives
from calibration.fit.table import Table


def ranged_numbers(table: Table, *, held: bool) -> dict[str, Array]:
    """Numbers of `RANGED` of every row, NaN where it has none. [count]

    Args:
        table: The rows.
        held: Whether to use the requests in flight of the kernel, or the concurrency of the row.
    """

    def column(name: str) -> Array:
        values = [getattr(row, name) for row in table.rows]
        return np.asarray([np.nan if value is None else value for value in values], float)

    inflight = np.asarray([row.scenario == "inflight" for row in table.rows])
    arriving = np.asarray([arrives(row) for row in table.rows])
    gpus = np.asarray([row.replica_gpus for row in table.rows], float)
    stated = column("concurrency")
    # Requests that arrive at a rate have no number of clients.
    computed = _held(table, held | arriving) if held or arriving.any() else stated
    requests = np.where(inflight, np.where(held | arriving, computed, stated), np.nan)
    return {
        "batch_size": np.where(inflight, np.nan, column("batch_size")),
        "concurrency": requests,
        "load": requests / gpus,
        "isl": column("isl"),
        "osl": np.asarray([np.nan if r.scenario == "first_token" else r.osl for r in table.rows]),
        "gpus": gpus,
    }


def _held(table: Table, wanted: Array) -> Array:
    """Requests in flight of the kernel, for the groups that have a wanted row. [count]"""
    found = np.full(len(table.rows), np.nan)
    groups = [group for group in table.groups if np.any(wanted[group.rows])]
    for group in groups:
        own = dataclasses.replace(
            group, variable="inflight_concurrency", rows=np.arange(len(group.rows))
        )
        found[group.rows] = predict([own])
    return np.round(found)
