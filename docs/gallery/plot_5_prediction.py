"""
Predictions with their intervals
================================

Output throughput of LLaMA-3.1 8B in fp8 on one H100 under TensorRT-LLM, at each pair of published
lengths: the bound, the prediction by the shipped calibration with its 90 % interval, and the
published figure. The calibration was fitted to these rows; :doc:`/accuracy` reports its errors on
rows that it has not seen.
"""

from matplotlib.figure import Figure

from calibration.fit.table import tabulate
from calibration.measurements.table import read_measurements
from calibration.validation.predictions import predictions
from sweep.engines.calibration_file import load_calibration
from sweep.specs.catalog import Catalog

WANTED = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "scenario": "inflight",
    "engine_version": "1.0.0",
    "weight_dtype": "fp8",
    "tp": 1,
}

published = read_measurements("tensorrt-llm")
rows = [row for row in published if all(getattr(row, k) == v for k, v in WANTED.items())]
table = tabulate(sorted(rows, key=lambda row: (row.isl, row.osl)), Catalog())
bounds = predictions(table, None)["predicted"]
result = predictions(table, load_calibration("tensorrt-llm"))
positions = range(len(result))
below, above = result["predicted"] - result["lower"], result["upper"] - result["predicted"]

figure = Figure(figsize=(8.5, 5), layout="constrained")
axes = figure.subplots()
axes.plot(positions, bounds, "_", color="#000000", markersize=18, label="bound")
axes.errorbar(
    positions,
    result["predicted"],
    yerr=[below, above],
    fmt="o",
    color="#0072B2",
    capsize=4,
    label="prediction, 90 % interval",
)
axes.plot(positions, result["value"], "D", color="#D55E00", label="published")
lengths = [f"{isl} in\n{osl} out" for isl, osl in zip(result["isl"], result["osl"], strict=True)]
axes.set_xticks(positions, lengths, fontsize=8)
axes.set_ylabel("output (tokens/s)")
axes.set_yscale("log")
axes.set_yticks([1000, 2000, 5000, 10_000, 20_000, 50_000])
axes.yaxis.set_major_formatter("{x:g}")
axes.yaxis.set_minor_formatter("")
axes.grid(axis="y", which="both", alpha=0.3)
axes.legend()
