"""Rooflines of accelerators."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from sweep.decisions.figures.style import COLOURS, LINES, plain_text
from sweep.specs.dtypes import DTYPE_TITLES
from sweep.specs.hardware import HardwareSpec


@plain_text
def roofline_figure(specs: Sequence[HardwareSpec], dtype: str, *, linear: bool = False) -> Figure:
    """Draw attainable rate over arithmetic intensity: a roof and its ridge point per accelerator.

    Args:
        specs: Accelerators, each with a peak for `dtype`.
        dtype: Operand type of the peaks.
        linear: Whether the axes are linear rather than logarithmic.
    """
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    ridges = [spec.peaks[dtype] / spec.memory_bandwidth_bytes_per_s for spec in specs]
    low, high = (0.0, 1.6 * max(ridges)) if linear else (1.0, 4.0 * max(ridges))
    widths = np.linspace(5.0, 1.5, len(specs))
    for spec, ridge, colour, line, width in zip(
        specs, ridges, cycle(COLOURS), cycle(LINES), widths, strict=False
    ):
        peak = spec.peaks[dtype]
        bandwidth = spec.memory_bandwidth_bytes_per_s / 1e12
        label = f"{spec.name}: {peak / 1e12:.4g} TFLOP/s, {bandwidth:.3g} TB/s, ridge {ridge:.0f}"
        intensities = np.array([low, ridge, high])
        roof = np.minimum(peak, intensities * spec.memory_bandwidth_bytes_per_s) / 1e12
        axes.plot(intensities, roof, linestyle=line, color=colour, linewidth=width, label=label)
        axes.plot([ridge], [peak / 1e12], "o", color=colour, markersize=6)
    if not linear:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("arithmetic intensity (FLOP per byte)")
    axes.set_ylabel(f"attainable rate, dense {DTYPE_TITLES.get(dtype, dtype)} (TFLOP/s)")
    axes.set_title("Rooflines; dots mark the ridge points (FLOP per byte)")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8, loc="lower right", handlelength=4)
    return figure
