"""Predictions for a table of rows, with intervals and extrapolation flags."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from calibration.fit.forward import Forward, predict
from calibration.fit.parameters import Array
from calibration.fit.points import VARIABLES
from calibration.fit.table import Table
from calibration.validation.half_widths import ranged_numbers
from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import Subjects
from sweep.kernel.factors import FACTORS
from sweep.schema.intervals import CALIBRATED, EXTRAPOLATION


def predictions(table: Table, calibration: Calibration | None) -> pd.DataFrame:
    """The rows with `predicted`, `lower`, `upper` and `flags`.

    Intervals contain 90 % of the figures of the kinds of rows that the calibration was judged on.
    Ideal rooflines, for which `calibration` is `None`, have none.
    """
    frame = pd.DataFrame([row.model_dump() for row in table.rows])
    if calibration is None:
        frame["predicted"] = predict(table.groups)
        return frame
    factors = {t: [calibration.factor(f, t) for f in FACTORS] for t in set(table.traits)}
    values = np.asarray([factors[traits] for traits in table.traits])
    frame["predicted"] = np.exp(Forward(table.groups, FACTORS, slopes=False).log_figures(values)[0])
    widths, bits = np.empty(len(table.rows)), np.empty(len(table.rows), np.int8)
    for rows, halfwidths, flags in _intervals(table, calibration):
        widths[rows], bits[rows] = halfwidths, flags
    frame["lower"] = frame["predicted"] * np.exp(-widths)
    frame["upper"] = frame["predicted"] * np.exp(widths)
    words = {b: " ".join(w for w, bit in EXTRAPOLATION.items() if b & bit) for b in set(bits)}
    frame["flags"] = [words[sum_of] for sum_of in bits]
    return frame


def _intervals(table: Table, calibration: Calibration) -> Iterator[tuple[Array, Array, Array]]:
    """Rows of one predicted variable at a time, with their half-widths and flags.

    A server without a limit holds as many requests as fit, as those measured did.
    """
    subjects, numbers = _subjects(table), ranged_numbers(table, held=False)
    variables = np.asarray([VARIABLES[row.scenario, row.metric] for row in table.rows])
    for variable in np.unique(variables).tolist():
        rows, mask = np.flatnonzero(variables == variable), CALIBRATED[variable].mask
        given = {name: values[rows] for name, values in numbers.items()}
        found = calibration.intervals(subjects.at(rows), {mask: given}, [variable])
        yield rows, found.halfwidth(variable), found.extrapolation[mask]


def _subjects(table: Table) -> Subjects:
    return Subjects(
        model=table.labels("model"),
        family=table.labels("family"),
        experts=table.labels("experts"),
        hardware=table.labels("hardware"),
        dtype=np.asarray([traits.dtype for traits in table.traits]),
        version=np.asarray([traits.version for traits in table.traits]),
    )
