"""Split-conformal half-widths of intervals."""

from collections.abc import Sequence

import numpy as np

from calibration.fit.parameters import Array
from sweep.engines.prediction_interval import INTERVAL

ENOUGH = 10
"""Rows from which a group has a 90 % quantile of its own. [count]"""
ENOUGH_GROUPS = 9
"""Groups from which their errors are pooled; of fewer the widest counts. [count]"""


def conformal_halfwidth(errors: Array, labels: Array | None = None) -> float:
    """Half-width of a split-conformal 90 % interval; infinite without rows.

    The ⌈0.9 (n + 1)⌉-th of n absolute errors, interpolated: the predicted row is one more. With
    groups, of which an unseen one is one more, the half-width of the widest of a few. Of nine or
    more, the same quantile of the errors in which each group counts the same [1], with n the
    independent rows that the groups are worth: no more than there are groups if each is alike
    within. A quantile over the half-widths of so few groups would be the widest one, which contains
    more.

    Args:
        errors: Logarithmic errors, NaN where there are none.
        labels: Group of each row; groups of fewer than `ENOUGH` rows are ignored unless all are.

    References:
        [1] Dunn, Wasserman, Ramdas, "Distribution-free prediction sets for two-layer hierarchical
            models", JASA 118(544), 2023: pooling of distributions.
    """
    sizes = np.abs(errors[np.isfinite(errors)])
    if len(sizes) == 0:
        return np.inf
    if labels is not None:
        of_sizes = labels[np.isfinite(errors)]
        groups = [sizes[of_sizes == name] for name in np.unique(of_sizes)]
        large = [group for group in groups if len(group) >= ENOUGH]
        if len(large) >= ENOUGH_GROUPS:
            return _of_a_new_group(large)
        sizes = np.asarray([conformal_halfwidth(group) for group in large]) if large else sizes
    return float(np.quantile(sizes, _share(len(sizes), 1 / len(sizes))))


def _share(independent: float, step: float) -> float:
    """Share of the errors whose quantile contains 90 % of one more, on average.

    The p-quantile of n independent errors contains too few of the others: 0.4 / n too few for 0.9,
    half the slope of its variance p (1 − p) / n [1], and half of the step by which the share of the
    errors grows there. For n errors of the same weight that makes 0.9 (n + 1) of them, rounded up
    to whole steps.

    Args:
        independent: Independent errors. [count]
        step: Weight of the errors that are as large as the quantile. [1]

    References:
        [1] David, Nagaraja, "Order Statistics", 3rd edition, 2003, section 4.6.
    """
    share = INTERVAL + (INTERVAL - 0.5) / independent + step / 2
    # Rounding errors would be rounded up to a whole step.
    return float(min(np.ceil(np.round(share / step, 6)) * step, 1.0))


def _of_a_new_group(groups: Sequence[Array]) -> float:
    """Half-width that contains 90 % of the errors of one more group, on average."""
    sizes = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups])
    weights = weights / len(groups)
    order = np.argsort(sizes)
    sizes, weights = sizes[order], weights[order]
    index = int(np.searchsorted(np.cumsum(weights), INTERVAL))
    usual = float(sizes[min(index, len(sizes) - 1)])
    independent = independent_rows([group > usual for group in groups])
    share = _share(independent, float(weights[sizes == usual].sum()))
    middles = np.cumsum(weights) - weights / 2
    indices = (middles - middles[0]) / (middles[-1] - middles[0])
    return float(np.interp(share, indices, sizes))


def independent_rows(groups: Sequence[Array]) -> float:
    """Independent rows that groups of the same weight are worth. [count]

    With the correlation ρ of two rows of a group, the mean of its n rows varies as that of
    n / (1 + (n − 1) ρ) independent ones [1]. ρ is that of an analysis of variance [2].

    Args:
        groups: Numbers, or truth values, of the rows of each group; two groups or more.

    References:
        [1] Kish, "Survey Sampling", 1965: the design effect.
        [2] Donner, "A review of inference procedures for the intraclass correlation coefficient in
            the one-way random effects model", International Statistical Review 54(1), 1986.
    """
    counts = np.asarray([len(group) for group in groups], float)
    means = np.asarray([np.mean(group) for group in groups])
    rows, whole = counts.sum(), np.average(means, weights=counts)
    within = sum(np.sum((group - mean) ** 2) for group, mean in zip(groups, means, strict=True))
    within /= max(rows - len(groups), 1.0)
    between = np.sum(counts * (means - whole) ** 2) / (len(groups) - 1)
    usual = (rows - np.sum(counts**2) / rows) / (len(groups) - 1)
    varying = between + (usual - 1) * within
    # Rows that never differ say nothing about how groups do: each group counts as one row.
    alike = np.clip((between - within) / varying, 0.0, 1.0) if varying > 0 else 1.0
    return float(len(groups) ** 2 / np.sum((1 + (counts - 1) * alike) / counts))
