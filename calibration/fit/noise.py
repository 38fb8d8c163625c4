"""Noise of measured figures: the error that remains of a good row, by kind."""

from dataclasses import dataclass

import numpy as np

from calibration.fit.parameters import Array

NOISE = 0.06
"""Expected logarithmic error of a good row: re-runs differ by 2 to 5 %, and the formulas are not
exact. [1]"""
EXPECTED_ROWS = 20.0
"""Rows that `NOISE` counts as when the noise is estimated. [count]"""
HALF_WITHIN = 0.6745
"""Standard deviations within which half of a normal distribution lies. [1]"""


def of_kinds(kinds: Array | None, indices: Array) -> dict[str, Array]:
    """Indices into `indices` of the rows of each kind; none where all rows are of one."""
    if kinds is None:
        return {}
    labels = kinds[indices]
    return {str(name): np.flatnonzero(labels == name) for name in np.unique(labels)}


@dataclass(frozen=True)
class Data:
    """The fitted rows.

    Attributes:
        indices: Their indices among all rows.
        measured: Logarithms of their figures.
        weights: Weight of each. [1]
        expected: Logarithmic error that a row without a fault has, by its kind. [1]
        kinds: Indices into `indices` by kind; empty where all rows are of one.
    """

    indices: Array
    measured: Array
    weights: Array
    expected: Array
    kinds: dict[str, Array]

    @property
    def evidence(self) -> Array:
        """Good rows that each row counts as. [count]"""
        found: Array = self.weights**2
        return found

    def noise(self, errors: Array, leverages: Array) -> float:
        """Logarithmic error of a good row of the usual kind. [1]

        Args:
            errors: Logarithmic error of each row.
            leverages: Parameters that each determines. [count]
        """
        evidence = (self.weights * NOISE / self.expected) ** 2
        return noise_of(errors, evidence, float(leverages.sum()))

    def noises(self, errors: Array, leverages: Array) -> dict[str, float]:
        """Logarithmic error of a good row of each kind. [1]

        Args:
            errors: Logarithmic error of each row.
            leverages: Parameters that each determines. [count]
        """
        return {
            name: noise_of(
                errors[rows],
                self.evidence[rows],
                float(leverages[rows].sum()),
                float(self.expected[rows[0]]),
            )
            for name, rows in self.kinds.items()
        }

    def of_rows(self, noises: dict[str, float]) -> Array:
        """Logarithmic error that each row has without a fault, by its kind. [1]"""
        found = self.expected.copy()
        for name, rows in self.kinds.items():
            found[rows] = noises[name]
        return found


def noise_of(errors: Array, evidence: Array, determined: float, expected: float = NOISE) -> float:
    """Logarithmic error of a good row, from the middle half of `errors`. [1]

    The expected noise counts as much as `EXPECTED_ROWS` rows. Each parameter that the rows
    determine takes one degree of freedom.

    Args:
        errors: Logarithmic error of each fitted row.
        evidence: Good rows that each counts as. [count]
        determined: Parameters that the rows determine. [count]
        expected: The expected noise. [1]
    """
    order = np.argsort(np.abs(errors))
    passed = np.cumsum(evidence[order])
    middle = order[np.searchsorted(passed, passed[-1] / 2)]
    found = (np.abs(errors[middle]) / HALF_WITHIN) ** 2 * passed[-1]
    rows = max(passed[-1] - determined, 0.0)
    return float(np.sqrt((found + EXPECTED_ROWS * expected**2) / (rows + EXPECTED_ROWS)))
