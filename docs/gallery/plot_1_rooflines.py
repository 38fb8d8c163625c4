"""
Rooflines of six accelerators
=============================

Below the ridge point memory binds, above it the matrix units bind. The H20 has the highest
bandwidth of the six and the second-lowest peak, so it reaches its peak at the lowest intensity.
"""

import sweep
from sweep.decisions.figures.rooflines import roofline_figure

NAMES = ["a100-sxm-80gb", "h20-96gb", "a800-sxm-80gb", "l40s", "l20", "rtx-4090"]

figure = roofline_figure([sweep.hardware(name) for name in NAMES], "half")
