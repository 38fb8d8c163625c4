"""
The factors of the shipped calibration
======================================

Each factor of the fit with its 90 % interval. If the interval is wide, the published rows hardly
constrain the factor, and its value is mostly the prior's.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from calibration.figures import forest
from sweep.engines.calibration_file import load_calibration

calibration = load_calibration("tensorrt-llm")
factors = calibration.factors
fit = xr.Dataset(
    {
        "estimate": ("parameter", [np.log(found.value) for found in factors.values()]),
        "standard_error": ("parameter", [found.standard_error for found in factors.values()]),
    },
    {"parameter": list(factors)},
)
figure = Figure(figsize=(8, 7), layout="constrained")
forest(figure.subplots(), fit)
