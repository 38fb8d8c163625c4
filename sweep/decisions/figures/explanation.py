"""Bars of the time of each operator of one cell."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.decisions.explain import Explanation, Phase
from sweep.decisions.explain_text import title
from sweep.decisions.figures.style import COLOURS, plain_text
from sweep.decisions.operator_breakdown import HOST, SPENT

SPENT_COLOURS = dict(zip(SPENT, (*COLOURS[:3], COLOURS[4], "#999999", COLOURS[5]), strict=True))
SPENT_HATCHES = dict(zip(SPENT, ("", "//", "..", "xx", "", "\\\\"), strict=True))
SPENT_LABELS = {
    "memory": "bound by device memory",
    "compute": "bound by compute",
    "communication": "bound by exchange between GPUs",
    "unhidden": "not overlapped",
    "overhead": "launches and host",
    "small_matrices": "units idle in small matrices",
}
PHASE_TITLES = {
    "prefill": "prefill of the batch",
    "decode_step": "one decode step",
    "prompt_iteration": "iteration with prompts",
    "decode_iteration": "iteration without prompts",
}
SHOWN = 0.002
"""Share of a phase below which an operator gets no bar of its own. [1]"""
UNITS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))
"""Smallest time, factor and name of each unit."""


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
    """Operators and their times; those shorter than `SHOWN` are one bar at the end. [s]"""
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
    for index, end in enumerate(ends):
        share = end / factor / phase.latency
        axes.annotate(
            f"{share:.1%}",
            (end, index),
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
