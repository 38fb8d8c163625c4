"""Selection of rows by comparisons of columns, as in `engine_version<=1.0.0 and tp==8`."""

import re

from calibration.measurements.table import COLUMNS, Measurement
from sweep.engines.versions import version_of
from sweep.errors import SpecError
from sweep.queries.where import COMPARISONS
from sweep.specs.parsing import nearest

CLAUSE = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*['\"]?([^'\"]+?)['\"]?\s*")


def matches(row: Measurement, select: str) -> bool:
    """Whether `row` satisfies every clause of `select`, joined by `and`.

    Raises:
        SpecError: A clause is no comparison, or its column is unknown.
    """
    return all(_holds(row, clause) for clause in re.split(r"\s+and\s+", select))


def _holds(row: Measurement, clause: str) -> bool:
    found = CLAUSE.fullmatch(clause)
    if found is None:
        raise SpecError(
            f"--select: {clause!r} is no comparison; write column, one of "
            f"{' '.join(COMPARISONS)}, value, and join several by 'and'"
        )
    column, sign, text = found.groups()
    if column not in COLUMNS:
        guess = nearest(column, list(COLUMNS)) or f"; known: {', '.join(COLUMNS)}"
        raise SpecError(f"--select: unknown column {column!r}{guess}")
    given = getattr(row, column)
    if column == "engine_version":
        return bool(COMPARISONS[sign](version_of(given), version_of(text)))
    if isinstance(given, int | float):
        try:
            return bool(COMPARISONS[sign](given, float(text)))
        except ValueError:
            raise SpecError(f"--select: {column}: {text!r} is no number") from None
    return given is not None and bool(COMPARISONS[sign](str(given), text))
