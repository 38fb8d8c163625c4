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
    more, the 90 % quantile of the errors in which each group counts the same [1]: it contains nine
    of ten rows of a new group, on average over groups. A quantile over so few groups would be the
    widest one, which contains more.

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
            return _pooled_quantile(large)
        sizes = np.asarray([conformal_halfwidth(group) for group in large]) if large else sizes
    share = min(np.ceil((len(sizes) + 1) * INTERVAL) / len(sizes), 1.0)
    return float(np.quantile(sizes, share))


def _pooled_quantile(groups: Sequence[Array]) -> float:
    """The 90 % quantile of sizes of errors, in which each group has the same weight."""
    sizes = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups])
    order = np.argsort(sizes)
    passed = np.cumsum(weights[order])
    return float(sizes[order][np.searchsorted(passed, INTERVAL * passed[-1])])
