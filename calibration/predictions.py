"""Predictions for a table of rows, with intervals and what they reach beyond."""

import numpy as np
import pandas as pd

from calibration.dataset import Table
from calibration.forward import Forward, predict
from sweep.efficiency import FACTORS
from sweep.fitted import FittedEfficiency
from sweep.variables import EXTRAPOLATION


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
    bits = [
        efficiency.extrapolation(row.model, row.hardware, trait.dtype)
        for row, trait in zip(table.rows, table.traits, strict=True)
    ]
    widths = np.asarray(
        [efficiency.halfwidth(r.scenario, b) for r, b in zip(table.rows, bits, strict=True)]
    )
    frame["lower"] = frame["predicted"] * np.exp(-widths)
    frame["upper"] = frame["predicted"] * np.exp(widths)
    frame["flags"] = [
        " ".join(what for what, bit in EXTRAPOLATION.items() if bits_of & bit) for bits_of in bits
    ]
    return frame
