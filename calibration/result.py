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

from calibration.coverage import by_scenario, halfwidths, left_out_errors, ranges
from calibration.dataset import Table
from calibration.forward import Forward
from calibration.judgement import (
    RESOURCES,
    SENSITIVE,
    directions,
    regimes,
    rows_by_regime,
    sensitive_rows,
    told_together,
    verdicts,
)
from calibration.parameters import SETTINGS, Array, Parameter, design
from calibration.solver import Fit, solve
from calibration.spreads import groups_of, spreads
from calibration.validation import summary
from sweep.dataset import package_version
from sweep.efficiency import FACTORS
from sweep.fitted import ATTRIBUTE, Figure, FittedEfficiency
from sweep.netcdf import check_writable, replacing
from sweep.traits import version_of

STARTS = 3
"""Points that a fit starts from: the priors' centres, and two draws from the priors. The shipped
rows have several minima, within a hundredth of one another's cost. [count]"""

ROW_LABELS = ("scenario", "model", "hardware", "engine_version", "metric")
"""Columns of the rows that the NetCDF file of a fit keeps."""


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
    free: Sequence[str] = (),
    starts: int = STARTS,
) -> Calibration:
    """Fit the efficiency factors to all rows of `table`.

    Args:
        table: The rows.
        name: What to call the result.
        prior: A fit whose result is the prior of this one.
        suspects: Rows that were left out, for the record. [count]
        free: Patterns of the parameters to fit; all if empty, see `parameters.chosen`.
        starts: Points to start from. [count]

    Raises:
        SpecError: A pattern names no parameter, or the prior lies beyond what is physical.
    """
    centres = None if prior is None else centres_of(prior)
    layout = design(table.traits, centres=centres, free=free)
    forward = Forward(table.groups, FACTORS)
    usable = np.flatnonzero(np.isfinite(table.measured))
    fit = solve(forward, layout, table.measured, usable, table.weights, starts=starts)
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
    centre = float(np.log(figure.value)) if figure.value > 0 else -np.inf
    return centre, max(figure.standard_error or 0.1, 0.01)


def standard_errors(fit: Fit) -> Array:
    """Of each parameter; that of its prior where it was not free."""
    return np.where(fit.design.free, np.sqrt(np.diag(fit.covariance)), fit.design.widths)


def _as_fitted(
    table: Table,
    fit: Fit,
    left_out: Array,
    name: str,
    prior: FittedEfficiency | None,
    suspects: int,
) -> FittedEfficiency:
    factors = dict(prior.factors) if prior else {}
    deviations: dict[str, Any] = (
        {f: {t: dict(lv) for t, lv in ts.items()} for f, ts in prior.deviations.items()}
        if prior
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
    rows = table.rows
    engines = Counter(row.engine for row in rows)
    engine = engines.most_common(1)[0][0]
    versions = sorted({r.engine_version for r in rows if r.engine == engine}, key=version_of)
    seen = {
        "hardware": sorted({r.hardware for r in rows} | _seen(prior, "hardware")),
        "model": sorted({r.model for r in rows} | _seen(prior, "model")),
        "dtype": sorted({t.dtype for t in table.traits} | _seen(prior, "dtype")),
        "family": sorted({*table.families} | _seen(prior, "family")),
    }
    scenarios = np.asarray([row.scenario for row in rows])
    spread = prior.spreads if prior else spreads(groups_of(table), scenarios, left_out)
    return FittedEfficiency(
        name=name,
        engine=engine,
        engine_version=versions[-1],
        provenance={
            "made_by": f"llm-sweep {package_version()}",
            "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rows": len(fit.fitted),
            "suspect_rows_left_out": suspects,
            "rows_set_aside": [rows[place].id for place in fit.set_aside],
            "parameters": len(fit.design.parameters),
            "free_parameters": int(fit.design.free.sum()),
            "effective_parameters": round(fit.effective_parameters, 1),
            "noise": round(fit.noise, 4),
            "costs_of_starts": [round(cost, 3) for cost in fit.costs],
            "rows_waiting_longest_for": rows_by_regime(fit),
            "told_only_together": told_together(fit),
            "errors_without_own_configuration": {
                scenario: {
                    k: round(v, 4)
                    for k, v in summary(left_out[where], table.measured[where]).items()
                }
                for scenario, where in by_scenario(table).items()
            },
            **({"prior": f"{prior.name} {prior.digest}"} if prior else {}),
        },
        factors=factors,
        deviations=deviations,
        settings=SETTINGS,
        halfwidths=halfwidths(table, fit, prior.halfwidths if prior else None, spread),
        spreads=spread,
        seen=seen,
        ranges=ranges(table, prior.ranges if prior else {}),
    )


def _seen(prior: FittedEfficiency | None, what: str) -> set[str]:
    return set(prior.seen.get(what, [])) if prior else set()


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
    lines += [
        "",
        "# Value, error of its logarithm, and what the rows say of it.",
        _heading("factors", data),
    ]
    lines += [f"  {name}: {_flow(figure)}" for name, figure in data["factors"].items()]
    lines += ["", "# Multiples of the pooled value.", _heading("deviations", data)]
    for factor, traits in data["deviations"].items():
        lines.append(f"  {factor}:")
        for trait, levels in traits.items():
            lines.append(f"    {trait}:")
            lines += [f"      {json.dumps(k)}: {_flow(v)}" for k, v in levels.items()]
    for part in ("settings", "halfwidths", "seen"):
        lines += ["", yaml.safe_dump({part: data[part]}, sort_keys=False, width=100).rstrip()]
    lines += ["", "# Width of intervals over the usual.", _heading("spreads", data)]
    lines += [f"  {by}: {_flow(levels)}" for by, levels in data["spreads"].items()]
    lines += ["", "# Lowest and highest that the rows held.", _heading("ranges", data)]
    for scenario, spans in data["ranges"].items():
        lines.append(f"  {scenario}: {_flow(spans)}")
    return "\n".join([*lines, ""])


def _heading(name: str, data: dict[str, Any]) -> str:
    return f"{name}:" if data[name] else f"{name}: {{}}"


def _flow(figure: dict[str, Any]) -> str:
    text = yaml.safe_dump(figure, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip()


def as_dataset(calibration: Calibration) -> xr.Dataset:
    """Parameters, covariance, observations and residuals, labelled.

    `direction` goes from the combination of pooled factors that the rows tell least to the one
    they tell best, in units of the widths of the priors and with deviations taken out.
    """
    fit, table = calibration.fit, calibration.table
    names = [parameter.name for parameter in fit.design.parameters]
    rows = [row.id for row in table.rows]
    fitted = np.zeros(len(rows), np.int8)
    fitted[fit.fitted] = 1

    pooled, singular, loadings = directions(fit)

    def entry(dims: str | Sequence[str], values: Array, long_name: str, units: str = "1") -> Any:
        return dims, values, {"long_name": long_name, "units": units}

    def label(column: str) -> Any:
        values = [str(getattr(row, column)) for row in table.rows]
        return "row", values, {"long_name": column.replace("_", " ")}

    dataset = xr.Dataset(
        {
            "estimate": entry("parameter", fit.vector, "logarithm of the parameter"),
            "standard_error": entry("parameter", standard_errors(fit), "its standard error"),
            "covariance": entry(("parameter", "parameter_2"), fit.covariance, "covariance"),
            "measured": entry("row", np.exp(table.measured), "measured figure"),
            "predicted": entry("row", np.exp(fit.predicted), "predicted figure"),
            "residual": entry("row", fit.errors, "logarithm of predicted over measured"),
            "left_out_residual": entry(
                "row", calibration.left_out, "the same, had its configuration been left out"
            ),
            "fitted": entry("row", fitted, "1 where the fit used the row"),
            "regime": (
                "row",
                regimes(fit),
                {
                    "long_name": "resource that the row waits for longest",
                    "flag_values": np.arange(len(RESOURCES), dtype=np.int8),
                    "flag_meanings": " ".join(RESOURCES),
                },
            ),
            "sensitive_rows": entry(
                "parameter",
                sensitive_rows(fit).astype(np.int32),
                f"fitted rows that move by {SENSITIVE:.0%} of what the parameter does, or more",
            ),
            "singular_value": entry(
                "direction",
                singular,
                "what the rows tell of a combination of pooled factors over what its prior does",
            ),
            "loading": entry(
                ("direction", "factor"), loadings, "share of a pooled factor in a combination"
            ),
            **{column: label(column) for column in ROW_LABELS},
        },
        {
            "parameter": ("parameter", names, {"long_name": "parameter"}),
            "parameter_2": ("parameter_2", names, {"long_name": "parameter"}),
            "row": ("row", rows, {"long_name": "measurement"}),
            "factor": ("factor", np.asarray(pooled, str), {"long_name": "pooled factor"}),
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
