"""Predicted rows on a terminal: each beside what was measured, and ratios by group."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click
import pandas as pd

from sweep.cli.options import print_rows
from sweep.cli.print_tables import print_text

METRICS = {
    "output_throughput": ("output tokens per second of all GPUs", 1.0),
    "ttft": ("time to first token, ms", 1e3),
    "tpot": ("time per output token, ms", 1e3),
    "power": ("power of one GPU, W", 1.0),
    "energy_per_output_token": ("energy per output token, J", 1.0),
}
"""Title of each metric, and the factor from SI units to those shown."""
MOST_ROWS = 20
"""Most rows of one metric that are shown. [count]"""


def print_predictions(frame: pd.DataFrame, by: Sequence[str]) -> None:
    """Print predictions beside measurements by metric, then ratios by metric and group.

    Args:
        frame: Rows of `predictions`.
        by: Columns to group ratios by.
    """
    for metric, (title, factor) in METRICS.items():
        own = frame[frame["metric"] == metric]
        if len(own) == 0:
            continue
        click.echo(title)
        first = own[:MOST_ROWS]
        doubted = "flags" in first or bool((first["quality"] != "ok").any())
        shown = [_shown(row, factor, doubted=doubted) for row in first.to_dict("records")]
        print_rows(shown, as_json=False)
        if len(own) > MOST_ROWS:
            click.echo(f"{len(own) - MOST_ROWS} more rows; -o FILE.csv writes all")
    _say_flags(frame)
    lacking = int(frame["predicted"].isna().sum())
    if lacking:
        print_text(
            f"{lacking} {'row has' if lacking == 1 else 'rows have'} no prediction: the model or a "
            "request does not fit"
        )
    both = frame[["value", "predicted"]].notna().all(axis=1)
    known = frame[both & (frame["quality"] != "suspect")]
    if len(known):
        click.echo("predicted over measured, without suspect rows")
        print_rows(_ratios(known, ["metric", *by]), as_json=False)


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `predictions` for JSON, in SI units; what is not known is null."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _shown(row: dict[Any, Any], factor: float, *, doubted: bool) -> dict[str, Any]:
    value, predicted = row["value"], row["predicted"]
    known = pd.notna(value)
    shown = {
        "row": row["id"],
        "load": _load(row),
        "measured": _number(value * factor) if known else "",
        "predicted": _number(predicted * factor),
        "ratio": f"{predicted / value:.2f}" if known and pd.notna(predicted) else "",
    }
    if "lower" in row:
        shown["90 % from"] = _number(row["lower"] * factor)
        shown["to"] = _number(row["upper"] * factor)
    if doubted:
        shown["quality"] = row["quality"]
    if "flags" in row:
        shown["flags"] = len(str(row["flags"]).split()) or ""
    return shown


def _say_flags(frame: pd.DataFrame) -> None:
    """Print how many rows have each flag."""
    if "flags" not in frame:
        return
    counts = Counter(word for flags in frame["flags"] for word in str(flags).split())
    if counts:
        listed = ", ".join(f"{word} {count}" for word, count in counts.most_common())
        print_text(f"rows by flag: {listed}")


def _load(row: dict[Any, Any]) -> str:
    for column, text in (
        ("request_rate", "{:g} request{}/s"),
        ("concurrency", "{:g} client{}"),
        ("batch_size", "batch of {:g}"),
        ("num_requests", "{:g} request{} at once"),
    ):
        if pd.notna(row[column]):
            return text.format(row[column], "" if row[column] == 1 else "s")
    return "as many as fit"


def _number(value: float) -> str:
    if pd.isna(value):
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ratios(known: pd.DataFrame, by: list[str]) -> list[dict[str, Any]]:
    ratio = known["predicted"] / known["value"]
    keys = [known[name] for name in by]
    grouped = ratio.groupby(keys)
    table = pd.DataFrame(
        {
            "rows": grouped.size(),
            "lowest": grouped.min(),
            "median": grouped.median(),
            "highest": grouped.max(),
            "mean error": (ratio - 1).abs().groupby(keys).mean(),
        }
    )
    groups = zip(table.index.tolist(), table.to_dict("records"), strict=True)
    return [{**dict(zip(by, key, strict=True)), **_formatted(found)} for key, found in groups]


def _formatted(figures: dict[Any, Any]) -> dict[str, Any]:
    return {
        "rows": int(figures["rows"]),
        **{name: f"{figures[name]:.2f}" for name in ("lowest", "median", "highest")},
        "mean error": f"{figures['mean error']:.1%}",
    }
