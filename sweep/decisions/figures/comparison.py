"""Maps of a comparison over sequence length and batch size."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from sweep.decisions.compare import Comparison
from sweep.decisions.figures.style import plain_text
from sweep.engines.calibration_file import IDEAL_NAME
from sweep.schema.axes import AXIS_LONG_NAMES

DIVERGING = "PuOr"
MOST_TICKS = 9
"""Number of values of an axis up to which each has a tick."""
HATCHES = ("//", "..")
"""Hatching of cells that run on neither accelerator, and of cells that run on one alone."""
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
SMALLEST_SPREAD = 1.25
"""Smallest ratio at the end of the colour scale, for ratios that are all close to 1."""


@plain_text
def comparison_figure(comparisons: Sequence[Sequence[Comparison]]) -> Figure:
    """Ratio meshes over sequence length and batch: a row per model, a column per method.

    Colours are centred on 1 and symmetric in the logarithm. The black line is the break-even,
    hatching marks cells that cannot run on both accelerators.

    Args:
        comparisons: Rows of comparisons that share their accelerators.
    """
    rows, columns = len(comparisons), len(comparisons[0])
    first, second = comparisons[0][0].hardware
    figure = Figure(figsize=(1.6 + 4.6 * columns, 1.0 + 3.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    norm = _symmetric_norm([c.ratio.values for row in comparisons for c in row])
    settings = {comparison.setting for row in comparisons for comparison in row}
    mesh = None
    for axes_row, row in zip(panels, comparisons, strict=True):
        for axes, comparison in zip(axes_row, row, strict=True):
            mesh = _draw_mesh(axes, comparison, norm)
            method = METHOD_TITLES.get(comparison.variable, comparison.variable)
            own = f"\n{comparison.setting}" if len(settings) > 1 else ""
            axes.set_title(f"{comparison.model}, {method}{own}", fontsize=9)
        axes_row[0].set_ylabel(_label(row[0].load_axis))
    for axes, comparison in zip(panels[-1], comparisons[-1], strict=True):
        axes.set_xlabel(_label(comparison.length_axis))
    by = comparisons[0][0].calibration
    basis = "bounds" if by == IDEAL_NAME else f"predicted by {by.split()[0]}"
    what = ", ".join([basis, *(settings if len(settings) == 1 else ())])
    figure.suptitle(
        f"{first} against {second}: above 1, {first} is ahead\n{what}",
        fontsize=12 if columns > 1 else 10,
    )
    marks = _hatch_legend([c for row in comparisons for c in row])
    if marks:
        figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=8)
    assert mesh is not None
    bar = figure.colorbar(mesh, ax=panels, shrink=0.9, aspect=18 * rows)
    bar.set_label(f"advantage of {first} (ratio)")
    ticks = _ratio_ticks(float(norm.vmax or SMALLEST_SPREAD))
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    bar.minorticks_off()
    return figure


def _label(axis: str) -> str:
    return AXIS_LABELS.get(axis) or AXIS_LONG_NAMES[axis]


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
        if len(ticks) <= MOST_TICKS:
            axis.set_ticks(ticks, labels=[str(tick) for tick in ticks])
            axis.set_minor_locator(NullLocator())
    if min(values.shape) > 1 and np.nanmin(values) < 1 < np.nanmax(values):
        line = axes.contour(*_to_edges(x, y, ratio), levels=[1.0], colors="black", linewidths=1.8)
        axes.clabel(line, fmt={1.0: "break-even"}, fontsize=8)
    if comparison.fits is not None:
        first, second = (able.values for able in comparison.fits)
        for cells, hatch in zip((~first & ~second, first ^ second), HATCHES, strict=True):
            _hatch(axes, x, y, cells, hatch)
    return mesh


def _hatch_legend(comparisons: Sequence[Comparison]) -> list[Patch]:
    first, second = comparisons[0].hardware
    fits = [(c.fits[0].values, c.fits[1].values) for c in comparisons if c.fits is not None]
    alone = [
        *([first] if any((a & ~b).any() for a, b in fits) else []),
        *([second] if any((b & ~a).any() for a, b in fits) else []),
    ]
    names = ["runs on neither", f"runs on {' or '.join(alone)} alone"]
    present = [any((~a & ~b).any() for a, b in fits), bool(alone)]
    return [
        Patch(facecolor="none", edgecolor=HATCH_COLOUR, hatch=2 * hatch, label=name)
        for name, hatch, shown in zip(names, HATCHES, present, strict=True)
        if shown
    ]


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
    top = max(float(np.exp(spread)), SMALLEST_SPREAD)
    return LogNorm(1 / top, top)


def _ratio_ticks(top: float) -> list[float]:
    steps = [t for t in (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0) if t <= top * 1.001]
    steps = steps[-3:] if len(steps) > 3 else steps
    return sorted([1 / t for t in steps] + [1.0] + steps)


def _is_logarithmic(values: np.ndarray) -> bool:
    if len(values) < 3:
        return False
    factors = values[1:] / values[:-1]
    return bool(factors.min() > 1.2 and factors.max() / factors.min() < 1.5)


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
