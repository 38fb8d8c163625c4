"""Which of many points no other point beats: Pareto fronts of plain arrays, lower is better."""

import numpy as np
from numpy.typing import NDArray

from sweep.queries.axes_of_grid import Places

Costs = NDArray[np.floating]
"""One row per objective, one column per point; lower is better, none is NaN."""

MANY = 4096
"""Points from which it pays to thin them out by a sample before they are sorted."""
SAMPLED = 16
"""One in so many is in the sample, and at most `MANY`."""
STRONG = 32
"""Points of the sample that the rest is held against, with three objectives or more."""


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
    """Points of one group on its front, in the order of the group."""
    ranks = sum(np.unique(row, return_inverse=True)[1] for row in costs[:, start:end])
    # What beats a point has a lower sum of ranks, so that the first of those left is on the front.
    left = start + np.argsort(ranks, kind="stable")
    rows = costs[:, left]
    found = []
    while left.size:
        found.append(left[0])
        better = np.logical_or.reduce([row < row[0] for row in rows])
        left, rows = left[better], rows[:, better]
    return np.sort(np.asarray(found, np.int64))


def candidates(costs: Costs) -> Places:
    """Positions of points that may be on the front of their group, groups one after another.

    Args:
        costs: Shape (objectives, groups, points); infinite for what is no point.
    """
    objectives, groups, points = costs.shape
    there = np.isfinite(costs[0])
    if points < MANY:
        return np.flatnonzero(_thin_rows(costs) & there if objectives == 2 else there)
    found = [np.zeros(0, np.int64)]
    for group in range(groups):
        here = np.flatnonzero(there[group])
        found.append(group * points + here[thin(costs[:, group, here])])
    return np.concatenate(found)


def thin(costs: Costs) -> Places:
    """Indices of points that may be on the front; drops most of those that others beat.

    Args:
        costs: Shape (objectives, points), of one group.
    """
    left, random = np.arange(costs.shape[1]), np.random.default_rng(0)
    while left.size >= MANY:
        size = min(MANY, left.size // SAMPLED)
        sample = costs[:, random.integers(left.size, size=size)]
        strong = sample[:, front(sample, np.zeros(size, np.int64), np.arange(size))]
        stays = (_below_steps if len(costs) == 2 else _unbeaten)(costs, strong)
        left, costs = left[stays], costs[:, stays]
        if left.size > stays.size // 2:
            break
    return left


def _thin_rows(costs: Costs) -> NDArray[np.bool_]:
    """Which points may be on the front of their row, of two objectives.

    Args:
        costs: Shape (2, groups, points).
    """
    order = costs[0].argsort(1)
    second = np.take_along_axis(costs[1], order, 1)
    steps = second <= np.minimum.accumulate(second, axis=1)
    stays = np.zeros_like(steps)
    np.put_along_axis(stays, order, steps, 1)
    return stays


def _below_steps(costs: Costs, strong: Costs) -> NDArray[np.bool_]:
    """Which points lie below the steps of a front of two objectives, or on its points."""
    at = np.searchsorted(strong[0], costs[0], side="right")
    first, second = (
        np.concatenate([[bar], row]) for bar, row in zip((0, np.inf), strong, strict=True)
    )
    bar = second.astype(costs.dtype)[at]
    below, on = costs[1] < bar, (costs[1] == bar) & (costs[0] == first.astype(costs.dtype)[at])
    return np.asarray(below | on, np.bool_)


def _unbeaten(costs: Costs, strong: Costs) -> NDArray[np.bool_]:
    """Which points none of the strongest beats."""
    stays = np.ones(costs.shape[1], np.bool_)
    for best in strong[:, :: max(1, strong.shape[1] // STRONG)].T:
        no_better, same = np.ones_like(stays), np.ones_like(stays)
        for row, bar in zip(costs, best, strict=True):
            no_better &= row >= bar
            same &= row == bar
        stays &= ~no_better | same
    return stays
