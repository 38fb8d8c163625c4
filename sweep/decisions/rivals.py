"""The runner-up of a recommendation, and the first deployment compared with it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from sweep.decisions.ratio_interval import Ratio, ratio
from sweep.decisions.recommend import Recommendation, unit_cost
from sweep.engines.calibration_file import IDEAL_NAME, Calibration, load_calibration
from sweep.errors import SweepError
from sweep.schema.intervals import CALIBRATED
from sweep.specs.shipped import is_shipped_calibration

Row = Mapping[str, Any]
"""One deployment, by the columns of `Recommendation.scored`."""


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as mappings from column to value."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def rival(found: Recommendation) -> Row | None:
    """The best deployment on another accelerator than the first; the second if all are alike."""
    best = found.ranked["hardware"].iloc[0]
    others = found.ranked[found.ranked["hardware"] != best]
    if not len(others) and found.deployments.frame["hardware"].nunique() < 2:
        others = found.ranked.iloc[1:]
    return records(others.head(1))[0] if len(others) else None


def compared(
    found: Recommendation, first: Row, second: Row, value: float | None = None
) -> Ratio | None:
    """The first score over the second with its interval; `None` without a calibration.

    Whole replicas are not counted, so that errors of the throughput alone decide. Errors of two
    calibrations are taken to be independent.

    Args:
        found: The answer.
        first: One deployment, or a pair of pools.
        second: A deployment.
        value: The ratio; that of what the replicas do together if not given. [1]
    """
    names = [found.deployments.calibration_of(row) for row in (first, second)]
    known = recorded_calibration(names[0])
    if known is None or isinstance(known, str) or np.isnan([first["lower"], second["lower"]]).any():
        return None
    scenario = CALIBRATED[found.deployments.scheme.throughput].scenarios[0]
    if not known.halfwidths.get(scenario):
        return None
    shared = known if names[0] == names[1] else None
    if value is None:
        one, other = (
            row["throughput"] * row["replicas"] / unit_cost(row, found.demand.by)
            for row in (first, second)
        )
        value = one / other
    return ratio(value, first, second, shared, scenario)


@lru_cache(maxsize=8)
def recorded_calibration(recorded: str) -> Calibration | str | None:
    """Load a recorded calibration; return its name and digest where another has its name now."""
    name, _, digest = recorded.partition(" ")
    if name == IDEAL_NAME:
        return None
    try:
        found = load_calibration(name) if is_shipped_calibration(name) else None
    except SweepError:
        found = None
    if found is None:
        return recorded
    return recorded if found.digest != digest else found
