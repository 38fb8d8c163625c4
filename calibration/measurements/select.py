"""Selection of rows by comparisons of columns, as in `engine_version<=1.0.0 and tp==8`."""

from calibration.measurements.table import COLUMNS, Measurement
from sweep.engines.versions import version_of
from sweep.errors import ResultError, SpecError
from sweep.queries.where import COMPARISONS, number_of
from sweep.queries.where_grammar import Comparison, Condition, parse
from sweep.specs.parsing import nearest


def matches(row: Measurement, select: str) -> bool:
    """Whether `row` satisfies comparisons joined by `and`, `or`, `not` and parentheses.

    Raises:
        SpecError: A text is no comparison, or its column is unknown.
    """
    try:
        condition = parse(select)
        return condition is None or _satisfies(row, condition)
    except ResultError as error:
        raise SpecError(str(error)) from None


def _satisfies(row: Measurement, condition: Condition) -> bool:
    if isinstance(condition, Comparison):
        return _holds(row, condition)
    joined = all if condition.word == "and" else any
    return joined(_satisfies(row, part) for part in condition.parts)


def _holds(row: Measurement, comparison: Comparison) -> bool:
    column, sign, text = comparison.name, comparison.sign, comparison.value
    if column not in COLUMNS:
        guess = nearest(column, list(COLUMNS)) or f"; known: {', '.join(COLUMNS)}"
        raise SpecError(f"--where: unknown column {column!r:.80}{guess}")
    if text is None:
        raise SpecError(f"--where: {column} is no comparison; compare it, as in {column}==8")
    given = getattr(row, column)
    if column == "engine_version":
        return bool(COMPARISONS[sign](version_of(given), version_of(text)))
    if isinstance(given, int | float):
        return bool(COMPARISONS[sign](given, number_of(f"--where: {column}", text)))
    return given is not None and bool(COMPARISONS[sign](str(given), text))
