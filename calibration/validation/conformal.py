"""Split-conformal half-widths of intervals."""

import numpy as np

from calibration.fit.parameters import Array
from sweep.engines.prediction_interval import INTERVAL

ENOUGH = 10
"""Rows from which a group has a 90 % quantile of its own. [count]"""


def conformal_halfwidth(errors: Array, labels: Array | None = None) -> float:
    """Half-width of a split-conformal 90 % interval; infinite without rows.

    The ⌈0.9 (n + 1)⌉-th of n absolute errors, interpolated: the predicted row is one more. With
    groups, the same quantile over the half-widths of the groups: an unseen group is one more.

    Args:
        errors: Logarithmic errors, NaN where there are none.
        labels: Group of each row; groups of fewer than `ENOUGH` rows are ignored unless all are.
    """
    sizes = np.abs(errors[np.isfinite(errors)])
    if len(sizes) == 0:
        return np.inf
    if labels is not None:
        of_sizes = labels[np.isfinite(errors)]
        groups = [sizes[of_sizes == name] for name in np.unique(of_sizes)]
        widths = [conformal_halfwidth(group) for group in groups if len(group) >= ENOUGH]
        sizes = np.asarray(widths) if widths else sizes
    share = min(np.ceil((len(sizes) + 1) * INTERVAL) / len(sizes), 1.0)
    return float(np.quantile(sizes, share))
