"""Parts of a calibration that give its intervals, from the rows that a fit has seen."""

from typing import Any

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.group_spreads import (
    crossed_multiples,
    groups_of,
    multiples,
    spreads,
    widened,
)
from calibration.validation.half_widths import certain, halfwidths, ranges
from calibration.validation.ranged import most_gpus
from sweep.engines.calibration_file import Calibration


def interval_parts(
    table: Table,
    fit: Fit,
    left_out: Array,
    indices: Array,
    start_from: Calibration | None = None,
) -> dict[str, Any]:
    """Half-widths, spreads, and what rows have been seen, by the fields of a `Calibration`.

    Args:
        table: The rows.
        fit: A fit of the rows at `indices`, which may have had more.
        left_out: Logarithmic error of each row, had its configuration been left out. [1]
        indices: Indices of the rows that count; no other row has any influence but on the fit.
        start_from: A calibration whose half-widths, ranges and seen labels are kept.
    """
    rows = [table.rows[index] for index in indices]
    scenarios = np.asarray([row.kind for row in rows])
    groups = {by: labels[indices] for by, labels in groups_of(table).items()}
    sure = np.isin(indices, certain(table, indices))
    judged = np.where(sure, left_out[indices], np.nan)
    if start_from:
        spread = widened(start_from, groups, scenarios, judged)
    else:
        spread = spreads(groups, scenarios, judged)

    def usual_of(labels: Array) -> Array:
        if start_from:
            return multiples(spread, groups_of(table))
        found = np.ones(len(labels))
        found[indices] = crossed_multiples(groups, scenarios, judged, labels[indices])
        return found

    known = start_from.halfwidths if start_from else None
    seen = {
        "hardware": {row.hardware for row in rows},
        "model": {row.model for row in rows},
        "dtype": {table.traits[index].dtype for index in indices},
        "family": {table.families[index] for index in indices},
    }
    before = start_from.seen if start_from else {}
    return {
        "halfwidths": halfwidths(table, fit, known, usual_of, indices=indices),
        "spreads": spread,
        "seen": {what: sorted(names | set(before.get(what, []))) for what, names in seen.items()},
        "ranges": ranges(table, start_from.ranges if start_from else {}, indices=indices),
        "measured": most_gpus(table, start_from.measured if start_from else {}, indices),
    }
