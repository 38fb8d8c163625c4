"""Robust least squares of logarithmic errors, with derivatives from the kernel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.fit.damped import damped_least_squares
from calibration.fit.forward import Forward
from calibration.fit.noise import NOISE, Data, of_kinds
from calibration.fit.parameters import Array, Design
from sweep.errors import SpecError

DOUBTFUL_WEIGHT = 0.3
"""Weight of the error of a doubtful row, relative to a good one. [1]"""

WILD = 10.0
"""Error, relative to the noise, above which a row is an outlier: a misprint, or an effect that the
formulas lack. [1]"""
REVIEWS = 2
"""Highest number of times that the best start is continued without its outliers. [count]"""
NEAR, THERE = 1e-3, 1e-6
"""Relative change of the cost at which a start ends, and at which the fit ends. [1]"""
AT_BOUND = 1e-3
"""Distance of a logarithm from its bound below which it counts as at the bound. [1]"""
EDGE = 0.01
"""Distance of a start from the bounds, relative to the distance between them. [1]"""
SEED = 0
"""Seed of the starts drawn from the priors."""
ALIKE = ("front_end_s", "first_token_steps")
"""Factors of which each can explain what another one does, so that a search may end in a minimum
with the wrong one: the best start is continued with each of them at the centres of its priors."""


@dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes:
        design: The parameters.
        vector: Logarithms of the parameters.
        predicted: Logarithm of the prediction of every row, fitted or not.
        errors: Logarithm of predicted over measured, NaN where nothing was measured.
        settled: The same after the step that is left to the minimum, linearised: the search ends
            where the cost hardly changes, which is not where its slope is 0.
        fitted: Indices of the fitted rows.
        slopes: Derivatives of the predictions by the parameters.
        sensitivities: Derivatives of the predictions by the logarithm of each factor. [1]
        weights: Weight of the error of each fitted row, robustness included; 0 for outliers. [1]
        noise: Estimated logarithmic error of a good row. [1]
        noises: The same by kind of row; empty where all rows are of one kind. [1]
        bend: Inverse of the second derivatives of the cost; 0 for parameters that were not free.
        covariance: Covariance of the parameters; 0 for those that were not free.
        costs: Final cost of each start, in their order, and of those from the best of them. [1]
        evaluations: Evaluations of the kernel. [count]
    """

    design: Design
    vector: Array
    predicted: Array
    errors: Array
    settled: Array
    fitted: Array
    slopes: Any
    sensitivities: Array
    weights: Array
    noise: float
    noises: dict[str, float]
    bend: Array
    covariance: Array
    costs: tuple[float, ...]
    evaluations: int

    @property
    def set_aside(self) -> Array:
        """Indices of the rows excluded as outliers."""
        indices: Array = self.fitted[self.weights == 0]
        return indices

    @property
    def effective_parameters(self) -> float:
        """Number of parameters that the rows rather than the priors determine. [count]"""
        left = np.diag(self.bend) / self.design.widths**2
        return float(np.sum((1 - left)[self.design.free]))

    @property
    def at_bound(self) -> Array:
        """Whether each parameter ended at a bound."""
        low, high = self.design.bounds
        near = np.minimum(self.vector - low, high - self.vector)
        stuck: Array = self.design.free & (near < AT_BOUND)
        return stuck


def solve(
    forward: Forward,
    design: Design,
    measured: Array,
    fitted: Sequence[int] | Array,
    row_weights: Array,
    *,
    max_evaluations: int = 60,
    starts: int = 1,
    kinds: Array | None = None,
    expected: Array | None = None,
    minimiser: Callable[..., Any] = damped_least_squares,
) -> Fit:
    """Fit the free parameters of `design` to some of the rows.

    The residual of a row is log(predicted/measured) over the expected noise, under a pseudo-Huber
    loss, quadratic below 1 and linear above, so that misprints have little influence. The first
    start is the centres of the priors, so that a refit without some rows is independent of them;
    the others are draws from the priors with a fixed seed. The lowest cost is kept, of the starts
    and of the best of them with a factor of `ALIKE` set back. Outliers there are excluded: many
    misprints of little influence each would still move parameters that few rows constrain. BLAS
    computes in one thread: its matrices have a few hundred columns, and its threads and those of
    XLA would wait for one another.

    Args:
        forward: The kernel of all rows.
        design: Parameters and their map to factors.
        measured: Logarithm of the figure of every row.
        fitted: Indices of the rows to fit; those without a finite figure are left out.
        row_weights: Weight of every row. [1]
        max_evaluations: Highest number of steps of each start. [count]
        starts: Number of starts. [count]
        kinds: Kind of every row. Each has a noise of its own, estimated at the best start, by which
            outliers among its rows are excluded; all rows are of one kind if not given.
        expected: Expected logarithmic error of a good row, for every row; `NOISE` if not given. [1]
        minimiser: Solver of the least squares, with the arguments of SciPy's `least_squares`.
    """
    indices = _possible(forward, design, np.asarray(fitted))
    usual = np.full(len(measured), NOISE) if expected is None else expected
    data = Data(
        indices, measured[indices], row_weights[indices], usual[indices], of_kinds(kinds, indices)
    )
    problem = _Problem(forward, design, measured, data, minimiser)
    with threadpool_limits(1, user_api="blas"):
        found = [problem.minimise(each, max_evaluations, NEAR) for each in _starts(design, starts)]
        for own in problem.alike():
            set_back = np.where(own, design.centres[design.free], min(found, key=_cost).x)
            found.append(problem.minimise(set_back, max_evaluations, NEAR))
        best = min(found, key=_cost)
        reviewed: list[Any] = []
        while len(reviewed) < REVIEWS and (problem.review(best.x) or not reviewed):
            best = problem.minimise(best.x, max_evaluations, THERE)
            reviewed.append(best)
    return problem.fit_at(
        problem.whole(best.x),
        costs=tuple(map(_cost, found)),
        evaluations=sum(int(result.nfev) for result in (*found, *reviewed)),
    )


def _cost(found: Any) -> float:
    return float(found.cost)


def _possible(forward: Forward, design: Design, indices: Array) -> Array:
    """Those of the rows at `indices` that have a finite figure at the centres of the priors.

    Others do not fit in memory, and would leave no step defined.

    Raises:
        SpecError: No row has one.
    """
    figures, slopes = forward.log_figures(design.values(design.centres))
    finite = np.isfinite(figures) & np.isfinite(slopes).all(axis=1)
    if len(indices) and not finite[indices].any():
        raise SpecError("no row has a finite figure; check that the models fit in memory")
    return indices[finite[indices]]


def _starts(design: Design, count: int) -> Iterator[Array]:
    """Centres of the priors of the free parameters, then draws within their bounds."""
    random = np.random.default_rng(SEED)
    low, high = (ends[design.free] for ends in design.bounds)
    for number in range(count):
        drawn = random.normal(size=len(low)) if number else np.zeros(len(low))
        start = design.centres[design.free] + drawn * design.widths[design.free]
        yield _inside(start, low, high)


def _inside(vector: Array, low: Array, high: Array) -> Array:
    """The nearest point well within the bounds, since steps from a bound make no progress."""
    room = np.where(np.isfinite(high - low), EDGE * (high - low), 0.0)
    return np.clip(vector, low + room, high - room)


class _Problem:
    """Residuals of rows and priors, and their derivatives, as functions of the free parameters."""

    def __init__(
        self,
        forward: Forward,
        design: Design,
        measured: Array,
        data: Data,
        minimiser: Callable[..., Any],
    ) -> None:
        self.forward, self.design, self.measured, self.data = forward, design, measured, data
        self.usual_scale = self.scale = data.weights / data.expected
        self.free, self.minimiser = design.free, minimiser
        self._known: dict[bytes, tuple[Array, Any, Array]] = {}

    def whole(self, part: Array) -> Array:
        """All parameters: `part` where free, else the centres."""
        vector: Array = self.design.centres.copy()
        vector[self.free] = part
        return vector

    def alike(self) -> list[Array]:
        """For each factor of `ALIKE` that is fitted, which of the free parameters are its own."""
        factors = np.asarray([each.factor for each in self.design.parameters])[self.free]
        return [factors == name for name in ALIKE if name in factors]

    def evaluate(self, vector: Array) -> tuple[Array, Any, Array]:
        """Logarithms of the figures, derivatives by parameters and by logarithms of factors."""
        key = vector.tobytes()
        if key not in self._known:
            values = self.design.values(vector)
            figures, by_factor = self.forward.log_figures(values)
            self._known.clear()
            self._known[key] = figures, self.design.slopes(values, by_factor), by_factor * values
        return self._known[key]

    def plain(self, figures: Array) -> Array:
        """Errors of the fitted rows, relative to their expected errors. [1]"""
        return _weighed(self.errors(figures), self.scale)

    def errors(self, figures: Array) -> Array:
        """Logarithmic errors of the fitted rows. [1]"""
        found: Array = figures[self.data.indices] - self.data.measured
        return found

    def residuals(self, part: Array) -> Array:
        """Residuals of the least squares: those of rows, then departures from the priors."""
        figures, _, _ = self.evaluate(self.whole(part))
        departures = (part - self.design.centres[self.free]) / self.design.widths[self.free]
        return np.concatenate([_robust(self.plain(figures))[0], departures])

    def jacobian(self, part: Array) -> Array:
        """Derivatives of the residuals by the free parameters."""
        figures, slopes, _ = self.evaluate(self.whole(part))
        _, steepness = _robust(self.plain(figures))
        rows, widths = len(self.data.indices), self.design.widths[self.free]
        found = np.zeros((rows + len(widths), len(widths)))
        self._weighed_slopes(slopes, steepness * self.scale).toarray(out=found[:rows])
        np.fill_diagonal(found[rows:], 1 / widths)
        return found

    def _weighed_slopes(self, slopes: Any, weights: Array) -> Any:
        """Derivatives of the fitted rows by the free parameters, times the weights of the rows."""
        own = slopes[self.data.indices][:, self.free]
        own.data = _weighed(own.data, np.repeat(weights, np.diff(own.indptr)))
        return own

    def review(self, part: Array) -> bool:
        """Exclude outliers by the noise of their kind, and report whether the rows changed."""
        figures, slopes, _ = self.evaluate(self.whole(part))
        errors = self.errors(figures)
        if self.data.kinds:
            *_, leverages = self.solved(figures, slopes)
            noise: Any = self.data.of_rows(self.data.noises(errors, leverages))
        else:
            noise = self.data.noise(errors, np.zeros(1))
        wild = np.abs(errors) > WILD * noise
        before, self.scale = self.scale == 0, np.where(wild, 0.0, self.usual_scale)
        return bool(np.any(before != wild))

    def solved(self, figures: Array, slopes: Any) -> tuple[Array, Array, Array, Array]:
        """Weights of rows, inverse of the cost's second derivatives, weighed slopes, leverages."""
        weights = self.scale / np.sqrt(1 + self.plain(figures) ** 2) ** 0.5
        by_row = self._weighed_slopes(slopes, weights).toarray()
        prior = np.diag(1 / self.design.widths[self.free] ** 2)
        bend = np.linalg.inv(by_row.T @ by_row + prior)
        return weights, bend, by_row, np.einsum("ij,ij->i", by_row @ bend, by_row)

    def _spread(self, part: Array) -> Array:
        """Extend a matrix of the free parameters to all, with 0 elsewhere."""
        whole = np.zeros((len(self.free), len(self.free)))
        whole[np.ix_(self.free, self.free)] = part
        return whole

    def minimise(self, start: Array, max_evaluations: int, change: float) -> Any:
        """Find the nearest minimum within the bounds, downhill from `start`.

        Bounds seldom bind, and a bounded search takes three times as many steps: it runs only where
        the unbounded minimum is outside the bounds.
        """
        low, high = (ends[self.free] for ends in self.design.bounds)
        found = self._downhill(start, max_evaluations, change, (-np.inf, np.inf))
        if np.all((found.x >= low) & (found.x <= high)):
            return found
        return self._downhill(_inside(found.x, low, high), max_evaluations, change, (low, high))

    def _downhill(self, start: Array, max_evaluations: int, change: float, bounds: Any) -> Any:
        def found(how: Literal["exact", "lsmr"]) -> Any:
            return self.minimiser(
                self.residuals,
                start,
                self.jacobian,
                bounds=bounds,
                x_scale="jac",
                tr_solver=how,
                ftol=change,
                xtol=1e-7,
                max_nfev=max_evaluations,
            )

        try:
            return found("exact")
        except np.linalg.LinAlgError:
            # LAPACK's divide and conquer fails to converge on a few well-conditioned matrices.
            return found("lsmr")

    def fit_at(self, vector: Array, *, costs: tuple[float, ...], evaluations: int) -> Fit:
        """Assemble the fit that ended at `vector`."""
        figures, slopes, sensitivities = self.evaluate(vector)
        weights, bend, information, leverages = self.solved(figures, slopes)
        errors = self.errors(figures)
        noise, noises = self.data.noise(errors, leverages), self.data.noises(errors, leverages)
        found = self.data.of_rows(noises) if noises else np.full(len(errors), noise)
        known = information * (found / self.data.expected)[:, None]
        prior = np.diag(1 / self.design.widths[self.free] ** 2)
        departures = (vector - self.design.centres)[self.free] / self.design.widths[self.free] ** 2
        downhill = information.T @ _weighed(errors, weights) + departures
        step = np.zeros(len(vector))
        step[self.free] = bend @ downhill
        return Fit(
            design=self.design,
            vector=vector,
            predicted=figures,
            errors=figures - self.measured,
            settled=figures - self.measured - slopes @ step,
            fitted=self.data.indices,
            slopes=slopes,
            sensitivities=sensitivities,
            weights=weights,
            noise=noise,
            noises=noises,
            bend=self._spread(bend),
            # Exact for factors drawn from the priors and figures with errors of `noise`.
            covariance=self._spread(bend @ (known.T @ known + prior) @ bend),
            costs=costs,
            evaluations=evaluations,
        )


def _weighed(numbers: Array, weights: Array) -> Array:
    """Numbers times their weights; 0 where the weight is 0, even for one that is not finite."""
    with np.errstate(invalid="ignore"):
        return np.where(weights == 0, 0.0, numbers * weights)


def _robust(plain: Array) -> tuple[Array, Array]:
    """Residuals whose squares are the pseudo-Huber loss, and their derivatives by the plain ones.

    The loss is 2·(√(1 + r²) − 1), so the residual is its root with the sign of r.
    """
    # Too long a step may make a figure infinite: the caller refuses what is not finite.
    with np.errstate(invalid="ignore", over="ignore"):
        grown = np.sqrt(1 + plain**2)
        # √(2(g − 1)) = |r|·√(2/(g + 1)), which does not cancel near 0.
        shrink = np.sqrt(2 / (grown + 1))
        return plain * shrink, 1 / (grown * shrink)
