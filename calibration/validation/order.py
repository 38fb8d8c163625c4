"""Share of pairs of accelerators of which predictions name the faster."""

from collections import defaultdict
from itertools import combinations

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.table import Table, configuration

APART = float(np.log(1.1))
"""Difference of logarithms from which one of two accelerators counts as faster. [1]"""


def order(table: Table, errors: Array, indices: Array) -> tuple[int, float]:
    """Pairs of accelerators that differ, and the share of which the faster is predicted so.

    A pair has one engine, version, model, layout, types, lengths, load and metric. Its measured
    figures differ by more than a tenth. Half of a pair with equal predictions counts.

    Args:
        table: The rows.
        errors: Logarithm of predicted over measured of each row, NaN where none was made.
        indices: Indices of the rows that count.

    Returns:
        The number of pairs, and the share; NaN without pairs.
    """
    loads: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in indices:
        row = table.rows[index]
        if np.isfinite(errors[index]):
            load = configuration(row.model_copy(update={"hardware": ""}))
            loads[load, row.engine_version, row.metric].append(int(index))
    found = []
    for members in loads.values():
        for one, other in combinations(members, 2):
            measured = table.measured[one] - table.measured[other]
            if table.rows[one].hardware != table.rows[other].hardware and abs(measured) > APART:
                predicted = measured + errors[one] - errors[other]
                found.append((1 + np.sign(predicted) * np.sign(measured)) / 2)
    return len(found), float(np.mean(found)) if found else float("nan")
