"""Print tables on a terminal or into a pipe."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sweep.cli.launch import printable

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]
GAP = 3
"""Characters between two columns of a table. [count]"""
LONGEST_WORD = 24
"""Length beyond which a word of a text may be broken. [count]"""
PLAIN = (1e3, 1e7)
"""Range of numbers that are printed without an exponent."""


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as an aligned table; outside a terminal it is as wide as it needs to be.

    In a narrow terminal the columns are split into several tables, one below the other, each with
    the first column. Numbers are never broken.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    for part in _side_by_side(rows, console.width):
        console.print(part, highlight=False, markup=False)


def _side_by_side(rows: Sequence[Row], width: int) -> "list[Table]":
    """Tables of at most `width` characters, unless the first column and one more are wider."""
    from rich import box
    from rich.table import Table

    tables = []
    for group in _groups(rows, width):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for key, characters in group.items():
            justify: Literal["left", "right"] = "right" if _is_numeric(rows, key) else "left"
            table.add_column(key, justify=justify, overflow="fold", width=characters)
        for row in rows:
            table.add_row(*(_cell(row[key]) for key in group))
        tables.append(table)
    return tables


def _groups(rows: Sequence[Row], width: int) -> list[dict[str, int]]:
    """Columns of each table, and their widths. [count]"""
    least = {key: _least_width(rows, key) for key in (rows[0] if rows else ())}
    groups: list[dict[str, int]] = [{}]
    for key in least:
        if len(groups[-1]) > 1 and _total({**groups[-1], key: least[key]}) > width:
            first = next(iter(least))
            groups.append({first: least[first]})
        groups[-1][key] = least[key]
    for group in groups:
        for key in group:
            wanted = max(len(key), *(len(_cell(row[key])) for row in rows)) - group[key]
            group[key] += max(0, min(wanted, width - _total(group)))
    return groups


def _total(widths: Mapping[str, int]) -> int:
    return sum(width + GAP for width in widths.values())


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    return all(isinstance(row[key], int | float | None) for row in rows)


def _least_width(rows: Sequence[Row], key: str) -> int:
    """Length of the longest word of a column; long words of a text may be broken. [count]"""
    words = [word for row in rows for word in _cell(row[key]).split()]
    longest = max(map(len, words), default=0)
    if not _is_numeric(rows, key):
        longest = min(longest, LONGEST_WORD)
    return max(longest, *map(len, key.split()), 1)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        least, most = PLAIN
        return f"{value:,.0f}" if least <= abs(value) < most else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
