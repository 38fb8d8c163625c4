"""Loads near a limit: where a coarse grid of loads steps over it, the best load lies between.

The largest load within a limit on latency is found by evaluating a few loads around the point
where a straight line between its neighbours meets the limit, several times. Throughput grows with
the load, so that only deployments that could still become the best of their accelerator count.
Latency need not grow: where it is smallest, loads next to it are tried too.

Where clients keep more requests open than fit, the others wait for a slot: throughput no longer
grows, and the time to first token is as long as one cares to wait. Such loads are evaluated to find
the largest that fits, and are no answer themselves.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.decisions.recommend import LIMITED, Limits

ROUNDS = 6
"""Most rounds of loads that are tried. [count]"""
AROUND = 0.02
"""Distance of two of the loads tried from the point where the limit is expected. [1]"""
NEARLY = 1.3
"""Latency over its limit up to which a smaller one is sought between two loads. [1]"""
ALIKE = ["hardware", "precision"]
"""Columns of deployments of which only the best counts."""

Places = NDArray[np.int64]
"""Indices of rows, or whole numbers of rows."""
At = Callable[[list[int]], pd.DataFrame]
"""Rows of all deployments at given loads."""


def refined(frame: pd.DataFrame, axes: list[str], limits: Limits, at: At) -> pd.DataFrame:
    """Rows with those of further loads near limits on latency and near full memory.

    Rows at loads of which a part waits for a slot are left out.

    Args:
        frame: Rows of `Deployments.frame`, at a coarse grid of loads.
        axes: Columns that identify a deployment apart from its load.
        limits: Largest allowed figures.
        at: Computes the rows of further loads.
    """
    for _ in range(ROUNDS):
        known = set(frame["asked"].astype(int))
        wanted = sorted(set(_promising(frame, axes, limits)) - known)
        if not wanted:
            break
        frame = pd.concat([frame, at(wanted)], ignore_index=True)
    return frame[~_waits(frame) | ~frame["runs"]]


def _waits(rows: pd.DataFrame) -> pd.Series:
    """Rows whose clients keep more requests open than a server holds."""
    found: pd.Series = rows["asked"] > rows["held"]
    return found


def _promising(frame: pd.DataFrame, axes: list[str], limits: Limits) -> Iterator[int]:
    """Loads that could improve the best deployment of an accelerator and precision. [count]"""
    rows = frame[frame["runs"]]
    over, asked = excess(rows, limits).to_numpy(), rows["asked"].to_numpy(int)
    per_gpu = (rows["throughput"] / rows["gpus"]).to_numpy(float)
    held = rows["held"].to_numpy(float)
    one = _numbered(rows, axes)
    waits = _waits(rows).to_numpy()
    for alike in _places(_numbered(rows, ALIKE)):
        best = per_gpu[alike[(over[alike] <= 1) & ~waits[alike]]].max(initial=0.0)
        hopeful = alike[per_gpu[alike] > best]
        # Of more requests than fit, the load without those that wait.
        yield from np.unique(held[hopeful[waits[hopeful]]].astype(int)).tolist()
        hopeful = one[hopeful[over[hopeful] > 1]]
        for each in np.unique(hopeful):
            own = alike[one[alike] == each]
            own = own[np.argsort(asked[own], kind="stable")]
            yield from _bracketed(asked[own], over[own])


def _numbered(rows: pd.DataFrame, columns: list[str]) -> Places:
    """Number of the group of each row."""
    return np.asarray(rows.groupby(columns, sort=False).ngroup(), np.int64)


def _places(groups: Places) -> list[Places]:
    """Indices of the rows of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if order.size else []


def _bracketed(loads: Places, over: np.ndarray[Any, Any]) -> list[int]:
    """Loads around the points where one deployment meets a limit or nearly does. [count]

    Above the largest load within the limits, these are on a straight line to the next one, and
    next to each load at which the latency is smallest.

    Args:
        loads: Its loads, rising. [count]
        over: Its latencies over their limits. [1]
    """
    within = np.flatnonzero(over <= 1)
    last = int(within[-1]) if len(within) else -1
    known, latency = [0, *loads[last + 1 :]], [0.0, *over[last + 1 :]]
    if last >= 0:
        known[0], latency[0] = int(loads[last]), float(over[last])
    tried: set[int] = set()
    if len(known) > 1 and latency[1] > latency[0]:
        met = known[0] + (known[1] - known[0]) * (1 - latency[0]) / (latency[1] - latency[0])
        near = {int(met * (1 + step)) + up for step in (-AROUND, 0.0, AROUND) for up in (0, 1)}
        tried |= {load for load in near if known[0] < load < known[1]}
    for index in range(2, len(known) - 1):
        before, here, after = latency[index - 1 : index + 2]
        if here < NEARLY and here <= min(before, after):
            low, high = known[index - 1], known[index + 1]
            tried |= {(low + known[index]) // 2, (known[index] + high) // 2} - {low, known[index]}
    return sorted(tried)


def excess(frame: pd.DataFrame, limits: Limits) -> pd.Series:
    """Latencies over their limits, the larger one: above 1 where one fails. [1]"""
    over = np.zeros(len(frame))
    for axis, most in limits.latencies.items():
        column, _ = LIMITED[axis]
        over = np.fmax(over, frame[column].to_numpy(float) / most)
    return pd.Series(over, frame.index)
