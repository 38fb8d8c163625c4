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
FONT = 6.5
"""Size of the name of a point. [pt]"""
LETTER = (0.0072, 0.024)
"""Width and height of a letter of it, as shares of the picture. [1]"""
POINTS, GAP = 4.0, (0.0072, 0.0113)
"""Distance of a name from its point [pt], and the same as shares of the picture. [1]"""
MARK = np.array([0.0045, 0.007])
"""Half the size of a mark, as shares of the picture. [1]"""
SIDES = ((1, 1), (-1, -1), (1, 2.5), (-1, -2.5))
"""Distances of a name to the right and up, the best first; fronts fall to the right. [1]"""
BETWEEN = 30
"""Points of a piece of a line, or of a box, where a name may cover it. [count]"""
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
    """Write precision and layout beside the first points that have them and room."""
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    lines = [to_axes.transform(line[["per_user", "per_gpu"]].to_numpy(float)) for line, _ in fronts]
    taken = np.concatenate([np.empty((0, 2)), *map(_dense, lines)])
    for (line, colour), points in zip(fronts, lines, strict=True):
        named = set()
        for row, (x, y) in zip(line.to_dict("records"), points, strict=True):
            text = point_label({str(key): value for key, value in row.items()})
            free = None if text in named else free_side(x, y, text, taken)
            if free is None:
                continue
            right, up, box = free
            taken = np.concatenate([taken, box])
            named.add(text)
            axes.annotate(
                text,
                (row["per_user"], row["per_gpu"]),
                xytext=(POINTS * right, POINTS * up),
                textcoords="offset points",
                horizontalalignment="left" if right > 0 else "right",
                verticalalignment="bottom" if up > 0 else "top",
                fontsize=FONT,
                color=colour,
            )


def _dense(points: np.ndarray) -> np.ndarray:
    """A line of points, with those between them at distances that no name fits into."""
    if len(points) < 2:
        return points
    steps = np.linspace(0, 1, BETWEEN)[:, None, None]
    return np.asarray((points[:-1] * (1 - steps) + points[1:] * steps).reshape(-1, 2))


def free_side(
    x: float, y: float, text: str, taken: np.ndarray
) -> tuple[float, float, np.ndarray] | None:
    """Offset of a name of the point (x, y) at which it covers nothing, and points of its box."""
    for right, up in SIDES:
        corner = np.array([x + GAP[0] * right, y + GAP[1] * up])
        size = np.array([LETTER[0] * len(text) * np.sign(right), LETTER[1] * np.sign(up)])
        ends = np.sort([corner, corner + size], axis=0)
        inside = np.all((taken > ends[0] - MARK) & (taken < ends[1] + MARK), axis=1)
        if ends[0].min() > 0 and ends[1].max() < 1 and not inside.any():
            return right, up, np.linspace(ends[0], ends[1], BETWEEN)
    return None


def point_label(row: Mapping[str, Any]) -> str:
    """Precision and layout of a deployment: `fp8 tp 4`.

    Args:
        row: One deployment, by the columns of `Recommendation.scored`.
    """
    return " ".join([str(row["precision"]), *in_words(settings(row))])
