"""Times the kernel on models of several structures, static and in flight, fused and unfused.

Run as `python -m benchmarks.structures`; what the rows mean stands in `benchmarks/README.md`.
"""

import json
from collections.abc import Callable
from math import prod
from time import perf_counter
from typing import Any

import click
import jax
import numpy as np

from benchmarks.kernel import HARDWARE
from benchmarks.report import machine, print_table
from sweep.catalog import current_catalog
from sweep.grid import Grid, resolve
from sweep.mapping import kernel
from sweep.stacking import hardware_params, model_params, precision_params, stack
from sweep.variables import AXES

MODELS = {
    "dense": "llama-2-70b",
    "experts": "mixtral-8x7b",
    "latent attention and experts": "deepseek-v3",
    "chunked attention and experts": "llama-4-scout",
}
DECODE, REQUEST, INFLIGHT = "decode_step_latency", "output_throughput", "inflight_output_throughput"


def axes_of(variable: str, length: int) -> dict[str, list[int]]:
    """Axes of about 4 million points with the 16 accelerators, for a `length` of 1024."""
    if variable == DECODE:
        return {
            "batch_size": list(range(1, 257)),
            "context_len": [16 * n for n in range(1, length + 1)],
        }
    load = "batch_size" if variable == REQUEST else "concurrency"
    return {
        load: [2**n for n in range(8)],
        "isl": [64 * n for n in range(1, length // 8 + 1)],
        "osl": [16 * n for n in range(1, length // 4 + 1)],
    }


def case(
    variable: str, model: str, length: int
) -> tuple[int, Callable[[], Any], Callable[[], Any]]:
    """Points, the fused kernel into reused memory, and the same formulas one by one."""
    axes = axes_of(variable, length)
    grid = resolve(
        Grid(models=[model], hardware=HARDWARE, variables=[variable], **axes), current_catalog()
    )
    names = tuple((name, grid.dims(name)) for name in grid.variables if name == variable)
    call = kernel(names, False)
    by_axis = {
        "model": stack([model_params(blocks) for _, blocks in grid.models], np.float32),
        "hardware": stack([hardware_params(spec) for spec in grid.hardware], np.float32),
        "precision": stack([precision_params(spec) for spec in grid.precision], np.float32),
        **{axis: np.asarray(values, np.float32) for axis, values in grid.numbers.items()},
    }
    arguments = jax.device_put([by_axis.get(axis) for axis in AXES])
    sizes = grid.sizes
    zeros = np.zeros([sizes[dim] for dim in grid.dims(variable)], np.float32)
    buffers = {variable: jax.device_put(zeros)}

    def fused() -> Any:
        nonlocal buffers
        buffers = call(buffers, {}, *arguments)
        return jax.block_until_ready(buffers)

    def unfused() -> Any:
        with jax.disable_jit():
            return jax.block_until_ready(call({}, {}, *arguments))

    return prod(sizes.values()), fused, unfused


def clock(run: Callable[[], Any]) -> float:
    """Time of one run. [s]"""
    start = perf_counter()
    run()
    return perf_counter() - start


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=7, help="Rounds.")
@click.option("--small", is_flag=True, help="A small grid, to see that it works; no true figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(repeats: int, small: bool, as_json: bool) -> None:
    """Time dense models, experts, latent attention and in-flight batching."""
    length = 64 if small else 1024
    rows = []
    for variable in (DECODE, REQUEST, INFLIGHT):
        for words, model in MODELS.items():
            points, fused, unfused = case(variable, model, length)
            first = clock(fused)
            unfused()
            times = np.asarray([(clock(fused), clock(unfused)) for _ in range(repeats)])
            rows.append(
                {
                    "variable": variable,
                    "model": f"{model} ({words})",
                    "M points/s": points / float(np.median(times[:, 0])) / 1e6,
                    "unfused": points / float(np.median(times[:, 1])) / 1e6,
                    "× unfused": float(np.median(times[:, 1] / times[:, 0])),
                    "first call s": first,
                }
            )
    for row in rows:
        row["over dense"] = row["× unfused"] / rows[0]["× unfused"]
    if as_json:
        click.echo(json.dumps({"machine": machine(), "repeats": repeats, "rows": rows}, indent=2))
        return
    print_table(f"Median of {repeats} rounds", rows, machine())


if __name__ == "__main__":
    main()
