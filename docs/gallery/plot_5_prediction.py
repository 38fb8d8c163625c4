"""
Predictions with their intervals
================================

Output throughput of LLaMA-3.1 8B in fp8 on one H100 under TensorRT-LLM, at each length for which
one was published: the bound, the prediction by the shipped calibration with its 90 % interval, and
the published figures. The calibration has seen these rows; :doc:`/accuracy` tells how far off it is
on rows it has not seen.
"""

from matplotlib.figure import Figure

from calibration.fit.table import tabulate
from calibration.measurements.table import read_measurements
from calibration.validation.predictions import predictions
from sweep.engines.calibration_file import load_efficiency
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
told = predictions(table, load_efficiency("tensorrt-llm"))
places = range(len(told))
below, above = told["predicted"] - told["lower"], told["upper"] - told["predicted"]

figure = Figure(figsize=(8.5, 5), layout="constrained")
axes = figure.subplots()
axes.plot(places, bounds, "_", color="#000000", markersize=18, label="bound")
axes.errorbar(
    places,
    told["predicted"],
    yerr=[below, above],
    fmt="o",
    color="#0072B2",
    capsize=4,
    label="prediction, 90 % interval",
)
axes.plot(places, told["value"], "D", color="#D55E00", label="published")
lengths = [f"{isl} in\n{osl} out" for isl, osl in zip(told["isl"], told["osl"], strict=True)]
axes.set_xticks(places, lengths, fontsize=8)
axes.set_ylabel("output tokens per second (1/s)")
axes.set_yscale("log")
axes.set_yticks([1000, 2000, 5000, 10_000, 20_000, 50_000])
axes.yaxis.set_major_formatter("{x:g}")
axes.yaxis.set_minor_formatter("")
axes.grid(axis="y", which="both", alpha=0.3)
axes.legend()
