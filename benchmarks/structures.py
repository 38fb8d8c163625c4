"""Speed of the kernel against NumPy on models of several structures, static and in flight.

Run as `python -m benchmarks.structures`; `benchmarks/README.md` explains the rows.
"""

import dataclasses
import json
from collections.abc import Callable
from itertools import product
from math import prod
from time import perf_counter
from typing import Any, NamedTuple

import click
import jax
import numpy as np

from benchmarks.broadcasting import Program
from benchmarks.kernel import HARDWARE
from benchmarks.report import machine, print_table
from sweep.evaluation.kernel_inputs import (
    hardware_params,
    model_params,
    precision_params,
    stack,
)
from sweep.evaluation.plan import make_plan
from sweep.evaluation.vmapped_kernel import kernel
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.runs.huge_pages import restart_with_huge_pages
from sweep.runs.run import run_plan
from sweep.schema.axes import AXES
from sweep.specs.catalog import current_catalog

MODELS = {
    "dense": "llama-2-70b",
    "experts": "mixtral-8x7b",
    "latent attention and experts": "deepseek-v3",
    "chunked attention and experts": "llama-4-scout",
    "linear attention, attention and experts": "qwen3-next-80b-a3b",
    "selected latents and experts": "glm-5",
}
TOLERANCE = 2e-3
"""Largest relative difference accepted. In float32 another order of the same operations may change
a number of iterations, which is rounded up, by one. [1]"""
DECODE, REQUEST, INFLIGHT = "decode_step_latency", "output_throughput", "inflight_output_throughput"
QUEUEING = "inflight_ttft"
"""In flight with the waits of clients, and of requests at a rate, whose distributions are loops
that NumPy leaves out; only of a dense model."""
CASES = [
    (DECODE, ""),
    (REQUEST, "batch_size"),
    (INFLIGHT, "concurrency"),
    (QUEUEING, "concurrency"),
    (QUEUEING, "request_rate"),
]
"""Variables, and the axis of their load."""


def axes_of(load: str, length: int) -> dict[str, list[int]]:
    """Axes of about 4 million points with the 16 accelerators, for a `length` of 1024.

    A sixteenth of them where requests arrive at a rate.
    """
    if load == "request_rate":
        length //= 4
    if not load:
        return {
            "batch_size": list(range(1, 257)),
            "context_len": [16 * n for n in range(1, length + 1)],
        }
    return {
        load: [2**n for n in range(8)],
        "isl": [64 * n for n in range(1, length // 8 + 1)],
        "osl": [16 * n for n in range(1, length // 4 + 1)],
    }


class Case(NamedTuple):
    """One variable of one model on one grid.

    Attributes:
        points: Points of the grid. [count]
        kernel: The compiled kernel, into reused memory.
        dataset: The public interface: a fresh, labelled Dataset.
        numpy: The same formulas in NumPy broadcasting, prepared beforehand; `None` if left out.
    """

    points: int
    kernel: Callable[[], Any]
    dataset: Callable[[], Any]
    numpy: Callable[[], Any] | None

    def difference(self) -> float:
        """Largest relative difference between the routes. [1]"""
        expected = np.asarray(self.kernel())
        others = [self.dataset()]
        if self.numpy is not None:
            others.append(self.numpy().reshape(expected.shape))
        return float(max(np.nanmax(np.abs(other / expected - 1)) for other in others))


def case(variable: str, load: str, model: str, length: int) -> Case:
    """`variable` of `model` on 16 accelerators, whether or not it fits in their memory."""
    numbers = axes_of(load, length)
    asked = Grid(
        models=[model], hardware=HARDWARE, precision=["fp16"], variables=[variable], **numbers
    )
    grid = dataclasses.replace(resolve(asked, current_catalog()), variables=(variable,))
    call = kernel(((variable, grid.dims(variable)),), True)
    axes = {
        "model": stack([model_params(blocks) for _, blocks in grid.models], np.float32),
        "hardware": stack([hardware_params(spec) for spec in grid.hardware], np.float32),
        "precision": stack([precision_params(spec) for spec in grid.precision], np.float32),
        **{axis: np.asarray(values, np.float32) for axis, values in grid.numbers.items()},
    }
    arguments = jax.device_put([axes.get(axis) for axis in AXES])
    sizes = grid.sizes
    zeros = np.zeros([sizes[dim] for dim in grid.dims(variable)], np.float32)
    buffers = {variable: jax.device_put(zeros)}

    def one_point(*given: Any) -> Any:
        point = Point(**dict(zip(sizes, given, strict=True)))
        return getattr(Request(point, keep_infeasible=True), variable)

    given = [axes[axis] for axis in sizes]
    program = None if load == "request_rate" else Program(one_point, *given)

    def run_kernel() -> Any:
        nonlocal buffers
        buffers = call(buffers, {}, {}, *arguments)
        return jax.block_until_ready(buffers)[variable]

    return Case(
        points=prod(sizes.values()),
        kernel=run_kernel,
        dataset=lambda: run_plan(make_plan(grid, keep_infeasible=True))[variable].values,
        numpy=None if program is None else lambda: program(*given)[0],
    )


def clock(run: Callable[[], Any] | None) -> float:
    """Time of one run; NaN if left out. [s]"""
    if run is None:
        return float("nan")
    start = perf_counter()
    run()
    return perf_counter() - start


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=7, help="Rounds.")
@click.option("--small", is_flag=True, help="Check two models on small grids; no true figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(repeats: int, small: bool, as_json: bool) -> None:
    """Time dense models, experts, latent attention and in-flight batching."""
    rows = []
    for (variable, load), (words, model) in product(CASES, MODELS.items()):
        if (variable == QUEUEING or (small and variable != DECODE)) and words != "dense":
            continue
        if small and words not in ("dense", "experts"):
            continue
        one = case(variable, load, model, 64 if small else 1024)
        difference = one.difference()
        if not difference < TOLERANCE:
            raise SystemExit(f"{variable} of {model}: routes differ by {difference:.2g}, relative")
        routes = one.numpy, one.kernel, one.dataset
        seconds = np.asarray([[clock(route) for route in routes] for _ in range(repeats)])
        faster = np.median(seconds[:, :1] / seconds, axis=0)
        rate = one.points / np.median(seconds, axis=0) / 1e6
        figures = {
            "kernel M points/s": rate[1],
            "Dataset M points/s": rate[2],
            "NumPy M points/s": rate[0],
            "kernel × NumPy": faster[1],
            "Dataset × NumPy": faster[2],
        }
        known = {name: None if np.isnan(value) else value for name, value in figures.items()}
        rows.append({"variable": variable, "load": load, "model": f"{model} ({words})", **known})
    if as_json:
        click.echo(json.dumps({"machine": machine(), "repeats": repeats, "rows": rows}, indent=2))
        return
    print_table(f"Median of {repeats} rounds", rows, machine())


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
