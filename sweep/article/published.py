"""Published figures compared with ours: a shipped table, the sweep of its rows, the errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
from pydantic import Field

from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.runs.run import load_grid, run
from sweep.schema.intervals import ENDS
from sweep.specs.catalog import Catalog
from sweep.specs.files import read_mapping
from sweep.specs.parsing import Spec, parse
from sweep.specs.shipped import shipped_configs


class Column(Spec):
    """A published column and its source."""

    name: str
    source: str


class Columns(Spec):
    """The measured column and another estimate of the same rows."""

    measured: Column
    estimated: Column


class Row(Spec):
    """One published row. [count, s-1]"""

    batch_size: int
    isl: int
    osl: int
    measured: float
    estimated: float


class PublishedTable(Spec):
    """Published figures to compare with a shipped sweep.

    Attributes:
        sweep: Name of the sweep.
        calibration: Name of the calibration for the engine that was measured.
        engine_version: The engine's version.
        variable: The quantity published.
        point: Label or number along every axis that is the same for all rows.
        columns: The columns and their sources.
        rows: The figures.
    """

    sweep: str
    calibration: str
    engine_version: str
    variable: str
    point: dict[str, str | int]
    columns: Columns
    rows: list[Row] = Field(min_length=1)


@dataclass(frozen=True)
class ComparedRow:
    """A published row and our figure for it.

    Attributes:
        row: The published row.
        ours: Our figure without calibration.
        calibrated: Our figure with the calibration.
        interval: Ends of its 90 % interval.
    """

    row: Row
    ours: float
    calibrated: float
    interval: tuple[float, float]

    @property
    def our_error(self) -> float:
        """Relative error of our figure. [1]"""
        return self.ours / self.row.measured - 1

    @property
    def calibrated_error(self) -> float:
        """Relative error of our calibrated figure. [1]"""
        return self.calibrated / self.row.measured - 1

    @property
    def estimated_error(self) -> float:
        """Relative error of the other estimate. [1]"""
        return self.row.estimated / self.row.measured - 1


def compare_published(name: str, catalog: Catalog) -> tuple[PublishedTable, list[ComparedRow]]:
    """Run the sweep of a shipped table and compare our figures with the published ones.

    The calibration was fitted to the published rows among thousands of others.

    Raises:
        SpecError: The table, its sweep or its calibration is malformed.
    """
    path = shipped_configs() / "measurements" / f"{name}.yaml"
    table = parse(PublishedTable, read_mapping(path), str(path))
    grid = load_grid(catalog.path("sweeps", table.sweep))
    bounds = run(grid, catalog=catalog)
    calibration = load_calibration(table.calibration)
    if calibration is not None:
        calibration = calibration.model_copy(update={"engine_version": table.engine_version})
    real = run(grid, catalog=catalog, calibration=calibration)
    return table, [_compared(row, table, bounds, real) for row in table.rows]


def published_rows(
    table: PublishedTable, compared: Sequence[ComparedRow], *, as_json: bool
) -> list[dict[str, Any]]:
    """One row per published figure, with the errors of the estimates; in words unless for JSON."""
    measured, estimated = table.columns.measured.name, table.columns.estimated.name
    if as_json:
        return [
            {
                **{axis: getattr(line.row, axis) for axis in ("batch_size", "isl", "osl")},
                f"{measured} (s-1)": line.row.measured,
                f"{estimated} (s-1)": line.row.estimated,
                f"{estimated} error": line.estimated_error,
                "ours, uncalibrated (s-1)": line.ours,
                "our error": line.our_error,
                "ours, calibrated (s-1)": line.calibrated,
                "calibrated error": line.calibrated_error,
                "90 % interval (s-1)": list(line.interval),
            }
            for line in compared
        ]
    return [
        {
            "batch size": line.row.batch_size,
            "isl": line.row.isl,
            "osl": line.row.osl,
            f"{measured} (tokens/s)": line.row.measured,
            estimated: f"{line.row.estimated:,.0f} ({line.estimated_error:+.0%})",
            "ours, uncalibrated": f"{line.ours:,.0f} ({line.our_error:+.0%})",
            "ours, calibrated": f"{line.calibrated:,.0f} ({line.calibrated_error:+.1%})",
            "90 % interval": "{:,.0f} to {:,.0f}".format(*line.interval),
        }
        for line in compared
    ]


def _compared(row: Row, table: PublishedTable, bounds: xr.Dataset, real: xr.Dataset) -> ComparedRow:
    low, high = (_ours(real, table, row, f"{table.variable}_{end}") for end in ENDS)
    ours, calibrated = (_ours(dataset, table, row, table.variable) for dataset in (bounds, real))
    return ComparedRow(row, ours, calibrated, (low, high))


def _ours(dataset: xr.Dataset, table: PublishedTable, row: Row, variable: str) -> float:
    cell = {**table.point, "batch_size": row.batch_size, "isl": row.isl, "osl": row.osl}
    try:
        return float(dataset[variable].sel(cell))
    except KeyError as error:
        raise SpecError(
            f"sweep {table.sweep!r} has no {variable} at {cell}: {error.args[0]}; "
            "a sweep of your own with this name replaces the shipped one"
        ) from None
