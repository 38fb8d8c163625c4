"""Pictures of one cell taken apart, and of what deployments offer users and owners."""

from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from sweep.advice import sentence
from sweep.explanation import HOST, SPENT, Explanation, Phase, title
from sweep.plots import COLOURS, plain_text
from sweep.recommendation import Recommendation, pareto_front

SPENT_COLOURS = dict(zip(SPENT, (*COLOURS[:3], COLOURS[4], "#999999"), strict=True))
SPENT_HATCHES = dict(zip(SPENT, ("", "//", "..", "xx", ""), strict=True))
SPENT_LABELS = {
    "memory": "device memory binds",
    "compute": "compute binds",
    "communication": "exchange between GPUs binds",
    "unhidden": "not hidden behind what binds",
    "overhead": "launches and host",
}
PHASE_TITLES = {"prefill": "prefill of the batch", "decode_step": "one decode step"}
SHOWN = 0.002
"""Share of a phase below which an operator gets no bar of its own. [1]"""
UNITS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))
"""Least time, factor and name of a unit."""


@plain_text
def explanation_figure(explanation: Explanation) -> Figure:
    """Time of each operator, stacked by what it is spent on: a panel for each phase."""
    phases = explanation.phases
    rows = max(len(_bars(phase)) for phase in phases)
    figure = Figure(figsize=(1.5 + 5.4 * len(phases), 2.2 + 0.3 * rows), layout="constrained")
    panels = figure.subplots(1, len(phases), squeeze=False)[0]
    for axes, phase in zip(panels, phases, strict=True):
        _draw_phase(axes, phase)
    present = [s for s in SPENT if any(phase.share(s) > SHOWN / 10 for phase in phases)]
    handles = [
        axes.barh([0], [0], color=SPENT_COLOURS[s], hatch=SPENT_HATCHES[s], edgecolor="white")
        for axes, s in ((panels[0], s) for s in present)
    ]
    labels = [SPENT_LABELS[s] for s in present]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(title(explanation), fontsize=10)
    return figure


def _bars(phase: Phase) -> list[tuple[str, dict[str, float]]]:
    """Operators of some length and their times; the others as one, at the end. [s]"""
    least = SHOWN * phase.latency
    bars = [(p.operator, dict(p.seconds)) for p in phase.parts if p.latency >= least]
    small = [p for p in phase.parts if 0 < p.latency < least]
    if small:
        rest = {s: sum(p.seconds[s] for p in small) for s in SPENT}
        bars.append((f"{len(small)} others", rest))
    return bars


def _draw_phase(axes: Axes, phase: Phase) -> None:
    bars = _bars(phase)
    factor, unit = _unit(max(sum(times.values()) for _, times in bars))
    ends = [0.0] * len(bars)
    for spent in SPENT:
        widths = [factor * times[spent] for _, times in bars]
        axes.barh(
            range(len(bars)),
            widths,
            left=ends,
            color=SPENT_COLOURS[spent],
            hatch=SPENT_HATCHES[spent],
            edgecolor="white",
            linewidth=0.0,
        )
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        share = end / factor / phase.latency
        axes.annotate(
            f"{share:.1%}",
            (end, place),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
        )
    names = [name.replace("_", " ") + (" overhead" if name == HOST else "") for name, _ in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(ends))
    axes.set_xlabel(f"time of all layers ({unit})")
    whole, whole_unit = _unit(phase.latency)
    what = PHASE_TITLES[phase.name]
    axes.set_title(
        f"{what}: {whole * phase.latency:.3g} {whole_unit} at {phase.tokens:,.0f} tokens",
        fontsize=9,
    )
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _unit(seconds: float) -> tuple[float, str]:
    return next((factor, name) for least, factor, name in UNITS if seconds >= least)


MARKS = "osD^vP"
MOST_LINES = 6
"""Accelerators that a picture of fronts tells apart; the best of them. [count]"""


@plain_text
def front_figure(found: Recommendation) -> Figure:
    """What deployments give a user against what they give on a GPU, the front in black."""
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
        label=f"all {len(known):,} within the limits",
    )
    best = found.ranked["hardware"].drop_duplicates()[:MOST_LINES]
    for name, colour, mark in zip(best, cycle(COLOURS), cycle(MARKS), strict=False):
        line = pareto_front(known[known["hardware"] == name])
        axes.plot(
            line["per_user"], line["per_gpu"], f"-{mark}", color=colour, label=name, markersize=5
        )
    line = found.front
    axes.plot(line["per_user"], line["per_gpu"], "--", color="black", linewidth=2.2, label="front")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("output tokens per second of one user (1/s)")
    axes.set_ylabel("output tokens per second and GPU (1/s)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.4)))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    axes.set_title(sentence(found).partition(": ")[0], fontsize=10)
    return figure
