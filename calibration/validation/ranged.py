"""Numbers of rows that a calibration records the ranges of."""

from collections.abc import Mapping

import numpy as np

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
    computed = table.requests_in_flight if held or arriving.any() else stated
    requests = np.where(inflight, np.where(held | arriving, computed, stated), np.nan)
    return {
        "batch_size": np.where(inflight, np.nan, column("batch_size")),
        "concurrency": requests,
        "load": requests / gpus,
        "isl": column("isl"),
        "osl": np.asarray([np.nan if r.scenario == "first_token" else r.osl for r in table.rows]),
        "gpus": gpus,
    }


def most_gpus(
    table: Table, known: Mapping[str, Mapping[str, float]], indices: Array
) -> dict[str, dict[str, float]]:
    """Most GPUs of a replica in the rows of each accelerator, by scenario. [count]

    Args:
        table: The rows.
        known: The same of earlier rows.
        indices: Indices of the rows that count.
    """
    found = {scenario: dict(most) for scenario, most in known.items()}
    for index in indices:
        row = table.rows[index]
        most = found.setdefault(row.scenario, {})
        most[row.hardware] = max(most.get(row.hardware, 0.0), float(row.replica_gpus))
    return {scenario: dict(sorted(most.items())) for scenario, most in sorted(found.items())}
