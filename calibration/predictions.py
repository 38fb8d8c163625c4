"""Predictions for a table of rows, with intervals and what they reach beyond."""

import numpy as np
import pandas as pd

from calibration.coverage import ranged_numbers
from calibration.dataset import Table
from calibration.forward import Forward, predict
from calibration.measurements import Measurement
from calibration.observations import VARIABLES
from calibration.parameters import Array
from sweep.efficiency import FACTORS
from sweep.fitted import FittedEfficiency
from sweep.intervals import SCENARIO_OF_MASK
from sweep.judged import CALIBRATED, EXTRAPOLATION, Judged


def predictions(table: Table, efficiency: FittedEfficiency | None) -> pd.DataFrame:
    """The rows with `predicted`, `lower`, `upper` and `flags`.

    Intervals hold 90 % of the figures of the kinds of rows that the calibration was judged on;
    ideal rooflines have none.
    """
    frame = pd.DataFrame([row.model_dump() for row in table.rows])
    if efficiency is None:
        frame["predicted"] = predict(table.groups)
        return frame
    values = np.asarray([[efficiency.factor(f, t) for f in FACTORS] for t in table.traits])
    frame["predicted"] = np.exp(Forward(table.groups, FACTORS, slopes=False).log_figures(values)[0])
    bits = extrapolations(table, efficiency)
    widths = np.asarray(
        [
            efficiency.halfwidth(_judged(row).scenarios, int(sum_of))
            * efficiency.spread(hardware=row.hardware, model=row.model, version=trait.version)
            for row, trait, sum_of in zip(table.rows, table.traits, bits, strict=True)
        ]
    )
    frame["lower"] = frame["predicted"] * np.exp(-widths)
    frame["upper"] = frame["predicted"] * np.exp(widths)
    frame["flags"] = [
        " ".join(what for what, bit in EXTRAPOLATION.items() if bits_of & bit) for bits_of in bits
    ]
    return frame


def extrapolations(table: Table, efficiency: FittedEfficiency) -> Array:
    """Sum of the bits of `EXTRAPOLATION` of each row.

    A server without a limit holds as many requests as fit, as those measured did.
    """
    numbers = ranged_numbers(table, held=False)
    found = np.zeros(len(table.rows), np.int8)
    for place, row in enumerate(table.rows):
        given = {name: values[place] for name, values in numbers.items()}
        found[place] = efficiency.unseen(
            model=row.model,
            hardware=row.hardware,
            dtype=table.traits[place].dtype,
            family=table.families[place],
        ) | efficiency.beyond(SCENARIO_OF_MASK[_judged(row).mask], **given)
    return found


def _judged(row: Measurement) -> Judged:
    return CALIBRATED[VARIABLES[row.scenario, row.metric]]
