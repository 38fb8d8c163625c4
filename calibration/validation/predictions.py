"""Predictions for a table of rows, with intervals and what they reach beyond."""

import numpy as np
import pandas as pd

from calibration.fit.forward import Forward, predict
from calibration.fit.parameters import Array
from calibration.fit.points import VARIABLES, each
from calibration.fit.table import Table
from calibration.measurements.table import Measurement
from calibration.validation.half_widths import ranged_numbers
from sweep.engines.calibration_file import FittedEfficiency
from sweep.evaluation.intervals import SCENARIO_OF_MASK
from sweep.kernel.factors import FACTORS
from sweep.schema.intervals import CALIBRATED, EXTRAPOLATION, Judged


def predictions(table: Table, efficiency: FittedEfficiency | None) -> pd.DataFrame:
    """The rows with `predicted`, `lower`, `upper` and `flags`.

    Intervals hold 90 % of the figures of the kinds of rows that the calibration was judged on;
    ideal rooflines have none.
    """
    frame = pd.DataFrame([row.model_dump() for row in table.rows])
    if efficiency is None:
        frame["predicted"] = predict(table.groups)
        return frame
    factors = {t: [efficiency.factor(f, t) for f in FACTORS] for t in set(table.traits)}
    values = np.asarray([factors[traits] for traits in table.traits])
    frame["predicted"] = np.exp(Forward(table.groups, FACTORS, slopes=False).log_figures(values)[0])
    bits = extrapolations(table, efficiency).tolist()

    def width(place: int) -> float:
        row, version = table.rows[place], table.traits[place].version
        spread = efficiency.spread(
            hardware=row.hardware,
            model=row.model,
            experts=table.experts[place],
            version=version,
        )
        return efficiency.halfwidth(_judged(row).scenarios, bits[place]) * spread

    kinds = [
        (row.scenario, row.metric, row.model, traits, sum_of)
        for row, traits, sum_of in zip(table.rows, table.traits, bits, strict=True)
    ]
    widths = np.asarray(each(table.rows, kinds, width))
    frame["lower"] = frame["predicted"] * np.exp(-widths)
    frame["upper"] = frame["predicted"] * np.exp(widths)
    words = {b: " ".join(w for w, bit in EXTRAPOLATION.items() if b & bit) for b in set(bits)}
    frame["flags"] = [words[sum_of] for sum_of in bits]
    return frame


def extrapolations(table: Table, efficiency: FittedEfficiency) -> Array:
    """Sum of the bits of `EXTRAPOLATION` of each row.

    A server without a limit holds as many requests as fit, as those measured did.
    """
    numbers = ranged_numbers(table, held=False)
    scenarios = np.asarray([SCENARIO_OF_MASK[_judged(row).mask] for row in table.rows])

    def unseen(place: int) -> int:
        row = table.rows[place]
        return efficiency.unseen(
            model=row.model,
            hardware=row.hardware,
            dtype=table.traits[place].dtype,
            family=table.families[place],
        )

    kinds = [(row.model, traits) for row, traits in zip(table.rows, table.traits, strict=True)]
    found = np.asarray(each(table.rows, kinds, unseen), np.int8)
    for scenario in set(scenarios):
        here = scenarios == scenario
        given = {name: values[here] for name, values in numbers.items()}
        found[here] |= efficiency.beyond(scenario, **given)
    return found


def _judged(row: Measurement) -> Judged:
    return CALIBRATED[VARIABLES[row.scenario, row.metric]]
