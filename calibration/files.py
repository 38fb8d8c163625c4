"""A calibration written as YAML and as NetCDF."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from calibration.calibrate import FitResult, standard_errors
from calibration.fit.parameters import Array
from calibration.fit.verdicts import (
    RESOURCES,
    SENSITIVE,
    directions,
    regimes,
    sensitive_rows,
)
from sweep.engines.calibration_file import ATTRIBUTE, SEAL_KEY, Calibration, content_seal
from sweep.files.atomic import check_writable, replacing
from sweep.files.netcdf import save as save_netcdf
from sweep.grid.dataset import package_version
from sweep.specs.files import mapping_of
from sweep.specs.seal import seal

ROW_LABELS = ("scenario", "model", "hardware", "engine_version", "metric")
"""Columns of the rows that the NetCDF file of a fit contains."""


def save(result: FitResult, path: Path, *, force: bool) -> Path:
    """Write the fit as NetCDF, and the calibration as YAML beside it.

    Returns:
        Path of the YAML file.

    Raises:
        ResultError: A file cannot be written, or exists and `force` is not set.
    """
    twin = path.with_suffix(".yaml")
    for file in (path, twin):
        check_writable(file, force=force)
    with replacing(path, force=force) as beside:
        save_netcdf(as_dataset(result), beside)
        seal(beside)
    _write(result.calibration, twin, force=force)
    return twin


def save_each(calibrations: Sequence[Calibration], folder: Path, *, force: bool) -> list[Path]:
    """Write calibrations as YAML files with their names, in `folder`.

    Raises:
        ResultError: A file cannot be written, or exists and `force` is not set.
    """
    files = [folder / f"{calibration.name}.yaml" for calibration in calibrations]
    for file in files:
        check_writable(file, force=force)
    for file, calibration in zip(files, calibrations, strict=True):
        _write(calibration, file, force=force)
    return files


def _write(calibration: Calibration, path: Path, *, force: bool) -> None:
    with replacing(path, force=force) as beside:
        beside.write_text(sealed(as_text(calibration)), encoding="utf-8")


def sealed(text: str) -> str:
    """The text of a calibration with the checksum of its content."""
    data = mapping_of(text, "calibration", "YAML")
    data.pop(SEAL_KEY, None)
    return (
        f"{text}\n# Checksum of the above; delete it if you edit the file.\n"
        f"{SEAL_KEY}: {content_seal(data)}\n"
    )


def as_text(calibration: Calibration) -> str:
    """The calibration as YAML, one line for each figure."""
    data = calibration.model_dump(mode="json", exclude_none=True)
    lines = ["# Calibration: efficiency factors, read by llm-sweep run --calibration FILE.", ""]
    head = {k: data[k] for k in ("name", "engine", "engine_version", "provenance")}
    lines.append(yaml.safe_dump(head, sort_keys=False, width=100).rstrip())
    lines += [
        "",
        "# Value, standard error of its logarithm, and verdict.",
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
    lines += ["", "# Interval width relative to the default.", _heading("spreads", data)]
    lines += [f"  {by}: {_flow(levels)}" for by, levels in data["spreads"].items()]
    lines += ["", "# Lowest and highest number in the rows.", _heading("ranges", data)]
    for scenario, spans in data["ranges"].items():
        lines.append(f"  {scenario}: {_flow(spans)}")
    if data.get("measured"):
        heading = "# Most GPUs of a replica in the rows of each accelerator."
        lines += ["", heading, "measured:"]
        lines += [f"  {scenario}: {_flow(most)}" for scenario, most in data["measured"].items()]
    if data.get("ratios"):
        heading = "# Shares of a half-width that remain in the ratio of two accelerators."
        lines += ["", heading, f"ratios: {_flow(data['ratios'])}"]
    if data.get("ratio_spreads"):
        heading = (
            "# Width of the usual part of ratios with an accelerator, relative to the default."
        )
        lines += ["", heading, f"ratio_spreads: {_flow(data['ratio_spreads'])}"]
    return "\n".join([*lines, ""])


def _heading(name: str, data: dict[str, Any]) -> str:
    return f"{name}:" if data[name] else f"{name}: {{}}"


def _flow(figure: dict[str, Any]) -> str:
    text = yaml.safe_dump(figure, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip()


def as_dataset(result: FitResult) -> xr.Dataset:
    """Parameters, covariance, observations and residuals, labelled.

    `direction` orders combinations of pooled factors from the least to the best constrained by the
    rows, in units of the widths of the priors, after projecting out the deviations.
    """
    fit, table = result.fit, result.table
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
            "standard_error": entry(
                "parameter", standard_errors(fit), "standard error of the estimate"
            ),
            "covariance": entry(("parameter", "parameter_2"), fit.covariance, "covariance"),
            "measured": entry("row", np.exp(table.measured), "measured figure"),
            "predicted": entry("row", np.exp(fit.predicted), "predicted figure"),
            "residual": entry("row", fit.errors, "logarithm of predicted over measured"),
            "left_out_residual": entry(
                "row", result.left_out, "residual, had the configuration of the row been left out"
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
                f"fitted rows that move by at least {SENSITIVE:.0%} of a change of the parameter",
            ),
            "singular_value": entry(
                "direction",
                singular,
                "information of the rows on a combination of pooled factors, relative to its prior",
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
        "title": f"Efficiency factors {result.calibration.name}",
        "source": f"llm-sweep {package_version()}",
        "digest": result.calibration.digest,
        ATTRIBUTE: json.dumps(result.calibration.model_dump(mode="json", exclude_none=True)),
    }
    return dataset
