"""Pictures of a fit: predicted against measured, and the factors with their errors."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sweep.errors import SpecError


def draw(path: Path) -> Figure:
    """Both pictures of the fit at `path`, side by side.

    Raises:
        SpecError: It is no NetCDF file of a fit.
    """
    try:
        with xr.open_dataset(path, engine="netcdf4") as found:
            fit = found.load()
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: not the NetCDF file of a fit: {error}") from None
    if not {"estimate", "predicted", "measured"} <= set(fit.data_vars):
        raise SpecError(f"{path}: not the NetCDF file of a fit; llm-calibrate fit writes one")
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    scatter(left, fit)
    forest(right, fit)
    return figure


def scatter(axes: Any, fit: xr.Dataset) -> None:
    """Predicted against measured throughputs, suspects of a misfit far from the diagonal."""
    rate = fit.measured.values > 1
    measured, predicted = fit.measured.values[rate], fit.predicted.values[rate]
    axes.plot(measured, predicted, ".", ms=3, alpha=0.4, color="#0072B2", label="rows")
    ends = np.asarray([np.nanmin(measured), np.nanmax(measured)])
    axes.plot(ends, ends, "-", lw=1, color="0.2", label="equal")
    for factor in (0.8, 1.25):
        axes.plot(ends, ends * factor, "--", lw=0.8, color="0.5")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("measured output throughput (tokens/s)")
    axes.set_ylabel("predicted output throughput (tokens/s)")
    axes.set_title("Predicted against measured; dashed: 20 % low, 25 % high")
    axes.legend(loc="upper left")


def forest(axes: Any, fit: xr.Dataset) -> None:
    """90 % intervals of the pooled factors, each over its value."""
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
    labels = [
        f"{fit.parameter.values[i]} = {value:.3g}" for i, value in zip(pooled, values, strict=True)
    ]
    axes.set_yticks(places, labels)
    axes.set_xlabel("90 % interval over the value")
    axes.set_title("Pooled factors")
    axes.grid(axis="x", which="both", alpha=0.3)
