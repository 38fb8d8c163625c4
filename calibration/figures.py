"""Figures of a fit: predicted against measured, errors by group, factors with their errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, NullFormatter

from sweep.engines.calibration_file import IDEAL_NAME
from sweep.errors import SpecError
from sweep.files.netcdf import open_lazily
from sweep.specs.seal import fault_of_seal

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
        fault = fault_of_seal(path, needed=False)
        if fault:
            raise SpecError(f"{path}: {fault}; fit it again or copy it again")
        with open_lazily(path) as found:
            fit = found.load()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SpecError(
            f"{path}: not the NetCDF file of a fit: {reason:.200}; llm-calibrate fit writes one"
        ) from None
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
    indices = {name: index for index, name in enumerate(order)}
    axes.axvspan(-20, 25, color="0.93", zorder=0, label="20 % low to 25 % high")
    axes.axvline(0, color="0.2", lw=1, zorder=1)
    few = [(e, indices[name]) for name, es in groups.items() if es.size <= FEW for e in es]
    many = {name: es for name, es in groups.items() if es.size > FEW}
    if few:
        shown, heights = zip(*few, strict=True)
        axes.plot(shown, heights, "D", color="#D55E00", mec="0.1", ms=6, label="single rows")
    if many:
        spans = np.asarray([np.quantile(es, [0.05, 0.25, 0.5, 0.75, 0.95]) for es in many.values()])
        at = [indices[name] for name in many]
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
    rate = fit["metric"].values.astype(str) == "output_throughput"
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
    indices = np.arange(len(pooled))[::-1]
    shown = np.ones(len(pooled))
    axes.errorbar(
        shown,
        indices,
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
    axes.set_yticks(indices, labels)
    axes.set_xlabel("90 % interval over the value")
    axes.set_title("Pooled factors")
    axes.grid(axis="x", which="both", alpha=0.3)


METRICS = {
    "output_throughput": ("output throughput", "tokens/s", 1.0),
    "ttft": ("time to first token", "ms", 1e3),
    "tpot": ("time per output token", "ms", 1e3),
    "power": ("power of one GPU", "W", 1.0),
    "energy_per_output_token": ("energy per output token", "J", 1.0),
}
"""Name of each metric, the unit shown, and its factor from SI units."""
MANY = 40
"""Points above which intervals would hide one another. [count]"""


def draw_predictions(frame: pd.DataFrame, calibration: str) -> Figure:
    """Draw predicted against measured, one panel for each metric, doubtful rows hollow.

    Args:
        frame: Rows of `calibration.validation.predictions.predictions`.
        calibration: Name of the calibration, `ideal` for bounds.

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
    by = "bounds" if calibration == IDEAL_NAME else f"predicted by {calibration}"
    figure.suptitle(f"{by}, against measured")
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
            measured,
            predicted,
            yerr=np.vstack([below, above]),
            fmt="none",
            ecolor="0.7",
            zorder=1,
            label="90 % interval",
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
        usual = LogLocator(subs=(1, 2, 5) if ends[1] < 100 * ends[0] else (1,))
        # Ends close to each other have hardly a tick of these between them.
        axis.set_major_locator(MaxNLocator(5) if ends[1] < 3 * ends[0] else usual)
        axis.set_major_formatter("{x:,.6g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"measured {name} ({unit})")
    axes.set_ylabel(f"predicted {name} ({unit})")
    axes.set_title("dashed: 20 % low, 25 % high", fontsize="medium")
    axes.legend(loc="best")
