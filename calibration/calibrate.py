"""A complete fit: factors with errors and verdicts, intervals, and provenance as a calibration."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calibration.fit.forward import Forward
from calibration.fit.parameters import Array, Parameter, design, priors_of, settings_of
from calibration.fit.solver import Fit, solve
from calibration.fit.table import Table
from calibration.fit.verdicts import (
    constrained_together,
    drivers,
    rows_by_regime,
    verdicts,
)
from calibration.measurements.table import Measurement
from calibration.validation.conformal import ENOUGH
from calibration.validation.group_spreads import groups_of, multiples
from calibration.validation.half_widths import by_scenario, left_out_errors
from calibration.validation.held_out import summary
from calibration.validation.intervals import interval_parts
from calibration.validation.quoted_errors import LEFT_OUT, quoted_errors
from calibration.validation.ratios import RatioErrors, ratio_errors
from sweep.engines.calibration_file import Calibration, Figure
from sweep.engines.traits import Traits
from sweep.engines.versions import version_order
from sweep.grid.dataset import package_version
from sweep.kernel.factors import FACTORS

STARTS = 2
"""Points that a fit starts from: the priors' centres, and a draw from the priors. The shipped
rows have several minima, within a hundredth of one another's cost. [count]"""


@dataclass(frozen=True)
class FitResult:
    """A fit and the calibration made of it.

    Attributes:
        table: The rows.
        fit: Parameters with their errors.
        calibration: Factors, deviations and intervals in the form that sweeps read.
        left_out: Logarithmic error of each row, had its configuration been left out. [1]
    """

    table: Table
    fit: Fit
    calibration: Calibration
    left_out: Array


def calibrate(
    table: Table,
    *,
    name: str,
    start_from: Calibration | None = None,
    suspects: int = 0,
    free: Sequence[str] = (),
    starts: int = STARTS,
) -> FitResult:
    """Fit the efficiency factors to all rows of `table`.

    Args:
        table: The rows.
        name: Name of the calibration.
        start_from: A calibration whose factors and errors are the priors of this fit.
        suspects: Suspect rows that were left out, for the provenance. [count]
        free: Patterns of the parameters to fit; all if empty, see `parameters.chosen`.
        starts: Points to start from. [count]

    Raises:
        SpecError: A pattern names no parameter, or a factor of `start_from` is outside its bounds.
    """
    centres = None if start_from is None else centres_of(start_from)
    layout = design(table.traits, priors=priors_of(table.figures), centres=centres, free=free)
    forward = Forward(table.groups, FACTORS)
    usable = np.flatnonzero(np.isfinite(table.measured))
    fit = solve(
        forward,
        layout,
        table.measured,
        usable,
        table.weights,
        starts=starts,
        kinds=table.kinds,
        expected=table.expected_noise,
    )
    left_out = left_out_errors(fit, table.labels("configuration"))
    everything = np.arange(len(table.rows))
    calibration = _as_calibration(table, fit, left_out, name, start_from, suspects, everything)
    return FitResult(table, fit, calibration, left_out)


def of_each_engine(result: FitResult) -> list[Calibration]:
    """Calibrations of the engines of a joint fit: its factors, and each engine's own intervals.

    Factors of accelerators are shared by all; levels of other engines' versions are left out, and
    an accelerator or model counts as seen where the engine's own rows have it.
    """
    found = []
    engines = np.asarray([row.engine for row in result.table.rows])
    for engine in np.unique(engines).tolist():
        indices = np.flatnonzero(engines == engine)
        own = _as_calibration(result.table, result.fit, result.left_out, engine, None, 0, indices)
        if not own.ratios:
            joint = result.calibration
            shares = {"ratios": joint.ratios, "ratio_spreads": joint.ratio_spreads}
            own = own.model_copy(update=shares)
        found.append(_without_others(own, [result.table.traits[index] for index in indices]))
    return found


OF_ENGINES = ("era", "version", "attention", "decoding", "expert_kernel")
"""Traits whose levels belong to one engine."""


def _without_others(calibration: Calibration, traits: Sequence[Traits]) -> Calibration:
    """The calibration without deviations of levels that none of `traits` has."""
    deviations = {
        factor: {
            trait: {
                level: figure
                for level, figure in levels.items()
                if trait not in OF_ENGINES or level in {getattr(each, trait) for each in traits}
            }
            for trait, levels in by_trait.items()
        }
        for factor, by_trait in calibration.deviations.items()
    }
    return calibration.model_copy(update={"deviations": deviations})


def centres_of(calibration: Calibration) -> dict[str, tuple[float, float]]:
    """Centres and widths of the priors that a calibration implies, by parameter."""
    found: dict[str, tuple[float, float]] = {}
    for factor, figure in calibration.factors.items():
        found[factor] = _centre(figure)
    for factor, traits in calibration.deviations.items():
        for trait, levels in traits.items():
            for level, figure in levels.items():
                found[Parameter(factor, trait, level, 0, 1).name] = _centre(figure)
    return found


def _centre(figure: Figure) -> tuple[float, float]:
    centre = float(np.log(figure.value)) if figure.value > 0 else -np.inf
    return centre, max(figure.standard_error or 0.1, 0.01)


def standard_errors(fit: Fit) -> Array:
    """Standard error of each parameter; the width of its prior where it was not free. [1]"""
    return np.where(fit.design.free, np.sqrt(np.diag(fit.covariance)), fit.design.widths)


def _as_calibration(
    table: Table,
    fit: Fit,
    left_out: Array,
    name: str,
    start_from: Calibration | None,
    suspects: int,
    indices: Array,
) -> Calibration:
    """The calibration of the rows at `indices`, from a fit that may have had more."""
    factors = dict(start_from.factors) if start_from else {}
    deviations: dict[str, Any] = (
        {f: {t: dict(lv) for t, lv in ts.items()} for f, ts in start_from.deviations.items()}
        if start_from
        else {}
    )
    for parameter, value, error, word in zip(
        fit.design.parameters, fit.vector, standard_errors(fit), verdicts(fit), strict=True
    ):
        figure = Figure(
            value=float(f"{np.exp(value):.5g}"),
            standard_error=float(f"{error:.3g}"),
            verdict=word,
        )
        if parameter.trait:
            levels = deviations.setdefault(parameter.factor, {}).setdefault(parameter.trait, {})
            levels[parameter.level] = figure
        else:
            factors[parameter.factor] = figure
    rows = [table.rows[index] for index in indices]
    engines = Counter(row.engine for row in rows)
    engine = engines.most_common(1)[0][0]
    version = _predicted_version([r for r in rows if r.engine == engine])
    parts = interval_parts(table, fit, left_out, indices, start_from)
    without = {label: left_out_errors(fit, table.labels(label)) for label in LEFT_OUT}
    usual = multiples(parts["spreads"], groups_of(table))
    if start_from and start_from.ratios:
        ratios = RatioErrors(start_from.ratios, start_from.ratio_spreads)
    else:
        ratios = ratio_errors(table, fit, left_out, parts["halfwidths"], usual, indices)
    traits = [table.traits[index] for index in indices]
    figures = set(table.kinds[indices].tolist())
    return Calibration(
        name=name,
        engine=engine,
        engine_version=version,
        provenance={
            "made_by": f"llm-sweep {package_version()}",
            "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rows": int(np.isin(fit.fitted, indices).sum()),
            **({"rows_of_all_engines": len(fit.fitted)} if len(indices) < len(table.rows) else {}),
            "suspect_rows_left_out": suspects,
            "rows_set_aside": [table.rows[i].id for i in fit.set_aside if i in set(indices)],
            "parameters": len(fit.design.parameters),
            "free_parameters": int(fit.design.free.sum()),
            "effective_parameters": round(fit.effective_parameters, 1),
            "noise": round(fit.noise, 4),
            "noise_by_kind": {
                name: round(noise, 4) for name, noise in fit.noises.items() if name in figures
            },
            "costs_of_starts": [round(cost, 3) for cost in fit.costs],
            "rows_waiting_longest_for": rows_by_regime(fit),
            "told_only_together": constrained_together(fit),
            "rows_that_drive": drivers(fit, drivers_of(table)),
            "errors_without_own_configuration": {
                scenario: {
                    k: round(v, 4)
                    for k, v in summary(left_out[where], table.measured[where]).items()
                }
                for scenario, where in by_scenario(table, indices).items()
            },
            "errors_left_out": quoted_errors(table, indices, left_out, without),
            **({"prior": f"{start_from.name} {start_from.digest}"} if start_from else {}),
        },
        factors=factors,
        deviations=deviations,
        settings=settings_of(traits, engine, start_from),
        ratios=ratios.shares,
        ratio_spreads=ratios.spreads,
        **parts,
    )


def drivers_of(table: Table) -> Array:
    """Kind of each row by which the rows that drive a factor are summed: scenario and metric."""
    return np.asarray([f"{row.scenario} {row.metric}" for row in table.rows])


def _predicted_version(rows: Sequence[Measurement]) -> str:
    """The version that a sweep predicts: the latest with enough rows for a quantile, if any has."""
    certain = Counter(row.engine_version for row in rows if row.quality == "ok")
    enough = {version for version, count in certain.items() if count >= ENOUGH}
    return max(enough or {row.engine_version for row in rows}, key=version_order)
