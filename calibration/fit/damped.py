"""Damped least squares on normal equations, for residuals that include priors of all parameters."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import linalg
from scipy.optimize import least_squares

from calibration.fit.parameters import Array

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-8, 1e8
"""Damping relative to the diagonal: of the first step, and its bounds. [1]"""
POOR, FAIR, GOOD = 1e-4, 0.25, 0.75
"""Reduction of the cost over that of the linear model: below the first a step is refused, below the
second the damping grows, above the third it shrinks. [1]"""


def damped_least_squares(
    residuals: Callable[[Array], Array],
    start: Array,
    jacobian: Callable[[Array], Array],
    *,
    bounds: Any,
    ftol: float,
    xtol: float,
    max_nfev: int,
    **others: Any,
) -> Any:
    """Minimise half the sum of squared residuals, like SciPy's `least_squares`.

    Levenberg's and Marquardt's method [1] with the steps of normal equations. Squaring the
    condition does no harm here: a residual for the departure of each parameter from its prior
    bounds it. For thousands of rows a step takes a tenth of the time of a singular value
    decomposition. With finite bounds SciPy's method runs.

    Args:
        residuals: Function of the parameters.
        start: Where to start.
        jacobian: Derivatives of the residuals.
        bounds: Lowest and highest values.
        ftol: Relative change of the cost at which to end. [1]
        xtol: Relative size of a step at which to end. [1]
        max_nfev: Highest number of evaluations. [count]
        others: Options of `least_squares`.

    References:
        [1] Moré, "The Levenberg-Marquardt algorithm", Lecture Notes in Mathematics 630, 1978.
    """
    if any(np.isfinite(end).any() for end in map(np.asarray, bounds)):
        return least_squares(
            residuals,
            start,
            jacobian,
            bounds=bounds,
            ftol=ftol,
            xtol=xtol,
            max_nfev=max_nfev,
            **others,
        )
    here, damping, evaluations = np.array(start, float), FIRST_DAMPING, 1
    found = residuals(here)
    cost, model = 0.5 * float(found @ found), None
    while evaluations < max_nfev and damping < MOST_DAMPING:
        if model is None:
            slopes = jacobian(here)
            model = slopes.T @ slopes, slopes.T @ found
        curvature, slope = model
        damped = curvature + damping * np.diag(np.diag(curvature))
        step = -linalg.cho_solve(linalg.cho_factor(damped), slope)
        tried = residuals(here + step)
        evaluations += 1
        after = 0.5 * float(tried @ tried)
        expected = -float(slope @ step) - 0.5 * float(step @ curvature @ step)
        # Too long a step may make a figure infinite.
        gain = (cost - after) / expected if np.isfinite(after) and expected > 0 else -1.0
        if gain <= POOR:
            damping *= 4
            continue
        small = linalg.norm(step) < xtol * (xtol + linalg.norm(here))
        there = gain > FAIR and cost - after < ftol * cost
        here, found, cost, model = here + step, tried, after, None
        if small or there:
            break
        if gain > GOOD:
            damping = max(damping / 5, LEAST_DAMPING)
        elif gain < FAIR:
            damping *= 2
    return SimpleNamespace(x=here, cost=cost, nfev=evaluations)
