"""A load split over replicas: how many replicas to consider, and what each then holds.

Clients keep a total of requests open. They are spread as evenly as whole requests allow, so that
the replicas of a deployment hold one request more or less than one another.
"""

from collections.abc import Collection
from math import isqrt

import pandas as pd

EVERY = 100
"""All numbers of replicas and of requests of one replica are considered up to this. [count]"""
MIXED = ("throughput", "lower", "upper", "drawn", "drawn_lower", "drawn_upper", "prompts")
"""Columns that are means over the replicas."""
WORST = ("ttft", "tpot", "ttft_p99", "tpot_p99")
"""Columns of the replica with the most requests, or of the other where that is larger."""


def steps(most: int, every: int) -> list[int]:
    """All numbers up to `every`, then eight to each doubling, up to `most`. [count]"""
    further = (round(every * 2 ** (n / 8)) for n in range(1, 8 * most.bit_length()))
    return [*range(1, min(every, most) + 1), *(each for each in further if each <= most)]


def replica_counts(total: int, available: Collection[int] | None = None) -> list[int]:
    """Numbers of replicas to consider for a load: the fewest for each load of the busiest replica.

    More replicas then share the same limits. Above a total of `EVERY`², not all are considered.

    Args:
        total: Requests that all replicas hold together. [count]
        available: Loads of a replica that are known; all if not given. [count]
    """
    middle = isqrt(total) + 1
    few = [*steps(middle, EVERY), middle]
    loads = {*few, *(-(-total // n) for n in few)} if available is None else {*available}
    counts = {-(-total // load) for load in loads if 0 < load <= total}
    return sorted(n for n in counts if available is None or {*ends(total, n)} <= loads)


def ends(total: int, count: int) -> tuple[int, int]:
    """Requests of the least busy and of the busiest of so many replicas. [count]"""
    return total // count, -(-total // count)


def loads_of(total: int, counts: Collection[int]) -> list[int]:
    """Loads of single replicas that so many replicas need to be known. [count]"""
    return sorted({load for count in counts for load in ends(total, count)})


def split(frame: pd.DataFrame, axes: list[str], total: int, given: int | None) -> pd.DataFrame:
    """Deployments with replicas that hold a load together, one row for each number of replicas.

    Args:
        frame: Rows of `Deployments.frame`, of one replica each.
        axes: Columns that identify a deployment apart from its load.
        total: Requests that all replicas hold together. [count]
        given: Number of replicas; chosen if not given. [count]

    Returns:
        The rows with `replicas`; `asked` and `held` are of the busiest replica.
    """
    tables = []
    copied = frame["dp"] if "dp" in frame else pd.Series(1, frame.index)
    for copies, rows in frame.groupby(copied, sort=False):
        known = set(rows["asked"].astype(int))
        counts = [given] if given else _deployments(total, int(copies), known)
        for count in counts:
            tables.append(_shared(rows, axes, total, count, int(copies)))
    whole = pd.concat(tables) if tables else frame.head(0).assign(replicas=1.0)
    return whole.sort_index(kind="stable").reset_index(drop=True)


def _deployments(total: int, copies: int, known: set[int]) -> list[int]:
    """Numbers of deployments of `copies` replicas each. [count]"""
    counts = replica_counts(total, known)
    return [count // copies for count in counts if count % copies == 0]


def _shared(
    rows: pd.DataFrame, axes: list[str], total: int, count: int, copies: int
) -> pd.DataFrame:
    """Rows of the busiest replica, with means over `count` deployments of `copies` replicas."""
    low, high = ends(total, count * copies)
    busy = rows[rows["asked"] == high]
    if low < high:
        others = rows[rows["asked"] == low].set_index(axes)
        others = others.loc[busy.set_index(axes).index].set_axis(busy.index)
        share = (total - low * count * copies) / (count * copies)
        mixed = {
            name: share * busy[name] + (1 - share) * others[name] for name in MIXED if name in busy
        }
        worst = {
            name: busy[name].where(busy[name] >= others[name], others[name])
            for name in WORST
            if name in busy
        }
        either = {
            "runs": busy["runs"] & others["runs"],
            "beyond": busy["beyond"] | others["beyond"],
        }
        busy = busy.assign(**mixed, **worst, **either)
    return busy.assign(replicas=float(count))
