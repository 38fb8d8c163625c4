"""Options and readers of tables that several commands share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sweep.cli.options import configs_option as configs_option
from sweep.cli.options import force_option as force_option
from sweep.cli.options import json_option as json_option
from sweep.cli.parameters import Option, Pairs
from sweep.errors import SpecError

if TYPE_CHECKING:
    from calibration.fit.table import Table
    from calibration.measurements.table import Measurement
    from sweep.engines.calibration_file import Calibration

PROGRAM = "llm-calibrate"

select_option = click.option(
    "--where",
    "select",
    cls=Option,
    former=["--select"],
    default="",
    metavar="CONSTRAINTS",
    help="Rows to use, as in 'engine_version<=1.0.0 and tp==8'. Default: all.",
)
set_option = click.option(
    "--set",
    "settings",
    cls=Pairs,
    metavar="COLUMN=VALUE",
    help="Values of columns where a table or report leaves them empty, as in tp=8,isl=16k; values "
    "in the table are kept.",
)


def load(name: str) -> "Calibration":
    """Load a calibration by name or path, other than `ideal`.

    Raises:
        SpecError: The calibration is `ideal`, unknown or malformed.
    """
    from sweep.engines.calibration_file import load_calibration

    found = load_calibration(name)
    if found is None:
        raise SpecError(
            "ideal has no factors to show: each is 1 or 0; name a calibration or a file"
        )
    return found


def read_table(
    measurements: Sequence[str], select: str, settings: Sequence[str], configs: Sequence[str]
) -> "tuple[Table, int]":
    """Rows of several tables that a fit may use, and the number of suspect rows left out.

    Raises:
        SpecError: A table or setting is invalid, or no rows are left.
    """
    from calibration.fit.table import tabulate
    from calibration.measurements.column_defaults import read_settings
    from calibration.measurements.table import read_measurements, without_suspects
    from sweep.specs.catalog import Catalog

    catalog, filled = Catalog(configs), read_settings(settings)
    rows: list[Measurement] = []
    for path in measurements:
        rows += read_measurements(path, settings=filled, catalog=catalog)
    if select:
        rows = _selected(rows, select)
    kept, left_out = without_suspects(rows)
    if not kept:
        raise SpecError(
            f"no rows left to fit: {len(left_out)} are suspect; give other measurements"
        )
    return tabulate(kept, catalog), len(left_out)


def _selected(rows: "list[Measurement]", select: str) -> "list[Measurement]":
    """Rows that satisfy a comparison of their columns; versions compare as versions."""
    from calibration.measurements.select import matches

    kept = [row for row in rows if matches(row, select)]
    if not kept:
        raise SpecError(f"--where: no row satisfies {select!r}")
    return kept
