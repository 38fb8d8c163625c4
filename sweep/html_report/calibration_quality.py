"""Quality of the calibration behind a result: errors, intervals and factors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweep.engines.calibration_file import IDEAL_NAME, Calibration, load_calibration, recorded_name
from sweep.errors import ResultError, SpecError
from sweep.files.netcdf import open_lazily
from sweep.specs.shipped import is_shipped_calibration

ERRORS = "errors_without_own_configuration"
"""Key of the errors in a calibration's provenance."""
OBSERVED = ("measured", "predicted", "left_out_residual", "metric", "hardware")
"""Variables that a page shows from the NetCDF file of a fit."""
SHARES = (0.05, 0.5, 0.95)
SCENARIOS = {
    "static_batch": "static batches",
    "inflight": "servers",
    "inflight_ttft": "times to first token of servers",
    "inflight_power": "power of servers",
    "first_token": "times to first token of static batches",
}
COLUMNS = {
    "rows": "rows",
    "mape": "mean error",
    "median": "median error",
    "p90": "90 % of errors are below",
    "bias": "bias",
    "spearman": "rank correlation",
}
VERDICTS = {
    "prior-dominated": "mostly from the prior",
    "undetermined": "from the prior alone",
    "at bound": "at the end of its range",
}
"""Words of a page for those of a calibration file; others are the same in both."""
TIMES = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
"""Units of times, and how many of each are a second; the first in which a time is at least 1."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Quality:
    """Figures of a calibration, ready to show.

    Attributes:
        title: Its name, engine and version.
        accuracy: A row for each kind of measurement; errors on rows that the fit had not seen.
        intervals: A row for each kind of measurement; half-widths of the 90 % intervals.
        factors: A row for each pooled factor.
        groups: A row for each accelerator of the measurements, if they are known.
        measured: Output tokens per second of measurements, if they are known. [1/s]
        predicted: Predictions of the fit for the same rows. [1/s]
        hardware: Accelerators of the same rows.
    """

    title: str
    accuracy: list[Row]
    intervals: list[Row]
    factors: list[Row]
    groups: list[Row]
    measured: np.ndarray[Any, Any]
    predicted: np.ndarray[Any, Any]
    hardware: list[str]


def calibration_of(dataset: xr.Dataset, given: str | Path | None) -> tuple[Calibration | None, str]:
    """The calibration that predicted a result, and a caution if it cannot be loaded.

    Args:
        dataset: A result.
        given: The calibration's name or file; the name that the result records if not given.

    Raises:
        ResultError: `given` is not the calibration of the result.
        SpecError: `given` is unknown or malformed.
    """
    recorded = recorded_name(dataset.attrs)
    name, _, digest = recorded.rpartition(" ")
    if not name:
        if given is not None and str(given) != recorded:
            raise ResultError(
                f"--calibration {given}: the result was predicted by {recorded!r}; "
                "leave the option out"
            )
        return None, ""
    try:
        known = given is not None or is_shipped_calibration(name)
        found = load_calibration(name if given is None else given) if known else None
    except SpecError:
        if given is not None:
            raise
        found = None
    if found is not None and found.digest == digest:
        return found, ""
    if given is not None:
        mine = IDEAL_NAME if found is None else f"{found.name} {found.digest}"
        raise ResultError(
            f"--calibration {given} is {mine!r}, but the result was predicted by {recorded!r}"
        )
    return None, f"The calibration {recorded} was not found; give its file with --calibration."


def quality_of(calibration: Calibration, path: str | Path | None) -> Quality:
    """Collect the figures of a calibration that a page shows.

    Args:
        calibration: The calibration.
        path: The file it was read from; the NetCDF file of a fit also has the measurements.
    """
    measured = _measurements(path)
    rates = measured["metric"] == "output_throughput"
    return Quality(
        title=f"{calibration.name}, for {calibration.engine} {calibration.engine_version}".strip(),
        accuracy=[
            {
                "of": SCENARIOS.get(scenario, scenario),
                **{COLUMNS.get(k, k): _percent(k, v) for k, v in errors.items()},
            }
            for scenario, errors in _errors(calibration).items()
        ],
        intervals=[
            {
                "of": SCENARIOS.get(scenario, scenario),
                **{"like the rows" if k == "seen" else k: _span(v) for k, v in widths.items()},
            }
            for scenario, widths in calibration.halfwidths.items()
        ],
        factors=[
            {
                "factor": _spoken(name),
                "value": _with_unit(name, figure.value),
                "error": ""
                if figure.standard_error is None
                else f"±\u00a0{figure.standard_error:.0%}",
                "known": VERDICTS.get(figure.verdict, figure.verdict),
            }
            for name, figure in calibration.factors.items()
        ],
        groups=_groups(measured),
        measured=measured["measured"][rates],
        predicted=measured["predicted"][rates],
        hardware=measured["hardware"][rates].tolist(),
    )


def _errors(calibration: Calibration) -> Mapping[str, Mapping[str, Any]]:
    """Errors by kind of row; empty if the provenance, which anyone may write, has none."""
    found = calibration.provenance.get(ERRORS, {})
    if not isinstance(found, Mapping):
        return {}
    return {str(k): v for k, v in found.items() if isinstance(v, Mapping)}


def _spoken(factor: str) -> str:
    """Name of a factor without its unit: `exchange overhead` for `exchange_overhead_s`."""
    return factor.removesuffix("_s").removesuffix("_bytes").replace("_", " ")


def _with_unit(factor: str, value: float) -> str:
    """A factor with the unit that its name ends in: `19.75 µs` for 1.975e-05 seconds."""
    if factor.endswith("_bytes"):
        return f"{value / 1e9:.4g} GB"
    if not factor.endswith("_s"):
        return f"{value:.4g}"
    unit, times = next((u for u in TIMES if value * u[1] >= 1), TIMES[-1])
    return f"{value * times:.4g} {unit}"


def _percent(key: str, value: Any) -> str:
    if key in ("mape", "median", "p90", "bias") and isinstance(value, int | float):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _span(halfwidth: float) -> str:
    """Half-width of a logarithm as factors on a prediction: `0.90 to 1.11 times`."""
    return f"{np.exp(-halfwidth):.2f} to {np.exp(halfwidth):.2f} times"


def _measurements(path: str | Path | None) -> dict[str, np.ndarray[Any, Any]]:
    """Variables of `OBSERVED`, empty unless `path` is the NetCDF file of a fit."""
    if path is not None and Path(path).suffix == ".nc":
        with open_lazily(Path(path)) as fit:
            if all(name in fit and fit[name].dims == ("row",) for name in OBSERVED):
                return {name: fit[name].values for name in OBSERVED}
    return {name: np.zeros(0, str if name in OBSERVED[3:] else float) for name in OBSERVED}


def _groups(measured: Mapping[str, np.ndarray[Any, Any]]) -> list[Row]:
    errors = np.expm1(measured["left_out_residual"])
    known = np.isfinite(errors)
    rows = []
    for name in sorted(set(measured["hardware"][known].tolist())):
        mine = errors[known & (measured["hardware"] == name)]
        low, middle, high = np.quantile(mine, SHARES)
        rows.append(
            {
                "accelerator": name,
                "rows": f"{mine.size:,}",
                "median": f"{middle:+.1%}",
                "90 % of rows": f"{low:+.1%} to {high:+.1%}",
            }
        )
    return rows
