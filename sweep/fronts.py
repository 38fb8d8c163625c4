"""Which of many points no other point beats: Pareto fronts of plain arrays, lower is better."""

import numpy as np
from numpy.typing import NDArray

from sweep.space import Places

Costs = NDArray[np.floating]
"""One row per objective, one column per point; lower is better, none is NaN."""

MANY = 4096
"""Points from which it pays to thin them out by a sample before they are sorted."""
STRONG = 48
"""Points of the sample's front that the rest is held against."""


def front(costs: Costs, group: Places, position: Places) -> Places:
    """Indices of the points on the front of their group, by group and then by objective.

    A point is on the front if none of its group is at least as good in every objective and
    better in one. Of equal points the one with the lowest position stays.

    Args:
        costs: Shape (objectives, points).
        group: Shape (points,).
        position: Shape (points,).
    """
    order = np.lexsort((position, *costs[::-1], group))
    if not order.size:
        return np.asarray(order)
    costs, group = costs[:, order], group[order]
    if len(costs) == 2:
        return np.asarray(order[_steps(costs[1], group)])
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    spans = _spans(starts, group.size)
    return np.asarray(order[np.concatenate([_survivors(*ends, costs) for ends in spans])])


def _spans(starts: Places, size: int) -> list[tuple[int, int]]:
    return list(zip(starts.tolist(), [*starts[1:].tolist(), size], strict=True))


def _steps(second: NDArray[np.floating], group: Places) -> NDArray[np.bool_]:
    """Where points sorted by group and first objective get lower in the second than all before."""
    ranks = np.unique(second, return_inverse=True)[1]
    # Every rank of a later group is below those of earlier ones, so that the minimum starts anew.
    _, groups = np.unique(group, return_inverse=True)
    height = ranks - groups * (ranks.max() + 1)
    lowest = np.minimum.accumulate(height)
    return np.concatenate([[True], height[1:] < lowest[:-1]])


def _survivors(start: int, end: int, costs: Costs) -> Places:
    """Points of one group on its front; sorted, the first of those left is always on it."""
    left = np.arange(start, end)
    found = []
    while left.size:
        found.append(left[0])
        best = costs[:, left[:1]]
        left = left[(costs[:, left] < best).any(0)]
    return np.asarray(found, np.int64)


def thin(costs: Costs) -> Places:
    """Indices of points that may be on the front; drops most of those that others beat.

    Args:
        costs: Shape (objectives, points), of one group.
    """
    left = np.arange(costs.shape[1])
    if left.size < MANY:
        return left
    sample = costs[:, np.random.default_rng(0).integers(left.size, size=MANY)]
    strong = sample[:, front(sample, np.zeros(MANY, np.int64), np.arange(MANY))]
    beaten = (sample[:, None] >= strong[:, :, None]).all(0).sum(1)
    for best in strong[:, np.argsort(-beaten)[:STRONG]].T:
        stays = (costs < best[:, None]).any(0) | (costs == best[:, None]).all(0)
        left, costs = left[stays], costs[:, stays]
    return left
