"""Rows of the tables that the command line prints, and how they are printed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sweep.catalog import Catalog, read_mapping
from sweep.errors import SpecError
from sweep.specs import HardwareSpec

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]
GAP = 3
"""Characters between two columns of a table. [count]"""
LONGEST_WORD = 24
"""Characters beyond which a word of a text may be broken. [count]"""
PLAIN = (1e3, 1e7)
"""Numbers from and below which no exponent is wanted."""


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as an aligned table, as wide as it needs to be outside a terminal.

    In a terminal that is too narrow for it the columns stand in several tables, one below the
    other, each with the first column; no number is ever broken.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    for part in _side_by_side(rows, console.width):
        console.print(part, highlight=False, markup=False)


def _side_by_side(rows: Sequence[Row], width: int) -> "list[Table]":
    """Tables of at most `width` characters, unless one column and the first take more."""
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
    """Which columns stand side by side, and the width of each. [count]"""
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
    """Characters of the longest word of a column, of which texts but not numbers may be broken."""
    words = [word for row in rows for word in _cell(row[key]).split()]
    longest = max(map(len, words), default=0)
    if not _is_numeric(rows, key):
        longest = min(longest, LONGEST_WORD)
    return max(longest, *map(len, key.split()), 1)


def hardware_rows(catalog: Catalog) -> list[Row]:
    """One row per accelerator."""
    rows = []
    for name in catalog.paths("hardware"):
        spec = catalog.hardware(name)
        rows.append(
            {
                "name": name,
                "vendor": spec.vendor,
                "memory_bytes": spec.memory_bytes,
                "memory_bandwidth_bytes_per_s": spec.memory_bandwidth_bytes_per_s,
                "half_flops_per_s": spec.peaks.get("half"),
                "fp8_flops_per_s": spec.peaks.get("fp8"),
                "confidence": spec.confidence,
            }
        )
    return rows


def precision_rows(catalog: Catalog) -> list[Row]:
    """One row per precision recipe."""
    specs = [catalog.precision(name) for name in catalog.paths("precisions")]
    return [
        {
            "name": spec.name,
            "weight": spec.weight_dtype,
            "activation": spec.activation_dtype,
            "kv": spec.kv_dtype,
            "computes_in": spec.compute_dtype,
            "note": spec.note,
        }
        for spec in specs
    ]


def sweep_rows(catalog: Catalog) -> list[Row]:
    """One row per sweep file."""
    rows = []
    for name, path in catalog.paths("sweeps").items():
        data = read_mapping(path)
        for key in ("models", "hardware"):
            if not isinstance(data.get(key), list):
                raise SpecError(f"{path}: {key}: must be a list of names")
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        rows.append(
            {
                "name": name,
                "what": first.removeprefix("#").strip() if first.startswith("#") else "",
                "models": len(data["models"]),
                "hardware": len(data["hardware"]),
            }
        )
    return rows


def figure_rows(spec: HardwareSpec) -> list[Row]:
    """One row per figure of an accelerator, with its source."""
    rows: list[Row] = [
        {"figure": name, "value": value, "source": spec.source_of(name)}
        for name, value in spec.figures().items()
    ]
    price = spec.price_usd_per_hour
    if price is not None:
        source = f"{price.source}, {price.date}"
        rows.append({"figure": "price_usd_per_hour", "value": price.value, "source": source})
    return rows


def ridge_rows(specs: Sequence[HardwareSpec], dtype: str) -> list[Row]:
    """One row per accelerator: its peak, bandwidth, and the intensity where they meet.

    Raises:
        SpecError: One has no peak for `dtype`.
    """
    rows = []
    for spec in specs:
        if dtype not in spec.peaks:
            known = ", ".join(spec.peaks)
            raise SpecError(f"{spec.name!r} lists no peak for {dtype!r}; it lists {known}")
        peak, bandwidth = spec.peaks[dtype], spec.memory_bandwidth_bytes_per_s
        rows.append(
            {
                "hardware": spec.name,
                "peak_flops_per_s": peak,
                "memory_bandwidth_bytes_per_s": bandwidth,
                "ridge_flop_per_byte": peak / bandwidth,
                "confidence": spec.confidence,
            }
        )
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        least, most = PLAIN
        return f"{value:,.0f}" if least <= abs(value) < most else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
