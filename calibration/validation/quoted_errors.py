"""Errors of each model and accelerator that an answer quotes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.table import Table

LEFT_OUT = ("model", "hardware")
"""Labels by which errors are quoted."""


def quoted_errors(
    table: Table, indices: Array, left_out: Array, without: Mapping[str, Array]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean errors of the rows of each model and accelerator, as shares of the measured figure.

    Args:
        table: The rows.
        indices: Indices of the rows that count; doubtful ones among them do not.
        left_out: Logarithmic error of each row, had its configuration been left out. [1]
        without: The same by label of `LEFT_OUT`, had all rows of its model or accelerator been. [1]

    Returns:
        By label and name: `rows`, `own_configuration_left_out` and `left_out`.
    """
    sure = np.asarray([index for index in indices if table.rows[index].quality == "ok"], int)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for label in LEFT_OUT:
        names = table.labels(label)
        found[label] = {}
        for name in np.unique(names[sure]).tolist():
            where = sure[names[sure] == name]
            found[label][name] = {
                "rows": len(where),
                "own_configuration_left_out": _mean(left_out[where]),
                "left_out": _mean(without[label][where]),
            }
    return found


def _mean(errors: Array) -> float:
    known = np.abs(np.expm1(errors[np.isfinite(errors)]))
    return round(float(known.mean()), 3) if len(known) else float("nan")
