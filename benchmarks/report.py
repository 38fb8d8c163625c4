"""Description of the machine that a benchmark runs on, and the table it prints."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def machine() -> dict[str, Any]:
    """Date, commit, processor, usable cores, load, and versions of Python, JAX and NumPy."""
    # Imported here, so that its imports do not raise measured peaks of memory.
    from calibration.validation.accuracy_report import commit

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "cpu": _cpu(),
        "cores": _cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "jax": version("jax"),
        "numpy": version("numpy"),
    }


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    if "model name" not in named:
        return platform.processor() or platform.machine()
    family = f"family {named.get('cpu family')}, model {named.get('model')}"
    return f"{named['model name']} ({family})"


def print_table(title: str, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Print `rows` as a table, numbers aligned to the right, with the facts as its caption."""
    table = Table(title=title, caption=", ".join(f"{k} {v}" for k, v in facts.items()))
    for key, value in rows[0].items():
        table.add_column(key, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console(width=None if Console().is_terminal else 130).print(table)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
