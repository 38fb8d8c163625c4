"""Values from the command line for columns that a file leaves empty."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from calibration.measurements.table import COLUMNS, Measurement
from sweep.errors import SpecError
from sweep.specs.counts import count_of, has_suffix
from sweep.specs.parsing import nearest

MEASURED = ("id", "metric", "value", "unit")
"""Columns that identify a row and cannot be shared by several."""


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse `COLUMN=VALUE` pairs for columns that a table or report leaves empty.

    Raises:
        SpecError: A pair is malformed, or the column does not allow the value.
    """
    settings: dict[str, Any] = {}
    open_columns = [name for name in COLUMNS if name not in MEASURED]
    for pair in pairs:
        column, sign, text = (part.strip() for part in pair.partition("="))
        if not (column and sign and text):
            raise SpecError(f"--set: {pair!r} must be COLUMN=VALUE, as in tp=8")
        if column not in open_columns:
            guess = nearest(column, open_columns) or f"; known: {', '.join(open_columns)}"
            raise SpecError(f"--set: unknown column {column!r}{guess}")
        if column in settings:
            raise SpecError(f"--set: {column} is given twice")
        if has_suffix(text):
            text = str(count_of(text))
        annotation = Measurement.model_fields[column].rebuild_annotation()
        try:
            settings[column] = TypeAdapter(annotation).validate_python(text)
        except ValidationError as error:
            message = str(error.errors(include_url=False)[0]["msg"])
            raise SpecError(
                f"--set: {column}: {message[:1].lower()}{message[1:]}, not {text!r:.60}"
            ) from None
    return settings
