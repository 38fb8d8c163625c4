"""Figures of a fit: predicted against measured, errors by group, factors with their errors."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullFormatter

from sweep.errors import SpecError

GROUPS = {"hardware": "accelerator", "model": "model", "engine_version": "engine version"}
"""Columns by which errors can be shown, with their names in a figure."""
FEW = 9
"""Rows of a group up to which each is drawn. [count]"""
RATIOS = (0.01, 0.1, 0.25, 0.5, 0.8, 1, 1.25, 2, 4, 10, 100)
"""Ticks of ratios. [1]"""
MANY = 200
"""Rows beyond which they are drawn as small points. [count]"""


def draw(path: Path, *, by: str = "hardware") -> Figure:
    """Draw predicted against measured, errors by group and factors, side by side.

    Args:
        path: A NetCDF file that `fit` wrote.
        by: Column to show errors by, one of `GROUPS`.

    Raises:
        SpecError: The file is not the NetCDF file of a fit.
    """
    try:
        with xr.open_dataset(path, engine="netcdf4") as found:
            fit = found.load()
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: not the NetCDF file of a fit: {error}") from None
    if not {"estimate", "predicted", "measured", "left_out_residual", by} <= set(fit.data_vars):
        raise SpecError(f"{path}: not the NetCDF file of a fit; llm-calibrate fit writes one")
    figure = Figure(figsize=(19, 6.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    scatter(left, fit)
    errors_by(middle, fit, by)
    forest(right, fit)
    return figure


def errors_by(axes: Any, fit: xr.Dataset, by: str) -> None:
    """Draw the errors of rows whose configuration was left out, by group, the largest on top.

    A group of at most `FEW` rows is drawn row by row, since it has no quantiles to speak of.
    """
    labels, errors = fit[by].values.astype(str), 100 * np.expm1(fit.left_out_residual.values)
    known = np.isfinite(errors)
    groups = {name: errors[known & (labels == name)] for name in np.unique(labels[known])}
    order = sorted(groups, key=lambda name: np.abs(np.quantile(groups[name], [0.05, 0.95])).max())
    places = {name: place for place, name in enumerate(order)}
    axes.axvspan(-20, 25, color="0.93", zorder=0, label="20 % low to 25 % high")
    axes.axvline(0, color="0.2", lw=1, zorder=1)
    few = [(e, places[name]) for name, es in groups.items() if es.size <= FEW for e in es]
    many = {name: es for name, es in groups.items() if es.size > FEW}
    if few:
        shown, heights = zip(*few, strict=True)
        axes.plot(shown, heights, "D", color="#D55E00", mec="0.1", ms=6, label="single rows")
    if many:
        spans = np.asarray([np.quantile(es, [0.05, 0.25, 0.5, 0.75, 0.95]) for es in many.values()])
        at = [places[name] for name in many]
        axes.hlines(at, spans[:, 0], spans[:, 4], color="#0072B2", lw=1.5, label="90 % of rows")
        axes.hlines(at, spans[:, 1], spans[:, 3], color="#0072B2", lw=6, label="half of rows")
        axes.plot(spans[:, 2], at, "o", color="#E69F00", mec="0.1", ms=7, label="median")
    axes.set_yticks(range(len(order)), [f"{name} ({groups[name].size})" for name in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlabel("error of the prediction (% of the measured figure)")
    axes.set_title(f"Errors by {GROUPS[by]} (rows), own configuration left out")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=5, frameon=False)


def scatter(axes: Any, fit: xr.Dataset) -> None:
    """Draw predicted against measured throughputs."""
    rate = fit.measured.values > 1
    measured, predicted = fit.measured.values[rate], fit.predicted.values[rate]
    many = len(measured) > MANY
    axes.plot(
        measured,
        predicted,
        "." if many else "o",
        ms=3 if many else 8,
        alpha=0.4 if many else 0.8,
        color="#0072B2",
        label="rows",
    )
    ends = np.asarray([np.nanmin(measured), np.nanmax(measured)])
    ends = ends * np.asarray([0.8, 1.25]) if len(measured) else ends
    axes.plot(ends, ends, "-", lw=1, color="0.2", label="equal")
    for factor in (0.8, 1.25):
        axes.plot(ends, ends * factor, "--", lw=0.8, color="0.5")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        # Few measurements may span less than a decade, whose only ticks are the minor ones.
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.4)))
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
    low, high = axes.get_xlim()
    ticks = [tick for tick in RATIOS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    labels = [
        f"{fit.parameter.values[i]} = {value:.3g}" for i, value in zip(pooled, values, strict=True)
    ]
    axes.set_yticks(places, labels)
    axes.set_xlabel("90 % interval over the value")
    axes.set_title("Pooled factors")
    axes.grid(axis="x", which="both", alpha=0.3)
