"""A finished fit: what it found, how sure it is, and the files that carry it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from calibration.dataset import Table
from calibration.forward import Forward
from calibration.parameters import SETTINGS, Array, Parameter, design
from calibration.solver import Fit, solve
from calibration.validation import summary
from sweep.dataset import package_version
from sweep.efficiency import FACTORS
from sweep.fitted import ATTRIBUTE, INTERVAL, Figure, FittedEfficiency
from sweep.netcdf import check_writable, replacing
from sweep.traits import version_of

DETERMINED, UNDETERMINED = 0.5, 0.9
"""Error of a parameter over the width of its prior, below which the rows determine it and above
which they say next to nothing. [1]"""


@dataclass(frozen=True)
class Calibration:
    """A fit, and what it says in the form that sweeps read.

    Attributes:
        table: The rows.
        fit: What the fit found.
        fitted: The efficiency.
        left_out: Logarithmic error of each row if its configuration were left out.
    """

    table: Table
    fit: Fit
    fitted: FittedEfficiency
    left_out: Array


def calibrate(
    table: Table,
    *,
    name: str,
    prior: FittedEfficiency | None = None,
    suspects: int = 0,
) -> Calibration:
    """Fit the efficiency factors to all rows of `table`.

    Args:
        table: The rows.
        name: What to call the result.
        prior: A fit whose result is the prior of this one.
        suspects: Rows that were left out, for the record. [count]
    """
    forward = Forward(table.groups, FACTORS)
    layout = design(table.traits, centres=None if prior is None else centres_of(prior))
    usable = np.flatnonzero(np.isfinite(table.measured))
    fit = solve(forward, layout, table.measured, usable, table.weights)
    left_out = left_out_errors(fit, table.labels("configuration"))
    fitted = _as_fitted(table, fit, left_out, name, prior, suspects)
    return Calibration(table, fit, fitted, left_out)


def centres_of(prior: FittedEfficiency) -> dict[str, tuple[float, float]]:
    """What a fit found, as centres and widths of priors."""
    found: dict[str, tuple[float, float]] = {}
    for factor, figure in prior.factors.items():
        found[factor] = _centre(figure)
    for factor, traits in prior.deviations.items():
        for trait, levels in traits.items():
            for level, figure in levels.items():
                found[Parameter(factor, trait, level, 0, 1).name] = _centre(figure)
    return found


def _centre(figure: Figure) -> tuple[float, float]:
    return float(np.log(figure.value)), max(figure.standard_error or 0.1, 0.01)


def left_out_errors(fit: Fit, labels: Array) -> Array:
    """Logarithmic errors of the rows of each group, had the fit not seen the group.

    By the straight lines through the optimum: with H the influence of a group's measurements on
    its own predictions, its errors grow to (I − H)⁻¹ of what they are.
    """
    errors = fit.errors.copy()
    slopes = fit.slopes[fit.fitted].toarray()
    groups = labels[fit.fitted]
    for name in np.unique(groups):
        members = np.flatnonzero(groups == name)
        own = slopes[members]
        influence = own @ fit.covariance @ own.T * fit.weights[members] ** 2
        places = fit.fitted[members]
        errors[places] = np.linalg.solve(np.eye(len(members)) - influence, fit.errors[places])
    return errors


def verdict(parameter: Parameter, error: float) -> str:
    """What the rows say of a parameter, by how much narrower than its prior it became."""
    share = error / parameter.width
    if share < DETERMINED:
        return "determined"
    return "prior-dominated" if share < UNDETERMINED else "undetermined"


def _as_fitted(
    table: Table,
    fit: Fit,
    left_out: Array,
    name: str,
    prior: FittedEfficiency | None,
    suspects: int,
) -> FittedEfficiency:
    errors = np.sqrt(np.diag(fit.covariance))
    factors = dict(prior.factors) if prior else {}
    deviations: dict[str, Any] = (
        {f: {t: dict(lv) for t, lv in ts.items()} for f, ts in prior.deviations.items()}
        if prior
        else {}
    )
    for parameter, value, error in zip(fit.design.parameters, fit.vector, errors, strict=True):
        figure = Figure(
            value=float(f"{np.exp(value):.5g}"),
            standard_error=float(f"{error:.3g}"),
            verdict=verdict(parameter, error),
        )
        if parameter.trait:
            levels = deviations.setdefault(parameter.factor, {}).setdefault(parameter.trait, {})
            levels[parameter.level] = figure
        else:
            factors[parameter.factor] = figure
    rows = table.rows
    engines = Counter(row.engine for row in rows)
    engine = engines.most_common(1)[0][0]
    versions = sorted({r.engine_version for r in rows if r.engine == engine}, key=version_of)
    seen = {
        "hardware": sorted({r.hardware for r in rows} | _seen(prior, "hardware")),
        "model": sorted({r.model for r in rows} | _seen(prior, "model")),
        "dtype": sorted({t.dtype for t in table.traits} | _seen(prior, "dtype")),
    }
    return FittedEfficiency(
        name=name,
        engine=engine,
        engine_version=versions[-1],
        provenance={
            "made_by": f"llm-sweep {package_version()}",
            "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rows": len(fit.fitted),
            "suspect_rows_left_out": suspects,
            "parameters": len(fit.design.parameters),
            "effective_parameters": round(fit.effective_parameters, 1),
            "errors_without_own_configuration": {
                scenario: {k: round(v, 4) for k, v in summary(left_out[where]).items()}
                for scenario, where in _by_scenario(table).items()
            },
            **({"prior": f"{prior.name} {prior.digest}"} if prior else {}),
        },
        factors=factors,
        deviations=deviations,
        settings=SETTINGS,
        halfwidths=_halfwidths(table, fit, left_out, prior),
        seen=seen,
    )


def _seen(prior: FittedEfficiency | None, what: str) -> set[str]:
    return set(prior.seen.get(what, [])) if prior else set()


def _by_scenario(table: Table) -> dict[str, Array]:
    scenarios = np.asarray([row.scenario for row in table.rows])
    return {str(name): np.flatnonzero(scenarios == name) for name in np.unique(scenarios)}


def _halfwidths(
    table: Table, fit: Fit, left_out: Array, prior: FittedEfficiency | None
) -> dict[str, dict[str, float]]:
    """Half-widths that would have held 90 % of the rows, each predicted without its own kind.

    Conformal: the quantile of absolute errors, one further than the share of n + 1 rows.
    """
    found: dict[str, dict[str, float]] = dict(prior.halfwidths) if prior else {}
    errors = {
        "seen": left_out,
        "unseen_hardware": left_out_errors(fit, table.labels("hardware")),
        "unseen_model": left_out_errors(fit, table.labels("model")),
    }
    for scenario, where in _by_scenario(table).items():
        if prior and scenario in found:
            continue
        found[scenario] = {}
        for what, values in errors.items():
            known = np.abs(values[where][np.isfinite(values[where])])
            if len(known) == 0:
                continue
            share = min(np.ceil((len(known) + 1) * INTERVAL) / len(known), 1.0)
            width = float(np.quantile(known, share))
            found[scenario][what] = round(max(width, found[scenario].get("seen", 0.0)), 4)
    return found


# Files.


def save(calibration: Calibration, path: Path, *, force: bool) -> Path:
    """Write the fit as NetCDF, and beside it the twin that a person can read.

    Returns:
        The path of the plain text.

    Raises:
        ResultError: A file cannot be written, or exists.
    """
    twin = path.with_suffix(".yaml")
    for file in (path, twin):
        check_writable(file, force=force)
    with replacing(path) as beside:
        as_dataset(calibration).to_netcdf(beside, engine="netcdf4", format="NETCDF4")
    with replacing(twin) as beside:
        beside.write_text(as_text(calibration.fitted), encoding="utf-8")
    return twin


def as_text(fitted: FittedEfficiency) -> str:
    """The plain-text twin: one line for each figure."""
    data = fitted.model_dump(mode="json", exclude_none=True)
    lines = ["# Fitted efficiency factors; read by llm-sweep run --efficiency FILE.", ""]
    head = {k: data[k] for k in ("name", "engine", "engine_version", "provenance")}
    lines.append(yaml.safe_dump(head, sort_keys=False, width=100).rstrip())
    lines += ["", "# Value, error of its logarithm, and what the rows say of it.", "factors:"]
    lines += [f"  {name}: {_flow(figure)}" for name, figure in data["factors"].items()]
    lines += ["", "# Multiples of the pooled value.", "deviations:"]
    for factor, traits in data["deviations"].items():
        lines.append(f"  {factor}:")
        for trait, levels in traits.items():
            lines.append(f"    {trait}:")
            lines += [f"      {json.dumps(k)}: {_flow(v)}" for k, v in levels.items()]
    tail = {k: data[k] for k in ("settings", "halfwidths", "seen")}
    lines += ["", yaml.safe_dump(tail, sort_keys=False, width=100).rstrip(), ""]
    return "\n".join(lines)


def _flow(figure: dict[str, Any]) -> str:
    text = yaml.safe_dump(figure, default_flow_style=True, sort_keys=False, width=200)
    return text.strip()


def as_dataset(calibration: Calibration) -> xr.Dataset:
    """Parameters, covariance, observations and residuals, labelled."""
    fit, table = calibration.fit, calibration.table
    names = [parameter.name for parameter in fit.design.parameters]
    rows = [row.id for row in table.rows]
    fitted = np.zeros(len(rows), np.int8)
    fitted[fit.fitted] = 1

    def entry(dims: str | Sequence[str], values: Array, long_name: str, units: str = "1") -> Any:
        return dims, values, {"long_name": long_name, "units": units}

    dataset = xr.Dataset(
        {
            "estimate": entry("parameter", fit.vector, "logarithm of the parameter"),
            "standard_error": entry(
                "parameter", np.sqrt(np.diag(fit.covariance)), "its standard error"
            ),
            "covariance": entry(("parameter", "parameter_2"), fit.covariance, "covariance"),
            "measured": entry("row", np.exp(table.measured), "measured figure"),
            "predicted": entry("row", np.exp(fit.predicted), "predicted figure"),
            "residual": entry("row", fit.errors, "logarithm of predicted over measured"),
            "left_out_residual": entry(
                "row", calibration.left_out, "the same, had its configuration been left out"
            ),
            "fitted": entry("row", fitted, "1 where the fit used the row"),
        },
        {
            "parameter": ("parameter", names, {"long_name": "parameter"}),
            "parameter_2": ("parameter_2", names, {"long_name": "parameter"}),
            "row": ("row", rows, {"long_name": "measurement"}),
        },
    )
    dataset.attrs = {
        "Conventions": "CF-1.11",
        "title": f"Efficiency factors {calibration.fitted.name}",
        "source": f"llm-sweep {package_version()}",
        "digest": calibration.fitted.digest,
        ATTRIBUTE: json.dumps(calibration.fitted.model_dump(mode="json", exclude_none=True)),
    }
    return dataset
