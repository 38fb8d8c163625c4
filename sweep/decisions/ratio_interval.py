"""Interval of the ratio of two deployments, in which errors that they share cancel.

Both predictions come from one calibration, for one model and one load. What a calibration gets
wrong about these it gets wrong on both accelerators, so that the ratio is surer than the two
figures. The shares that remain are measured: from predictions of pairs of runs that a fit had not
seen, see `calibration.validation.ratios`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import erf, exp, hypot, log, sqrt
from typing import Any

from sweep.engines.calibration_checks import RATIO_SHARES
from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import halfwidth
from sweep.schema.intervals import EXTRAPOLATION

Row = Mapping[str, Any]
DEVIATIONS = 1.6449
"""Standard deviations within which 90 % of a normal distribution are. [1]"""
NARROWEST = 1e-6
"""Least half-width: a file may have intervals of no width. [1]"""
SUREST = 0.95
"""Highest probability that is claimed: of pairs that were predicted to differ by much more than
their interval, 94 % did. [1]"""
SEEN, MACHINE, SHARED = RATIO_SHARES
"""Shares of `Calibration.ratios`: of the usual error, of the error of a new accelerator, and of
errors of what both deployments have in common."""
OWN = ("unseen_hardware", "beyond_gpus")
"""Extrapolations of one deployment: the other may not share their errors."""


@dataclass(frozen=True)
class Ratio:
    """Throughput of the first of two deployments over that of the second.

    Attributes:
        value: The ratio. [1]
        lower: Lower end of its 90 % interval. [1]
        upper: Upper end. [1]
        chance: Probability that the first is ahead. [1]
    """

    value: float
    lower: float
    upper: float
    chance: float


def ratio(value: float, first: Row, second: Row, known: Calibration | None, scenario: str) -> Ratio:
    """The interval of a ratio of two throughputs.

    Args:
        value: The predicted ratio. [1]
        first: A deployment, with `lower`, `upper`, `beyond`, `precision` and `hardware`.
        second: The other one.
        known: The calibration that predicted both; `None` if two did, whose errors add up.
        scenario: Kind of measurements that it was judged by.
    """
    width = max(ratio_halfwidth(first, second, known, scenario), NARROWEST)
    chance = 0.5 * (1 + erf(log(value) / width * DEVIATIONS / sqrt(2)))
    return Ratio(
        value,
        value * exp(-width),
        value * exp(width),
        min(max(chance, 1 - SUREST), SUREST),
    )


def ratio_halfwidth(first: Row, second: Row, known: Calibration | None, scenario: str) -> float:
    """Half of the 90 % interval of the logarithm of a ratio. [1]

    Parts of the two half-widths add up in squares, each times its share in a ratio.
    """
    if known is None:
        return hypot(*(log(row["upper"] / row["lower"]) / 2 for row in (first, second)))
    both = int(first["beyond"]) & int(second["beyond"])
    alike = first["precision"] == second["precision"]
    total = 0.0
    for row in (first, second):
        whole = log(row["upper"] / row["lower"]) / 2
        parts = _parts(whole, int(row["beyond"]), known, scenario)
        for name, part in parts.items():
            common = alike and name not in OWN and both & EXTRAPOLATION.get(name, 0)
            share = name if name in (SEEN, MACHINE) else SHARED if common else ""
            spread = known.ratio_spreads.get(row.get("hardware", ""), 1.0) if name == SEEN else 1.0
            total += (known.ratios.get(share, 1.0) * spread * part) ** 2
    return sqrt(total)


def _parts(whole: float, beyond: int, known: Calibration, scenario: str) -> dict[str, float]:
    """Parts of a half-width: the usual one, and what each extrapolation adds in squares. [1]"""

    def usual(bits: int) -> float:
        return halfwidth(known.halfwidths, (scenario,), bits)

    spread = whole / usual(beyond)
    parts, bits = {SEEN: spread * usual(0)}, 0
    for name, bit in EXTRAPOLATION.items():
        if beyond & bit:
            added = usual(bits | bit) ** 2 - usual(bits) ** 2
            parts[name] = spread * sqrt(max(added, 0.0))
            bits |= bit
    return parts
