"""Pareto front of throughput per GPU against throughput per user."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from sweep.decisions.deployments import extrapolations, in_words, settings
from sweep.decisions.figures.style import COLOURS, plain_text
from sweep.decisions.recommend import Recommendation, pareto_front
from sweep.decisions.recommend_text import sentence

MARKS = "osD^vP"
ROOM = (0.11, 0.035)
"""Width and height that a name of a point needs, as shares of the picture. [1]"""
MOST_LINES = 6
"""Largest number of accelerators with a line of their own, the best ones. [count]"""


@plain_text
def front_figure(found: Recommendation) -> Figure:
    """Draw throughput per GPU against throughput per user, the overall front in black."""
    figure = Figure(figsize=(8.5, 5.6), layout="constrained")
    axes = figure.subplots()
    known = found.allowed[found.allowed["per_user"].notna()]
    axes.plot(
        known["per_user"],
        known["per_gpu"],
        ".",
        color="0.8",
        markersize=3,
        zorder=1,
        label=f"all {len(known):,} deployments within the limits",
    )
    best = found.ranked["hardware"].drop_duplicates()[:MOST_LINES]
    fronts = []
    for name, colour, mark in zip(best, cycle(COLOURS), cycle(MARKS), strict=False):
        line = pareto_front(known[known["hardware"] == name])
        label = f"{name}{_other_calibration(found, line)}{flagged(line)}"
        fronts.append((line, colour))
        axes.plot(
            line["per_user"], line["per_gpu"], f"-{mark}", color=colour, label=label, markersize=5
        )
        _hollow(axes, line, colour, mark)
        _draw_interval(axes, line, colour)
    line = found.front
    axes.plot(line["per_user"], line["per_gpu"], "--", color="black", linewidth=2.2, label="front")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("output of one user (tokens/s)")
    axes.set_ylabel("output of one GPU (tokens/s)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.4)))
    axes.grid(visible=True, which="both", alpha=0.25)
    _name_points(axes, fronts)
    handles, _ = axes.get_legend_handles_labels()
    if known["lower"].notna().any():
        handles.append(Patch(color="0.5", alpha=0.3, linewidth=0, label="90 % interval"))
    axes.legend(handles=handles, fontsize=8)
    axes.set_title(sentence(found).partition(": ")[0], fontsize=10)
    return figure


def _other_calibration(found: Recommendation, line: pd.DataFrame) -> str:
    """The calibration of a line in words where it is not that of the title."""
    if not len(line):
        return ""
    row = {str(key): value for key, value in line.iloc[0].items()}
    own = found.deployments.calibration_of(row)
    return "" if own == found.deployments.calibration else f", by {own.split()[0]}"


def _hollow(axes: Axes, line: pd.DataFrame, colour: str, mark: str) -> None:
    """Draw points hollow that extrapolate further than all of their line do."""
    if not len(line):
        return
    further = line[line["beyond"].astype(int) != _common(line)]
    axes.plot(
        further["per_user"],
        further["per_gpu"],
        mark,
        color=colour,
        markerfacecolor="white",
        markersize=5,
    )


def flagged(line: pd.DataFrame) -> str:
    """Extrapolations of the points of a line, for its name in the legend.

    Those of all points are named first, then those of the hollow ones alone.
    """
    if not len(line):
        return ""
    common, some = _common(line), int(np.bitwise_or.reduce(line["beyond"].to_numpy(int)))
    parts = [_in_words(common)]
    if some != common:
        parts.append(f"hollow: {_in_words(some & ~common)}")
    words = "; ".join(part for part in parts if part)
    return f" ({words})" if words else ""


def _common(line: pd.DataFrame) -> int:
    """Sum of the bits of extrapolations that all points of a line have."""
    return int(np.bitwise_and.reduce(line["beyond"].to_numpy(int)))


def _in_words(bits: int) -> str:
    return ", ".join(word.replace("_", " ") for word in extrapolations(bits))


def _draw_interval(axes: Axes, line: pd.DataFrame, colour: str) -> None:
    """Shade the 90 % interval of the throughput per GPU, if it has one."""
    if line["lower"].notna().any():
        low, high = line["lower"] / line["gpus"], line["upper"] / line["gpus"]
        axes.fill_between(line["per_user"], low, high, color=colour, alpha=0.12, linewidth=0)


def _name_points(axes: Axes, fronts: Sequence[tuple[pd.DataFrame, str]]) -> None:
    """Write precision and layout beside points where they change, as far as there is room."""
    taken: list[tuple[float, float]] = []
    to_axes = axes.transData + axes.transAxes.inverted()
    for line, colour in fronts:
        before = ""
        for row in line.to_dict("records"):
            text = point_label({str(key): value for key, value in row.items()})
            x, y = to_axes.transform((row["per_user"], row["per_gpu"]))
            crowded = any(abs(x - u) < ROOM[0] and abs(y - v) < ROOM[1] for u, v in taken)
            if text == before or crowded:
                continue
            taken.append((x, y))
            before = text
            axes.annotate(
                text,
                (row["per_user"], row["per_gpu"]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=6.5,
                color=colour,
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
            )


def point_label(row: Mapping[str, Any]) -> str:
    """Precision and layout of a deployment: `fp8 tp 4`.

    Args:
        row: One deployment, by the columns of `Recommendation.scored`.
    """
    return " ".join([str(row["precision"]), *in_words(settings(row))])
