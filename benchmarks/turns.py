"""Runs that take turns, and rows of figures with their ratios."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.kernel import clock

IN_A_TURN = 3
"""Runs, one after another. [count]"""
Run = Callable[[], Any]


class Row(NamedTuple):
    """One figure of the table.

    Attributes:
        what: What was measured.
        figure: The median, with its unit.
        ratio: Ratio to the baseline, the median over the rounds. [1]
        baseline: Name of the baseline.
        bar: Goal of the ratio. [1]
        at_most: Whether the ratio should be at most the bar, rather than at least.
    """

    what: str
    figure: str
    ratio: float | None = None
    baseline: str = ""
    bar: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the ratio meets the bar."""
        if self.ratio is None or self.bar is None:
            return True
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar

    def cells(self) -> dict[str, Any]:
        """Cells of the row by the heading of their column."""
        sign = "≤" if self.at_most else "≥"
        return {
            "what": self.what,
            "figure": self.figure,
            "ratio": self.ratio,
            "to": self.baseline,
            "bar": "–" if self.bar is None else f"{sign} {self.bar:g}",
            "met": "" if self.bar is None else "yes" if self.met else "no",
        }


def rounds(runs: dict[str, Run], repeats: int) -> dict[str, np.ndarray]:
    """Times of each run, taking turns; results are freed after the clock has stopped. [s]

    A turn is three runs, of which the median counts: the first finds caches and threads in the
    state that another run left.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(float(np.median([clock(run) for _ in range(IN_A_TURN)])))
    return {name: np.asarray(each) for name, each in times.items()}


def ratio(times: dict[str, np.ndarray], name: str, baseline: str) -> float:
    """Speed relative to the baseline, the median over the rounds. [1]"""
    return float(np.median(times[baseline] / times[name]))
