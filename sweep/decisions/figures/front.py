"""Pareto front of throughput per GPU against throughput per user."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from sweep.decisions.deployments import extrapolations
from sweep.decisions.figures.style import COLOURS, plain_text
from sweep.decisions.recommend import Recommendation, pareto_front
from sweep.decisions.recommend_text import sentence

MARKS = "osD^vP"
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
    for name, colour, mark in zip(best, cycle(COLOURS), cycle(MARKS), strict=False):
        line = pareto_front(known[known["hardware"] == name])
        label = f"{name}{flagged(line)}"
        axes.plot(
            line["per_user"], line["per_gpu"], f"-{mark}", color=colour, label=label, markersize=5
        )
        _draw_interval(axes, line, colour)
    line = found.front
    axes.plot(line["per_user"], line["per_gpu"], "--", color="black", linewidth=2.2, label="front")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("output tokens per second of one user (1/s)")
    axes.set_ylabel("output tokens per second per GPU (1/s)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.4)))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    axes.set_title(sentence(found).partition(": ")[0], fontsize=10)
    return figure


def flagged(line: pd.DataFrame) -> str:
    """Extrapolations of the points of a line, for its name in the legend."""
    bits = int(np.bitwise_or.reduce(line["beyond"].to_numpy(int))) if len(line) else 0
    words = [word.replace("_", " ") for word in extrapolations(bits)]
    return f" ({', '.join(words)})" if words else ""


def _draw_interval(axes: Axes, line: pd.DataFrame, colour: str) -> None:
    """Shade the 90 % interval of the throughput per GPU, if it has one."""
    if line["lower"].notna().any():
        low, high = line["lower"] / line["gpus"], line["upper"] / line["gpus"]
        axes.fill_between(line["per_user"], low, high, color=colour, alpha=0.12, linewidth=0)
