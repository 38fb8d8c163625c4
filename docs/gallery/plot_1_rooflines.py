"""
Rooflines of six accelerators
=============================

Below its ridge point an operator waits for the memory, above it for the matrix units. The H20 has
the highest bandwidth of the six and the lowest peak but one, and so reaches its peak at the lowest
intensity.
"""

import sweep
from sweep.decisions.figures.rooflines import roofline_figure

NAMES = ["a100-sxm-80gb", "h20-96gb", "a800-sxm-80gb", "l40s", "l20", "rtx-4090"]

figure = roofline_figure([sweep.hardware(name) for name in NAMES], "half")
