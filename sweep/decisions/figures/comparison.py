"""Maps of a comparison over sequence length and batch size, or lines over one of them."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from sweep.decisions.comparison import Comparison
from sweep.decisions.figures.style import COLOURS, plain_text
from sweep.engines.calibration_file import IDEAL_NAME
from sweep.schema.axes import AXIS_LONG_NAMES
from sweep.schema.variables import VARIABLES

DIVERGING = "PuOr"
MOST_TICKS = 9
"""Largest number of ticks of an axis that are values of it."""
HATCHES = ("//", "..", "xx")
"""Hatching of cells that run on neither accelerator, on one alone, and of overloaded servers."""
HATCH_COLOUR = "0.6"
AXIS_LABELS = {
    "batch_size": "batch size (sequences)",
    "context_len": "context length (tokens)",
    "isl": "input length (tokens)",
    "osl": "output length (tokens)",
    "image_size": "side of the image (pixels)",
}
METHOD_TITLES = {
    "decode_step_latency": "operator roofline",
    "global_decode_step_latency": "global roofline",
}
METHOD_NOTES = {
    "decode_step_latency": "Operator roofline: each operator takes as long as its slowest "
    "resource; the times add up.",
    "global_decode_step_latency": "Global roofline: all operations of the step over the peak "
    "rate, or all its bytes over the bandwidth; the larger counts.",
}
"""Explanations of the methods, for the caption."""
QUANTITIES = {"decode_step_latency": "time of one decode step"}
"""Quantities by variable, where the long name adds the method."""
PANEL = 62
"""Letters of a line as wide as a panel. [count]"""
LETTERS = 130
"""Letters of 1 pt in an inch. [count]"""
MARGIN = 1.04
"""Room above and below the ratios of lines. [1]"""
RATIO_STEPS = (1.25, 2.0, 4.0, 10.0, 40.0, 100.0)
"""Ratios that have a tick, with their reciprocals 0.8, 0.5, 0.25 and so on; scales end at one."""


@plain_text
def comparison_figure(comparisons: Sequence[Sequence[Comparison]]) -> Figure:
    """Ratio meshes over sequence length and batch: a row per model, a column per method.

    Colours are centred on 1 and symmetric in the logarithm. The black line is the break-even,
    hatching marks cells that cannot run on both accelerators. A result with one batch size or one
    length is drawn as lines, with hollow points for such cells.

    Args:
        comparisons: Rows of comparisons that share their accelerators.
    """
    rows, columns = len(comparisons), len(comparisons[0])
    first, second = comparisons[0][0].hardware
    figure = Figure(figsize=(1.6 + 4.6 * columns, 1.4 + 3.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    norm = _symmetric_norm([c.ratio.values for row in comparisons for c in row])
    settings = {comparison.setting for row in comparisons for comparison in row}
    mesh = None
    for axes_row, row in zip(panels, comparisons, strict=True):
        for axes, comparison in zip(axes_row, row, strict=True):
            mesh = _draw_panel(axes, comparison, norm) or mesh
            method = METHOD_TITLES.get(comparison.variable, comparison.variable)
            own = f"\n{fill(comparison.setting, PANEL)}" if len(settings) > 1 else ""
            axes.set_title(f"{comparison.model}, {method}{own}", fontsize=9)
        if not _is_line(row[0]):
            axes_row[0].set_ylabel(_label(row[0].load_axis))
        else:
            axes_row[0].set_ylabel(f"advantage of {first} (ratio)")
    for axes, comparison in zip(panels[-1], comparisons[-1], strict=True):
        along = _line_axis(comparison) if _is_line(comparison) else comparison.length_axis
        axes.set_xlabel(_label(along))
    by = comparisons[0][0].calibration
    basis = "bounds" if by == IDEAL_NAME else f"predicted by {by.split()[0]}"
    narrow = columns == 1
    what = ", ".join([basis, *(settings if len(settings) == 1 else ())])
    pair, sign = f"{first} against {second}: {_quantity(comparisons)}", f"above 1, {first} is ahead"
    lines = [pair, sign, what] if narrow else [f"{pair}; {sign}", what]
    font = 9.5 if narrow else 12
    letters = int(figure.get_figwidth() * LETTERS / font)
    figure.suptitle(
        "\n".join(fill(line, letters, break_on_hyphens=False) for line in lines), fontsize=font
    )
    every = [comparison for row in comparisons for comparison in row]
    marks = _hatch_legend(every) if mesh is not None else _point_legend(every)
    notes = [note for name, note in METHOD_NOTES.items() if any(c.variable == name for c in every)]
    width = PANEL if narrow else 2 * PANEL
    if marks or notes:
        figure.legend(
            handles=marks,
            loc="outside lower center",
            ncols=2,
            fontsize=8,
            title="\n".join(fill(note, width) for note in notes),
            title_fontsize=8,
            frameon=False,
        )
    if mesh is not None:
        bar = figure.colorbar(mesh, ax=panels, shrink=0.9, aspect=18 * rows)
        bar.set_label(f"advantage of {first} (ratio)")
        ticks = _ratio_ticks(float(norm.vmax or 1.0))
        bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
        bar.minorticks_off()
    return figure


def _label(axis: str) -> str:
    return AXIS_LABELS.get(axis) or AXIS_LONG_NAMES[axis]


def _quantity(comparisons: Sequence[Sequence[Comparison]]) -> str:
    """The quantity that all panels show, by one method or by several."""
    name = comparisons[0][0].variable
    return QUANTITIES.get(name.removeprefix("global_"), VARIABLES[name].long_name)


def _is_line(comparison: Comparison) -> bool:
    """Whether the ratio varies along one axis only, or not at all."""
    return min(comparison.ratio.shape) == 1


def _line_axis(comparison: Comparison) -> str:
    """The axis that a line is drawn over: the one with several values."""
    ratio = comparison.ratio
    return max(map(str, ratio.dims), key=lambda dim: ratio.sizes[dim])


def _draw_panel(axes: Axes, comparison: Comparison, norm: LogNorm) -> QuadMesh | None:
    """Draw a mesh, or a line where there is one row or column of cells."""
    if not _is_line(comparison):
        return _draw_mesh(axes, comparison, norm)
    along = _line_axis(comparison)
    values = comparison.ratio[along].values
    ratio = comparison.ratio.values.ravel()
    axes.axhline(1.0, color="black", linewidth=1.0, linestyle="--")
    axes.plot(values, ratio, "-o", color=COLOURS[0], markersize=4)
    if comparison.fits is not None:
        both = comparison.fits[0].values.ravel() & comparison.fits[1].values.ravel()
        axes.plot(values[~both], ratio[~both], "o", color="white", markeredgecolor=COLOURS[0])
    if _is_logarithmic(values):
        axes.set_xscale("log", base=2)
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values, labels=[f"{value:,}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")
    axes.set_ylim((norm.vmin or 1.0) / MARGIN, (norm.vmax or 1.0) * MARGIN)
    ticks = _ratio_ticks(float(norm.vmax or 1.0))
    axes.set_yticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True, alpha=0.25)
    return None


def _draw_mesh(axes: Axes, comparison: Comparison, norm: LogNorm) -> QuadMesh:
    ratio = comparison.ratio
    lengths, batches = ratio[comparison.length_axis].values, ratio[comparison.load_axis].values
    x, y = _edges(lengths), _edges(batches)
    values = ratio.values
    mesh = axes.pcolormesh(x, y, values, norm=norm, cmap=DIVERGING, rasterized=True)
    for axis, set_scale, ticks in (
        (axes.xaxis, axes.set_xscale, lengths),
        (axes.yaxis, axes.set_yscale, batches),
    ):
        if _is_logarithmic(ticks):
            set_scale("log", base=2)
            ticks = ticks[:: -(-len(ticks) // MOST_TICKS)]
        if len(ticks) <= MOST_TICKS:
            axis.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
            axis.set_minor_locator(NullLocator())
    if min(values.shape) > 1 and np.nanmin(values) < 1 < np.nanmax(values):
        line = axes.contour(*_to_edges(x, y, ratio), levels=[1.0], colors="black", linewidths=1.8)
        axes.clabel(line, fmt={1.0: "break-even"}, fontsize=8)
    for cells, hatch in zip(_marked(comparison), HATCHES, strict=True):
        _hatch(axes, x, y, cells, hatch)
    return mesh


def _marked(comparison: Comparison) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells that run on neither, on one alone, and on both while requests wait for a slot."""
    none, all_ = np.zeros(comparison.ratio.shape, bool), np.ones(comparison.ratio.shape, bool)
    fits, waiting = comparison.fits, comparison.overloaded
    first, second = (all_, all_) if fits is None else (able.values for able in fits)
    overloaded = none if waiting is None else waiting.values
    return ~first & ~second, first ^ second, first & second & overloaded


def _hatch_legend(comparisons: Sequence[Comparison]) -> list[Patch]:
    first, second = comparisons[0].hardware
    fits = [(c.fits[0].values, c.fits[1].values) for c in comparisons if c.fits is not None]
    alone = [
        *([first] if any((a & ~b).any() for a, b in fits) else []),
        *([second] if any((b & ~a).any() for a, b in fits) else []),
    ]
    names = ["runs on neither", f"runs on {' or '.join(alone)} alone", "requests wait for a slot"]
    present = np.any([[cells.any() for cells in _marked(c)] for c in comparisons], axis=0)
    return [
        Patch(facecolor="none", edgecolor=HATCH_COLOUR, hatch=2 * hatch, label=name)
        for name, hatch, shown in zip(names, HATCHES, present, strict=True)
        if shown
    ]


def _point_legend(comparisons: Sequence[Comparison]) -> list[Line2D]:
    """Meaning of the hollow points of lines, if there are any."""
    fits = [(c.fits[0].values, c.fits[1].values) for c in comparisons if c.fits is not None]
    if all((a & b).all() for a, b in fits):
        return []
    first, second = comparisons[0].hardware
    hollow = Line2D(
        [],
        [],
        color="white",
        markeredgecolor=COLOURS[0],
        marker="o",
        linestyle="",
        label=f"cannot run on both {first} and {second}",
    )
    return [hollow]


def _hatch(axes: Axes, x: np.ndarray, y: np.ndarray, cells: np.ndarray, hatch: str) -> None:
    boxes = [
        Rectangle((x[column], y[row]), x[column + 1] - x[column], y[row + 1] - y[row])
        for row, column in zip(*np.nonzero(cells), strict=True)
    ]
    axes.add_collection(
        PatchCollection(boxes, facecolor="none", edgecolor=HATCH_COLOUR, linewidth=0.0, hatch=hatch)
    )


def _to_edges(
    x: np.ndarray, y: np.ndarray, array: xr.DataArray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell centres and values, with the outermost values repeated at the edges of the mesh."""
    batches, lengths = (array[dim].values for dim in array.dims)
    return (
        np.concatenate([x[:1], lengths, x[-1:]]),
        np.concatenate([y[:1], batches, y[-1:]]),
        np.pad(array.values, 1, mode="edge"),
    )


def _symmetric_norm(arrays: Sequence[np.ndarray]) -> LogNorm:
    logs = [np.abs(np.log(a[np.isfinite(a) & (a > 0)])) for a in arrays]
    spread = max((float(log.max()) for log in logs if log.size), default=0.0)
    top = next((step for step in RATIO_STEPS if spread <= np.log(step * 1.001)), np.exp(spread))
    return LogNorm(1 / top, top)


def _ratio_ticks(top: float) -> list[float]:
    steps = [step for step in RATIO_STEPS if step <= top * 1.001]
    return sorted([1 / step for step in steps] + [1.0] + steps)


def _is_logarithmic(values: np.ndarray) -> bool:
    """Whether values are evenly spaced as ratios, or span a decade without even steps."""
    if len(values) < 3 or values[0] <= 0:
        return False
    factors, steps = values[1:] / values[:-1], np.diff(values)
    even = factors.min() > 1.2 and factors.max() / factors.min() < 1.5
    return bool(even or (values[-1] > 10 * values[0] and steps.max() > 3 * steps.min() > 0))


def _edges(values: np.ndarray) -> np.ndarray:
    """Cell edges halfway between neighbours, on a logarithmic scale where values are so spaced."""
    if len(values) == 1:
        return np.array([values[0] * 0.5, values[0] * 1.5])
    logarithmic = _is_logarithmic(values)
    centres = np.log(values) if logarithmic else np.asarray(values, float)
    middles = (centres[1:] + centres[:-1]) / 2
    ends = [2 * centres[0] - middles[0]], [2 * centres[-1] - middles[-1]]
    edges = np.concatenate([ends[0], middles, ends[1]])
    return np.exp(edges) if logarithmic else edges
