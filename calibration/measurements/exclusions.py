"""Rows that a fit leaves out or weighs less, by metric and reason."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibration.measurements.measurement import Measurement

ARRIVALS = "requests arrive at a rate, and a fit takes clients that wait for answers"
UNNAMED = "marked so, without a note"
MOST_REASONS = 8
"""Most reasons that are listed for one kind of rows. [count]"""
LONGEST_REASON = 120
"""Longest reason that is written out. [character]"""


@dataclass(frozen=True)
class Usable:
    """Rows of measurements, divided by whether a fit uses them.

    Attributes:
        kept: Rows that a fit may use.
        left_out: Other rows, each with the reason.
    """

    kept: tuple[Measurement, ...]
    left_out: tuple[tuple[Measurement, str], ...]


def usable(rows: Iterable[Measurement]) -> Usable:
    """Divide rows: a fit uses those that are not `suspect`, of clients that wait for answers."""
    kept: list[Measurement] = []
    left_out: list[tuple[Measurement, str]] = []
    for row in rows:
        if row.request_rate is not None:
            left_out.append((row, ARRIVALS))
        elif row.quality == "suspect":
            left_out.append((row, row.note or UNNAMED))
        else:
            kept.append(row)
    return Usable(tuple(kept), tuple(left_out))


def sentences_about(kind: str, rows: Sequence[tuple[Measurement, str]]) -> list[str]:
    """Lines with the number of rows by metric and reason, the most frequent first.

    Args:
        kind: Word for what happened to the rows.
        rows: Each row with its reason.
    """
    counts = Counter((row.metric, _short(reason)) for row, reason in rows)
    lines = [
        f"{kind}: {count} {metric} row{'s' if count > 1 else ''}: {reason}"
        for (metric, reason), count in counts.most_common(MOST_REASONS)
    ]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(MOST_REASONS))
    return [*lines, f"{kind}: {rest} rows for other reasons"] if rest else lines


def doubtful(rows: Iterable[Measurement]) -> list[tuple[Measurement, str]]:
    """Doubtful rows, each with its note."""
    return [(row, row.note or UNNAMED) for row in rows if row.quality == "doubtful"]


def _short(reason: str) -> str:
    plain = " ".join(reason.split())
    return plain if len(plain) <= LONGEST_REASON else plain[: LONGEST_REASON - 1] + "…"
