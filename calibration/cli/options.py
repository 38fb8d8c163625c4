"""Options and readers of tables that several commands share."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sweep.cli.options import BOUNDS, CALIBRATION
from sweep.cli.options import configs_option as configs_option
from sweep.cli.options import force_option as force_option
from sweep.cli.options import json_option as json_option
from sweep.cli.parameters import Constraints, Option, Pairs
from sweep.cli.print_tables import print_text
from sweep.errors import SpecError

if TYPE_CHECKING:
    from calibration.fit.table import Table
    from calibration.measurements.exclusions import Usable
    from calibration.measurements.table import Measurement
    from sweep.engines.calibration_file import Calibration

PROGRAM = "llm-calibrate"

select_option = click.option(
    "--where",
    "select",
    cls=Constraints,
    former=["--select"],
    metavar="CONSTRAINTS",
    help="Rows to use, as in 'engine_version<=1.0.0 and tp==8'; of several constraints all must be "
    "satisfied. Default: all.",
)
start_option = click.option(
    "--calibration",
    "start",
    cls=Option,
    former=["--from"],
    type=CALIBRATION,
    metavar="NAME",
    default=BOUNDS,
    show_default=True,
    help="Calibration whose factors are the priors of each fit.",
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
) -> "tuple[Table, Usable]":
    """Rows of several files that a fit may use, and all of them divided by that.

    Raises:
        SpecError: A file or setting is invalid, or no rows are left.
    """
    from calibration.fit.capacity import doubt_overfull
    from calibration.fit.table import tabulate
    from calibration.measurements.column_defaults import read_settings
    from calibration.measurements.exclusions import sentences_about, usable
    from calibration.measurements.table import read_files
    from sweep.specs.catalog import Catalog

    catalog = Catalog(configs)
    rows = read_files(measurements, settings=read_settings(settings), catalog=catalog)
    divided = usable(selected(rows, select))
    if not divided.kept:
        reason = sentences_about("excluded", divided.left_out)[0]
        raise SpecError(f"no rows left to fit ({reason}); give other measurements")
    divided = dataclasses.replace(divided, kept=tuple(doubt_overfull(divided.kept, catalog)))
    return tabulate(divided.kept, catalog), divided


def say_of_rows(divided: "Usable", *, weighed: bool = True) -> None:
    """Print which rows are excluded and which are weighed less, by metric and reason."""
    from calibration.measurements.exclusions import doubtful, sentences_about

    lines = sentences_about("excluded", divided.left_out)
    if weighed:
        lines += sentences_about("lower weight", doubtful(divided.kept))
    for line in lines:
        print_text(line)


def selected(rows: "list[Measurement]", select: str) -> "list[Measurement]":
    """Rows that satisfy a comparison of their columns, all without one; versions compare as such.

    Raises:
        SpecError: None does, or the comparison is malformed.
    """
    if not select:
        return rows
    from calibration.measurements.select import matches

    kept = [row for row in rows if matches(row, select)]
    if not kept:
        raise SpecError(f"--where: no row satisfies {select!r}")
    return kept
