"""Print tables and sentences on a terminal or into a pipe."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import click

from sweep.schema.labels import printable

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]
GAP = 2
"""Characters between two columns of a table. [count]"""
LONGEST_WORD = 24
"""Length beyond which a word of a text may be broken. [count]"""
MOST_LINES = 3
"""Lines of a heading, and of a text unless it is long. [count]"""
MORE_THAN_A_LINE = 1.2
"""Width of a text that is broken between words, relative to an even share of each line. [1]"""
PLAIN = (1e3, 1e7)
"""Range of numbers that are printed without an exponent."""
SMALL = 1e-2
"""Number below which a figure has three digits instead of four, as its zeros take room."""


WIDEST = 400
"""Width of a table that neither a terminal nor `COLUMNS` limits. [character]"""


def line_width() -> int | None:
    """Characters that a line may have, by the terminal or the variable `COLUMNS`.

    None into a pipe or file without `COLUMNS`, where one line has all of a sentence or row.
    """
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def print_text(text: str) -> None:
    """Print a sentence, whose further lines are indented if it is longer than a line."""
    width = line_width()
    if width is not None:
        lines = wrap(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        text = "\n".join(lines)
    click.echo(text)


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as an aligned table, as wide as a line may be.

    A table that is too wide is split into several, one below the other, each with the
    columns that identify a row. Numbers are never broken.
    """
    from rich.console import Console

    console = Console(width=line_width() or WIDEST)
    for part in _side_by_side(rows, console.width):
        console.print(part, highlight=False, markup=False)


def _side_by_side(rows: Sequence[Row], width: int) -> "list[Table]":
    """Tables of at most `width` characters, unless the first column and one more are wider."""
    from rich import box
    from rich.table import Table

    tables = []
    for group in _groups(rows, width):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
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
    names = _identifying(rows, least, width)
    # A name in one line shows where its row begins.
    for key in names:
        least[key] = max(least[key], min(_longest(rows, key), LONGEST_WORD))
    groups: list[dict[str, int]] = [{}]
    for key in least:
        is_more = len(groups[-1]) > len(names) if len(groups) > 1 else len(groups[-1]) > 1
        if is_more and _total({**groups[-1], key: least[key]}) > width:
            groups.append({name: least[name] for name in names})
        groups[-1][key] = least[key]
    for group in groups:
        # Cells first, since each line of a cell is repeated in every row; then headings.
        for longest in (lambda key: _longest(rows, key), len):
            for key in group:
                group[key] += max(0, min(longest(key) - group[key], width - _total(group)))
    return groups


def _longest(rows: Sequence[Row], key: str) -> int:
    return max(len(_cell(row[key])) for row in rows)


def _identifying(rows: Sequence[Row], least: Mapping[str, int], width: int) -> list[str]:
    """Columns that each part of a table repeats: those up to the first text, or the first one."""
    keys = list(least)
    texts = [index for index, key in enumerate(keys) if not _is_numeric(rows, key)]
    names = keys[: texts[0] + 1] if texts else keys[:1]
    return names if _total({name: least[name] for name in names}) <= width / 2 else keys[:1]


def _total(widths: Mapping[str, int]) -> int:
    return sum(width + GAP for width in widths.values())


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    return all(isinstance(row[key], int | float | None) for row in rows)


def _least_width(rows: Sequence[Row], key: str) -> int:
    """Width at which a column has whole words, and its heading and texts a few lines. [count]

    Long words of a text may be broken.
    """
    words = [word for row in rows for word in _cell(row[key]).split()]
    longest = max(map(len, words), default=0)
    if not _is_numeric(rows, key):
        longest = min(longest, LONGEST_WORD)
    texts = [] if _is_numeric(rows, key) else [_cell(row[key]) for row in rows]
    heading = max(map(len, key.split()), default=1)
    while len(wrap(key, heading)) > MOST_LINES:
        heading += 1
    least = max(longest, heading, 1)
    most = max(map(len, texts), default=0) / MOST_LINES
    return max(least, min(int(MORE_THAN_A_LINE * most), LONGEST_WORD))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        least, most = PLAIN
        if least <= abs(value) < most:
            return f"{value:,.0f}"
        return f"{value:.4g}" if abs(value) >= SMALL else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
