"""Rows of the tables that the command line prints, and how they are printed."""

from collections.abc import Sequence
from typing import Any

from sweep.catalog import Catalog, read_mapping
from sweep.errors import SpecError
from sweep.specs import HardwareSpec

Row = dict[str, Any]


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as an aligned table, as wide as it needs to be outside a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key in rows[0] if rows else ():
        numeric = all(isinstance(row[key], int | float | None) for row in rows)
        table.add_column(key, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table, highlight=False, markup=False)


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
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
