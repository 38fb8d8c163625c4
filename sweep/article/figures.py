"""Draw the figures of the article, each by one call without arguments."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.article.contents import meshes, roofs, table
from sweep.article.published import ComparedRow, PublishedTable, Row
from sweep.decisions.figures.comparison import comparison_figure
from sweep.decisions.figures.rooflines import roofline_figure
from sweep.decisions.figures.style import COLOURS
from sweep.specs.catalog import Catalog, current_catalog

MEASURED, ESTIMATED, OURS, CALIBRATED = "#999999", COLOURS[1], COLOURS[5], COLOURS[0]


def article_rooflines(catalog: Catalog | None = None) -> Figure:
    """Rooflines of A100, H20, A800, L40S, L20 and RTX 4090.

    Args:
        catalog: Where to look names up; the user's and the shipped configs by default.
    """
    return roofline_figure(roofs(catalog or current_catalog()), "half")


def article_meshes(models: str | Sequence[str] = (), catalog: Catalog | None = None) -> Figure:
    """Decode throughput of A100 over H20: a row per model, a column per method.

    Args:
        models: Names or paths; by default LLaMA-2 13B and 70B, Mistral 7B and Mixtral 8x7B.
        catalog: Where to look names up; the user's and the shipped configs by default.

    Raises:
        SpecError: A model is unknown or malformed.
    """
    names = [models] if isinstance(models, str) else models
    return comparison_figure(meshes(catalog or current_catalog(), names))


def article_table(catalog: Catalog | None = None) -> Figure:
    """Throughputs of TensorRT-LLM on LLaMA 7B, with LLM-Viewer's estimates and ours.

    Args:
        catalog: Where to look names up; the user's and the shipped configs by default.
    """
    return published_figure(*table(catalog or current_catalog()))


def published_figure(table: PublishedTable, compared: Sequence[ComparedRow]) -> Figure:
    """Draw published figures and estimates: a panel per row, a bar per column.

    Each bar has its value and its error; the whisker is the 90 % interval of the calibrated
    figure.

    Args:
        table: The published table.
        compared: Its rows with our figures.
    """
    figure = Figure(figsize=(2.6 * len(compared), 4.4), layout="constrained")
    panels = figure.subplots(1, len(compared), squeeze=False)[0]
    for axes, line in zip(panels, compared, strict=True):
        _draw_row(axes, line)
    panels[0].set_ylabel("output (tokens/s)")
    columns = table.columns
    names = [
        f"{columns.measured.name}, measured",
        columns.estimated.name,
        "ours, uncalibrated",
        "ours, calibrated, with its 90 % interval",
    ]
    figure.legend(panels[0].containers[:4], names, loc="outside lower center", ncols=4, fontsize=8)
    point = table.point
    figure.suptitle(
        f"{point['model']} on one {point['hardware']}, {point['precision']}; each panel has its "
        "own scale",
        fontsize=11,
    )
    return figure


def _draw_row(axes: Axes, line: ComparedRow) -> None:
    row = line.row
    low, high = line.interval
    bars = [
        (row.measured, row.measured, MEASURED, ""),
        (row.estimated, row.estimated, ESTIMATED, "//"),
        (line.ours, line.ours, OURS, ".."),
        (line.calibrated, high, CALIBRATED, ""),
    ]
    for index, (value, top, colour, hatch) in enumerate(bars):
        axes.bar(index, value, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        axes.annotate(
            f"{value:,.0f}\n{_error(value, row)}" if index else f"{value:,.0f}",
            (index, top),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
            ha="center",
        )
    whisker = [[line.calibrated - low], [high - line.calibrated]]
    axes.errorbar([3], [line.calibrated], yerr=whisker, color="black", capsize=4, linewidth=1.4)
    axes.set_title(f"batch {row.batch_size}\n{row.isl:,} in, {row.osl:,} out (tokens)", fontsize=9)
    axes.set_xticks([])
    axes.margins(y=0.14)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)


def _error(value: float, row: Row) -> str:
    """Relative error of an estimate; small errors to a tenth of a percent."""
    error = value / row.measured - 1
    return f"{error:+.0%}" if abs(error) >= 0.1 else f"{error:+.1%}"
