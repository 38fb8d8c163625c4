"""Report on the accuracy of predictions of unseen rows."""

import dataclasses
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.solver import Fit
from calibration.fit.table import Table
from calibration.validation.conformal import ENOUGH
from calibration.validation.half_widths import left_out_errors
from calibration.validation.held_out import Refits, held_out, interval_coverage, summary
from calibration.validation.order import order
from sweep.engines.known import engine_of
from sweep.engines.prediction_interval import INTERVAL
from sweep.engines.versions import version_order
from sweep.grid.dataset import package_version

TITLES = {
    "row": "Configurations left out, a tenth at a time",
    "half": "Halves of the configurations of served runs left out, one at a time",
    "model": "Models left out, one at a time",
    "architecture": "Architectures left out: all releases of the same sizes at a time",
    "family": "Families left out: all sizes of one model type at a time",
    "hardware": "Accelerators left out, one at a time",
    "version": "Engine versions predicted from those before them",
}
LINEARISED_TITLES = TITLES | {
    "row": "Configurations left out, one at a time",
    "version": "Engine versions left out, one at a time",
}
"""Titles where one fit is linearised: later versions remain in it."""
MODELS = {"routed": "mixtures of experts", "none": "dense models"}
_ORDER = (
    "Of {pairs:,} pairs of accelerators in the same run whose figures differ by more than a tenth, "
    "the faster is predicted to be so in {named:.0f} %."
)
HEADINGS = {
    "rows": "rows",
    "mape": "mean error",
    "median": "median",
    "p90": "90 % below",
    "bias": "bias",
    "spearman": "rank correlation",
    "coverage": "within 90 % interval",
    "lowest": "lowest of a group",
}


@dataclass(frozen=True)
class Judged:
    """Errors of predictions of rows by fits that had not seen them.

    Attributes:
        leave_out: Kind of group that the fits had not seen, one of `TITLES`.
        errors: Logarithm of predicted over measured of each row, NaN where none was made.
        covered: Whether the interval of each row contained its figure.
        linearised: Whether the fits were one of all rows, linearised at its optimum.
    """

    leave_out: str
    errors: Array
    covered: Array
    linearised: bool = False

    @property
    def title(self) -> str:
        """Title of the split."""
        return (LINEARISED_TITLES if self.linearised else TITLES)[self.leave_out]


def judge(
    refits: Refits,
    leave_out: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    fit: Fit | None = None,
) -> Judged:
    """Predict every row by fits without its group of kind `leave_out`.

    Args:
        refits: Fits of the rows.
        leave_out: Kind of group.
        progress: Called with the number of fits done and of all.
        fit: A fit of all rows to linearise at its optimum, in place of refits.
    """
    if fit is None:
        found = held_out(refits, leave_out, progress)
        return Judged(leave_out, found.errors, found.covered)
    label = "configuration" if leave_out == "row" else leave_out
    labels = refits.table.labels(label)
    errors = np.where(labels == "", np.nan, left_out_errors(fit, labels))
    covered = interval_coverage(refits.table, errors, leave_out)
    return Judged(leave_out, errors, covered, linearised=True)


def kinds(table: Table) -> Array:
    """Kind of run of each row, by which errors are grouped.

    Of rows of several engines it begins with the engine.
    """
    scenarios = {"static_batch": "static batches", "first_token": "first token"}
    metrics = {
        **{"output_throughput": "in flight", "tpot": "TPOT in flight", "ttft": "clients' TTFT"},
        **{"power": "power", "energy_per_output_token": "energy per token"},
    }
    several = len({row.engine for row in table.rows}) > 1

    def kind(index: int) -> str:
        row = table.rows[index]
        engine = f"{row.engine}: " if several else ""
        if row.scenario in scenarios:
            return engine + scenarios[row.scenario]
        apart = engine_of(row.engine).reported_apart(table.traits[index].era)
        return f"{engine}{metrics[row.metric]}, {apart or MODELS[table.experts[index]]}"

    return np.asarray([kind(index) for index in range(len(table.rows))])


def judged_rows(table: Table) -> Array:
    """Whether each row counts in the errors: doubtful rows are fitted only, unless all are."""
    sure = np.asarray([row.quality == "ok" for row in table.rows])
    return sure if sure.any() else ~sure


def figures(table: Table, judged: Judged, groups: Array) -> list[dict[str, Any]]:
    """One row of figures for each of `groups`, without doubtful rows.

    `lowest` is the share of rows within their interval in the model, accelerator or version with
    the lowest share.
    """
    found = []
    usable = judged_rows(table) & np.isfinite(judged.errors)
    for name in _ordered(groups[usable]):
        where = usable & (groups == name)
        metrics = {table.rows[index].metric for index in np.flatnonzero(where)}
        measured = table.measured[where] if len(metrics) == 1 else None
        worst, label = _lowest_coverage(table, judged, where)
        found.append(
            {
                "group": str(name),
                **summary(judged.errors[where], measured),
                "coverage": float(judged.covered[where].mean()),
                **({"lowest": worst, "lowest_group": label} if label else {}),
            }
        )
    return found


def _ordered(names: Array) -> list[str]:
    """Names in alphabetical order, and after them versions by their numbers."""
    return sorted({str(name) for name in names}, key=version_order)


def _lowest_coverage(table: Table, judged: Judged, where: Array) -> tuple[float, str]:
    shares = [
        (float(judged.covered[inside].mean()), str(name))
        for by in ("model", "hardware", "version")
        for labels in [table.labels(by)]
        for name in np.unique(labels[where])
        for inside in [where & (labels == name)]
        if inside.sum() >= ENOUGH
    ]
    return min(shares, default=(float("nan"), ""))


def as_markdown(table: Table, splits: Sequence[Judged], command: str) -> str:
    """Markdown report: for each split, errors by kind of run, then by the group left out."""
    return "\n".join(_lines(table, splits, command)) + "\n"


def _lines(table: Table, splits: Sequence[Judged], command: str) -> Iterator[str]:
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    sort_of, certain = kinds(table), judged_rows(table)
    yield from ("# Accuracy of predictions of rows a fit had not seen", "")
    of = f", commit {commit()}," if commit() else ""
    yield f"Made on {now} with llm-sweep {package_version()}{of} by"
    yield from ("", "```sh", command, "```", "")
    linearised = any(judged.linearised for judged in splits)
    wide = "the errors of the other groups of its split demand" if linearised else "a refit says"
    yield (
        f"{len(table.rows)} rows were fitted, all but those left out each time. Errors are of the "
        f"{certain.sum()} that are not in doubt, as shares of the measured figure; bias is the "
        "median of predicted over measured, less one. Rank correlation is Spearman's. An interval "
        f"of {100 * INTERVAL:.0f} % is as wide as {wide}; the lowest of a group is the model, "
        f"accelerator or version of at least {ENOUGH} rows in which it held least often."
    )
    if linearised:
        yield (
            "Rows are left out of one fit, linearised at its optimum; errors of refits are larger, "
            "by a tenth for a configuration and by more for a large group."
        )
    yield from ("", "Rows:", "")
    for name in _ordered(sort_of[certain]):
        versions = sorted(
            {table.rows[i].engine_version for i in np.flatnonzero(certain & (sort_of == name))},
            key=version_order,
        )
        count = int((certain & (sort_of == name)).sum())
        ends = dict.fromkeys([versions[0], versions[-1]])
        yield f"- {name}: {count} rows, versions {' to '.join(ends)}"
    for judged in splits:
        yield from ("", f"## {judged.title}", "")
        yield from _table(figures(table, judged, sort_of), "kind of run")
        pairs, named = order(table, judged.errors, np.flatnonzero(certain))
        if pairs:
            yield from ("", _ORDER.format(pairs=pairs, named=100 * named))
        if judged.leave_out == "row":
            continue
        labels = table.labels(judged.leave_out)
        for name in _ordered(sort_of[certain & np.isfinite(judged.errors)]):
            part = dataclasses.replace(
                judged, errors=np.where(sort_of == name, judged.errors, np.nan)
            )
            title = name if ": " in name else f"{name[0].upper()}{name[1:]}"
            yield from ("", f"### {title}, by {judged.leave_out}", "")
            yield from _table(figures(table, part, labels), judged.leave_out)


def _table(rows: Sequence[dict[str, Any]], first: str) -> Iterator[str]:
    yield f"| {first} | " + " | ".join(HEADINGS.values()) + " |"
    yield "|---" + "|---:" * len(HEADINGS) + "|"
    for row in rows:
        yield f"| {row['group']} | " + " | ".join(_cell(row, key) for key in HEADINGS) + " |"


def _cell(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return ""
    if key == "rows":
        return f"{row[key]:,}"
    if key == "spearman":
        return f"{row[key]:.3f}"
    text = f"{100 * row[key]:.1f} %"
    return f"{text} ({row['lowest_group']})" if key == "lowest" else text


def commit() -> str:
    """Commit of the source, empty outside a clone."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return ""
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
