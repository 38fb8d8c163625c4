"""Pareto fronts of plain arrays; lower is better."""

import numpy as np
from numpy.typing import NDArray

from sweep.queries.grid_axes import Indices

Costs = NDArray[np.floating]
"""One row per objective, one column per point; lower is better, none is NaN."""

MANY = 4096
"""Number of points from which thinning by a sample before sorting is faster. [count]"""
SAMPLED = 16
"""Points for each one in the sample, which has at most `MANY`. [count]"""
STRONG = 32
"""Points of the sample that the others are compared with, for three or more objectives. [count]"""


def front(costs: Costs, group: Indices, position: Indices) -> Indices:
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


def _spans(starts: Indices, size: int) -> list[tuple[int, int]]:
    return list(zip(starts.tolist(), [*starts[1:].tolist(), size], strict=True))


def _steps(second: NDArray[np.floating], group: Indices) -> NDArray[np.bool_]:
    """Whether each point, sorted by group and first objective, has the lowest second so far."""
    ranks = np.unique(second, return_inverse=True)[1]
    # Ranks of a later group are below those of earlier ones, so the minimum restarts there.
    _, groups = np.unique(group, return_inverse=True)
    height = ranks - groups * (ranks.max() + 1)
    lowest = np.minimum.accumulate(height)
    return np.concatenate([[True], height[1:] < lowest[:-1]])


def _survivors(start: int, end: int, costs: Costs) -> Indices:
    """Points of one group on its front, in the order of the group."""
    ranks = sum(np.unique(row, return_inverse=True)[1] for row in costs[:, start:end])
    # A point that beats another has a lower sum of ranks, so the first one left is on the front.
    left = start + np.argsort(ranks, kind="stable")
    rows = costs[:, left]
    found = []
    while left.size:
        found.append(left[0])
        better = np.logical_or.reduce([row < row[0] for row in rows])
        left, rows = left[better], rows[:, better]
    return np.sort(np.asarray(found, np.int64))


def possible_points(costs: Costs) -> Indices:
    """Positions of points that may be on the front of their group, group by group.

    Args:
        costs: Shape (objectives, groups, points); infinite where there is no point.
    """
    objectives, groups, points = costs.shape
    present = np.isfinite(costs[0])
    if points < MANY:
        return np.flatnonzero(_thin_rows(costs) & present if objectives == 2 else present)
    found = [np.zeros(0, np.int64)]
    for group in range(groups):
        here = np.flatnonzero(present[group])
        found.append(group * points + here[thin(costs[:, group, here])])
    return np.concatenate(found)


def thin(costs: Costs) -> Indices:
    """Indices of points that may be on the front; most points that others beat are dropped.

    Args:
        costs: Shape (objectives, points), of one group.
    """
    left, random = np.arange(costs.shape[1]), np.random.default_rng(0)
    while left.size >= MANY:
        size = min(MANY, left.size // SAMPLED)
        sample = costs[:, random.integers(left.size, size=size)]
        strong = sample[:, front(sample, np.zeros(size, np.int64), np.arange(size))]
        stays = unbeaten(costs, strong)
        left, costs = left[stays], costs[:, stays]
        if left.size > stays.size // 2:
            break
    return left


def _thin_rows(costs: Costs) -> NDArray[np.bool_]:
    """Whether each point may be on the front of its row, for two objectives.

    Args:
        costs: Shape (2, groups, points).
    """
    order = costs[0].argsort(1)
    second = np.take_along_axis(costs[1], order, 1)
    steps = second <= np.minimum.accumulate(second, axis=1)
    stays = np.zeros_like(steps)
    np.put_along_axis(stays, order, steps, 1)
    return stays


def unbeaten(costs: Costs, strong: Costs) -> NDArray[np.bool_]:
    """Whether each point may be on a front together with some strong points.

    Args:
        costs: Shape (objectives, points).
        strong: Points of one front, by their first objective; a few of them, for three or more.
    """
    return (_below_steps if len(costs) == 2 else _unbeaten)(costs, strong)


def _below_steps(costs: Costs, strong: Costs) -> NDArray[np.bool_]:
    """Whether each point is below the steps of a front of two objectives, or on its points."""
    at = np.searchsorted(strong[0], costs[0], side="right")
    first, second = (
        np.concatenate([[bar], row]) for bar, row in zip((0, np.inf), strong, strict=True)
    )
    bar = second.astype(costs.dtype)[at]
    below, on = costs[1] < bar, (costs[1] == bar) & (costs[0] == first.astype(costs.dtype)[at])
    return np.asarray(below | on, np.bool_)


def _unbeaten(costs: Costs, strong: Costs) -> NDArray[np.bool_]:
    """Whether each point is beaten by none of the strongest."""
    stays = np.ones(costs.shape[1], np.bool_)
    for best in strong[:, :: max(1, strong.shape[1] // STRONG)].T:
        no_better, same = np.ones_like(stays), np.ones_like(stays)
        for row, bar in zip(costs, best, strict=True):
            no_better &= row >= bar
            same &= row == bar
        stays &= ~no_better | same
    return stays
