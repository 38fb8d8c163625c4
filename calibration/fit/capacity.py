"""Rows whose clients are more than a server holds."""

from collections.abc import Sequence

import numpy as np

from calibration.fit.forward import predict
from calibration.fit.parameters import Array
from calibration.fit.points import observe
from calibration.measurements.table import Measurement
from sweep.specs.catalog import Catalog


def doubt_overfull(rows: Sequence[Measurement], catalog: Catalog) -> list[Measurement]:
    """The rows, `doubtful` where clients keep more requests open than fit in memory.

    Memory is that of an engine that keeps none for itself: a server holds fewer. Requests beyond
    wait for others to end, whose share in a run depends on its length and on the clients. A row
    that states how many sequences its server takes states who waits, and is not in doubt for that.

    Raises:
        SpecError: A row names what the catalog lacks.
    """
    judged = [
        index
        for index, row in enumerate(rows)
        if row.scenario == "inflight" and row.concurrency is not None and row.quality == "ok"
    ]
    if not judged:
        return list(rows)
    unlimited = {"max_batch_size": None}
    held = capacities([rows[index].model_copy(update=unlimited) for index in judged], catalog)
    found = list(rows)
    for index, most in zip(judged, held, strict=True):
        clients = rows[index].concurrency or 0
        if 1 <= most < clients:
            note = f"{clients} clients keep requests open, and {most:,.0f} fit in memory at most"
            own = rows[index].note
            found[index] = rows[index].model_copy(
                update={"quality": "doubtful", "note": f"{own}; {note}" if own else note}
            )
    return found


def capacities(rows: Sequence[Measurement], catalog: Catalog) -> Array:
    """Most requests that one replica holds at once, without memory that engines keep. [count]"""
    groups = [g.asked("max_concurrency") for g in observe(rows, catalog)]
    return np.floor(predict(groups))
