"""Figures of a fit: predicted against measured, errors by group, factors with their errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sweep.errors import SpecError
from sweep.specs.seal import fault_of_seal

GROUPS = {"hardware": "accelerator", "model": "model", "engine_version": "engine version"}
"""Columns by which errors can be shown, with their names in a figure."""


def draw(path: Path, *, by: str = "hardware") -> Figure:
    """Draw predicted against measured, errors by group and factors, side by side.

    Args:
        path: A NetCDF file that `fit` wrote.
        by: Column to show errors by, one of `GROUPS`.

    Raises:
        SpecError: The file is not the NetCDF file of a fit.
    """
    try:
        fault = fault_of_seal(path, needed=False)
        if fault:
            raise SpecError(f"{path}: {fault}; fit it again or copy it again")
        with xr.open_dataset(path, engine="netcdf4") as found:
            fit = found.load()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SpecError(f"{path}: not the NetCDF file of a fit: {reason:.200}") from None
    if not {"estimate", "predicted", "measured", "left_out_residual", by} <= set(fit.data_vars):
        raise SpecError(f"{path}: not the NetCDF file of a fit; llm-calibrate fit writes one")
    figure = Figure(figsize=(19, 6.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    scatter(left, fit)
    errors_by(middle, fit, by)
    forest(right, fit)
    return figure


def errors_by(axes: Any, fit: xr.Dataset, by: str) -> None:
    """Draw the errors of rows whose configuration was left out, by group, the largest on top."""
    labels, errors = fit[by].values.astype(str), np.expm1(fit.left_out_residual.values)
    known = np.isfinite(errors)
    groups = {name: errors[known & (labels == name)] for name in np.unique(labels[known])}
    spans = {
        name: np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]) for name, values in groups.items()
    }
    order = sorted(groups, key=lambda name: np.abs(spans[name]).max())
    shown = 100 * np.asarray([spans[name] for name in order])
    places = np.arange(len(order))
    axes.axvspan(-20, 25, color="0.93", zorder=0, label="20 % low to 25 % high")
    axes.axvline(0, color="0.2", lw=1, zorder=1)
    axes.hlines(places, shown[:, 0], shown[:, 4], color="#0072B2", lw=1.5, label="90 % of rows")
    axes.hlines(places, shown[:, 1], shown[:, 3], color="#0072B2", lw=6, label="half of rows")
    axes.plot(shown[:, 2], places, "o", color="#E69F00", mec="0.1", ms=7, label="median")
    axes.set_yticks(places, [f"{name} ({len(groups[name])})" for name in order])
    axes.set_xlabel("error of the prediction (% of the measured figure)")
    axes.set_title(f"Errors by {GROUPS[by]} (rows), own configuration left out")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=4, frameon=False)


def scatter(axes: Any, fit: xr.Dataset) -> None:
    """Draw predicted against measured throughputs."""
    rate = fit["metric"].values.astype(str) == "output_throughput"
    measured, predicted = fit.measured.values[rate], fit.predicted.values[rate]
    axes.plot(
        measured,
        predicted,
        ".",
        ms=3 if len(measured) > 200 else 8,
        alpha=0.4,
        color="#0072B2",
        label="rows",
    )
    ends = np.asarray([np.nanmin(measured), np.nanmax(measured)])
    axes.plot(ends, ends, "-", lw=1, color="0.2", label="equal")
    for factor in (0.8, 1.25):
        axes.plot(ends, ends * factor, "--", lw=0.8, color="0.5")
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("measured output throughput (tokens/s)")
    axes.set_ylabel("predicted output throughput (tokens/s)")
    axes.set_title("Predicted against measured; dashed: 20 % low, 25 % high")
    axes.legend(loc="upper left")


def forest(axes: Any, fit: xr.Dataset) -> None:
    """Draw 90 % intervals of the pooled factors, each relative to its value."""
    pooled = [i for i, name in enumerate(fit.parameter.values) if "[" not in str(name)]
    values = np.exp(fit.estimate.values[pooled])
    errors = 1.645 * fit.standard_error.values[pooled]
    places = np.arange(len(pooled))[::-1]
    shown = np.ones(len(pooled))
    axes.errorbar(
        shown,
        places,
        xerr=[1 - np.exp(-errors), np.exp(errors) - 1],
        fmt="o",
        color="#D55E00",
        ecolor="0.3",
        capsize=3,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    labels = [
        f"{fit.parameter.values[i]} = {value:.3g}" for i, value in zip(pooled, values, strict=True)
    ]
    axes.set_yticks(places, labels)
    axes.set_xlabel("90 % interval over the value")
    axes.set_title("Pooled factors")
    axes.grid(axis="x", which="both", alpha=0.3)


METRICS = {
    "output_throughput": ("output throughput", "tokens/s", 1.0),
    "ttft": ("time to first token", "ms", 1e3),
    "tpot": ("time per output token", "ms", 1e3),
}
"""Name of each metric, the unit shown, and its factor from SI units."""
MANY = 40
"""Points above which intervals would hide one another. [count]"""


def draw_predictions(frame: pd.DataFrame) -> Figure:
    """Draw predicted against measured, one panel for each metric, doubtful rows hollow.

    Args:
        frame: Rows of `calibration.validation.predictions.predictions`.

    Raises:
        SpecError: No row states what was measured.
    """
    known = frame[frame["value"].notna() & frame["predicted"].notna()]
    metrics = [metric for metric in METRICS if (known["metric"] == metric).any()]
    if not metrics:
        raise SpecError(
            "no row states a measured figure, so there is nothing to compare; drop "
            "--picture, or give the column value"
        )
    figure = Figure(figsize=(1 + 5 * len(metrics), 5.6), layout="constrained")
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        _panel(axes, known[known["metric"] == metric], metric)
    return figure


def _panel(axes: Any, rows: pd.DataFrame, metric: str) -> None:
    name, unit, factor = METRICS[metric]
    sure = (rows["quality"] == "ok").to_numpy()
    measured = factor * rows["value"].to_numpy(float)
    predicted = factor * rows["predicted"].to_numpy(float)
    if "lower" in rows and len(rows) <= MANY:
        below = predicted - factor * rows["lower"].to_numpy(float)
        above = factor * rows["upper"].to_numpy(float) - predicted
        axes.errorbar(
            measured, predicted, yerr=np.vstack([below, above]), fmt="none", ecolor="0.7", zorder=1
        )
    size = 6 if len(rows) <= MANY else 4
    for where, fill, label in (
        (sure, "#0072B2", "quality ok"),
        (~sure, "none", "doubtful or suspect"),
    ):
        if where.any():
            axes.plot(
                measured[where],
                predicted[where],
                "o",
                ms=size,
                mfc=fill,
                mec="#0072B2",
                label=label,
            )
    ends = np.asarray([min(measured.min(), predicted.min()), max(measured.max(), predicted.max())])
    ends = ends * [0.8, 1.25]
    axes.plot(ends, ends, "-", lw=1, color="0.2", label="equal")
    for wrong in (0.8, 1.25):
        axes.plot(ends, ends * wrong, "--", lw=0.8, color="0.5")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        # Steps of 1, 2 and 5 overlap beyond two decades.
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ends[1] < 100 * ends[0] else (1,)))
        axis.set_major_formatter("{x:,.6g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"measured {name} ({unit})")
    axes.set_ylabel(f"predicted {name} ({unit})")
    axes.set_title("dashed: 20 % low, 25 % high", fontsize="medium")
    axes.legend(loc="upper left")
