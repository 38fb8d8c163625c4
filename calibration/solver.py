"""The fit: robust least squares of logarithmic errors, with the kernel's own slopes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from calibration.forward import Forward
from calibration.parameters import Array, Design

NOISE = 0.06
"""Logarithmic error that a row of good quality is expected to have: re-runs differ by 2 to 5 %,
and the formulas are not exact. [1]"""
DOUBTFUL_WEIGHT = 0.3
"""Weight of a doubtful row's error against a good one's. [1]"""


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
        design: The parameters.
        vector: Their values, logarithms.
        predicted: Logarithm of the prediction of every row given, fitted or not.
        errors: Logarithm of predicted over measured, NaN where nothing was measured.
        fitted: Places of the rows the fit used.
        slopes: Derivatives of the predictions by the parameters.
        weights: Weight of each fitted row's error, robustness included. [1]
        covariance: Of the parameters.
        evaluations: Times the kernel was asked. [count]
    """

    design: Design
    vector: Array
    predicted: Array
    errors: Array
    fitted: Array
    slopes: Any
    weights: Array
    covariance: Array
    evaluations: int

    @property
    def effective_parameters(self) -> float:
        """Parameters that the rows rather than the priors determine. [count]"""
        prior = 1 / self.design_widths**2
        return float(len(prior) - np.sum(np.diag(self.covariance) * prior))

    @property
    def design_widths(self) -> Array:
        """Widths of the priors."""
        return np.asarray([p.width for p in self.design.parameters])


def solve(
    forward: Forward,
    design: Design,
    measured: Array,
    fitted: Sequence[int] | Array,
    row_weights: Array,
    *,
    max_evaluations: int = 60,
) -> Fit:
    """Fit the parameters of `design` to some of the rows.

    The residual of a row is log(predicted/measured) over the expected noise, under a pseudo-Huber
    loss, quadratic below one and linear beyond, so that misprints pull little. It always starts
    from the centres of the priors, so that a fit without some rows knows nothing of them.

    Args:
        forward: The kernel of all rows.
        design: Parameters and how they make up factors.
        measured: Logarithm of the figure of every row.
        fitted: Places of the rows to fit.
        row_weights: Weight of every row. [1]
        max_evaluations: Steps at most. [count]
    """
    places = np.asarray(fitted)
    centre = np.asarray([p.centre for p in design.parameters])
    width = np.asarray([p.width for p in design.parameters])
    scale = row_weights[places] / NOISE
    known: dict[bytes, tuple[Array, Any]] = {}

    def evaluate(vector: Array) -> tuple[Array, Any]:
        key = vector.tobytes()
        if key not in known:
            values = design.values(vector)
            figures, by_factor = forward.log_figures(values)
            known.clear()
            known[key] = figures, design.slopes(values, by_factor)
        return known[key]

    def residuals(vector: Array) -> Array:
        figures, _ = evaluate(vector)
        plain = (figures - measured)[places] * scale
        return np.concatenate([_robust(plain)[0], (vector - centre) / width])

    def jacobian(vector: Array) -> Array:
        figures, slopes = evaluate(vector)
        _, steepness = _robust((figures - measured)[places] * scale)
        return np.vstack(
            [slopes[places].toarray() * (steepness * scale)[:, None], np.diag(1 / width)]
        )

    found = least_squares(
        residuals, centre, jacobian, x_scale="jac", ftol=1e-6, xtol=1e-7, max_nfev=max_evaluations
    )
    figures, slopes = evaluate(found.x)
    errors = figures - measured
    plain = errors[places] * scale
    weights = scale / np.sqrt(1 + plain**2) ** 0.5
    information = slopes[places].toarray() * weights[:, None]
    covariance = np.linalg.inv(information.T @ information + np.diag(1 / width**2))
    return Fit(
        design=design,
        vector=found.x,
        predicted=figures,
        errors=errors,
        fitted=places,
        slopes=slopes,
        weights=weights,
        covariance=covariance,
        evaluations=int(found.nfev),
    )


def _robust(plain: Array) -> tuple[Array, Array]:
    """Residuals whose squares are the pseudo-Huber loss, and their slopes by the plain ones.

    The loss is 2·(√(1 + r²) − 1), so the residual is its root with the sign of r.
    """
    grown = np.sqrt(1 + plain**2)
    # √(2(g − 1)) = |r|·√(2/(g + 1)), which does not cancel near nought.
    shrink = np.sqrt(2 / (grown + 1))
    return plain * shrink, 1 / (grown * shrink)
