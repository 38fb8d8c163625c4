"""Speed of the kernel against NumPy and a Python loop on one grid; all must agree.

Run as `python -m benchmarks.kernel`; `benchmarks/README.md` explains the rows.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import click
import jax
import numpy as np

from benchmarks import formula
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
from sweep.grid.resolved import Resolved, resolve
from sweep.runs.huge_pages import restart_with_huge_pages
from sweep.runs.run import run_plan
from sweep.schema.axes import AXES
from sweep.specs.catalog import current_catalog

MODELS = [
    *("llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-8b", "llama-3.1-70b"),
    *("llama-3.1-405b", "qwen2.5-7b", "qwen2.5-72b"),
]
HARDWARE = [
    *("v100-sxm2-32gb", "a10g", "a30", "a40", "l4", "l40s", "rtx-4090", "a100-sxm-40gb"),
    *("a100-sxm-80gb", "h20-96gb", "h100-pcie-80gb", "h100-sxm-80gb", "h200-sxm-141gb"),
    *("b200-sxm", "mi300x", "mi325x"),
]
TOLERANCE = 1e-4
SAMPLE = 2000
"""Points that the Python loop evaluates. [count]"""


class Case(NamedTuple):
    """One implementation, ready to run.

    Attributes:
        points: Grid points it evaluates. [count]
        run: Evaluates them; its result is complete when it returns.
        question: Computation that several implementations share; empty if only this one has it.
        values: Latencies in a result, and the indices of their points in the grid.
    """

    points: int
    run: Callable[[], Any]
    question: str = ""
    values: Callable[[Any], tuple[np.ndarray, Any]] = lambda result: (result, ...)


class Size(NamedTuple):
    """Lengths of the axes beside models and hardware. [count]"""

    batch: int
    context: int

    def grid(self, **changes: Any) -> Resolved:
        """The grid that all implementations share, or one with some axes changed."""
        axes = {
            "models": MODELS,
            "hardware": HARDWARE,
            "batch_size": list(range(1, self.batch + 1)),
            "context_len": _every(16, self.context),
            "variables": ["decode_step_latency"],
        }
        return resolve(Grid(**{**axes, **changes}), current_catalog())


def _every(step: int, length: int) -> list[int]:
    return [step * (index + 1) for index in range(length)]


def dataset(size: Size, question: str = "", **changes: Any) -> Case:
    """The public interface: a fresh, labelled Dataset each time."""
    grid = size.grid(**changes)
    shape = (len(MODELS), len(HARDWARE), size.batch, size.context)

    def values(result: Any) -> tuple[np.ndarray, Any]:
        return result[grid.variables[0]].values.reshape(shape), ...

    return Case(grid.points, lambda: run_plan(make_plan(grid)), question, values)


def bare(size: Size) -> Case:
    """The compiled kernel alone, model by model into one set of buffers."""
    grid = size.grid()
    call = kernel(tuple((name, grid.dims(name)) for name in grid.variables), False)
    models = [stack([model_params(blocks)], np.float32) for _, blocks in grid.models]
    axes = {
        "hardware": stack([hardware_params(spec) for spec in grid.hardware], np.float32),
        "precision": stack([precision_params(spec) for spec in grid.precision], np.float32),
        **{axis: np.asarray(values, np.float32) for axis, values in grid.numbers.items()},
    }
    shared = [axes.get(axis) for axis in AXES if axis != "model"]
    models, shared = jax.device_put((models, shared))
    zeros = np.zeros((1, *list(grid.sizes.values())[1:]), np.float32)
    buffers = {name: jax.device_put(zeros) for name in grid.variables}

    def run() -> np.ndarray:
        nonlocal buffers
        for model in models:
            buffers = call(buffers, {}, {}, model, *shared)
        jax.block_until_ready(buffers)
        return np.asarray(buffers["decode_step_latency"]).squeeze()

    return Case(grid.points, run, DECODE, lambda last: (last, -1))


def by_hand(
    size: Size,
) -> tuple[list[formula.Model], list[formula.Machine], np.ndarray, np.ndarray]:
    """Models, machines, batch sizes and contexts in the form of the hand-written formula."""
    grid = size.grid()
    models = [
        formula.Model(
            *(layer.count, layer.hidden_size, layer.heads, layer.kv_heads, layer.head_dim),
            *(layer.rotary_dim, layer.ffn_size, head.vocab_size, layer.qkv_bias),
        )
        for _, (_, layer, head) in grid.models
    ]
    rates = [hardware_params(spec) for spec in grid.hardware]
    machines = [
        formula.Machine(spec.peaks["fp16"], h.vector_rate, h.special_rate, h.bandwidth, h.cache)
        for spec, h in zip(grid.hardware, rates, strict=True)
    ]
    batch = np.asarray(grid.numbers["batch_size"], np.float32)
    context = np.asarray(grid.numbers["context_len"], np.float32)
    return models, machines, batch, context


def numpy(size: Size, function: Callable[..., np.ndarray], question: str) -> Case:
    """One of the NumPy implementations, its arguments shaped to broadcast."""
    models, machines, batch, context = by_hand(size)
    sizes = formula.Model(*np.asarray(models, np.float32).T[:, :, None, None, None])
    rates = formula.Machine(*np.asarray(machines, np.float32).T[:, :, None, None])
    points = len(models) * len(machines) * batch.size * context.size
    return Case(points, partial(function, sizes, rates, batch[:, None], context), question)


def loop(size: Size) -> Case:
    """Plain Python, on a sample of the points."""
    models, machines, batch, context = by_hand(size)
    shape = (len(models), len(machines), batch.size, context.size)
    indices = np.random.default_rng(0).integers(shape, size=(SAMPLE, 4))
    sample = [
        (models[m], machines[h], float(batch[b]), float(context[c])) for m, h, b, c in indices
    ]
    return Case(
        SAMPLE,
        lambda: [formula.one_point(*point) for point in sample],
        DECODE,
        lambda result: (np.asarray(result), tuple(indices.T)),
    )


DECODE, PREFILL = "decode step", "prefill"
REFERENCE = {DECODE: "sweep, fresh Dataset", PREFILL: "sweep, prefill"}
BASELINE = {DECODE: "NumPy, broadcasting", PREFILL: "NumPy, prefill, 1 MB blocks"}
CASES: dict[str, Callable[[Size], Case]] = {
    REFERENCE[DECODE]: partial(dataset, question=DECODE),
    "sweep, bare kernel, buffers reused": bare,
    BASELINE[DECODE]: partial(numpy, function=formula.broadcast, question=DECODE),
    "NumPy, broadcasting, tuned in place": partial(
        numpy, function=formula.in_place, question=DECODE
    ),
    "NumPy, 1 MB blocks": partial(numpy, function=formula.in_blocks, question=DECODE),
    "NumPy, 1 MB blocks, factored by hand": partial(
        numpy, function=formula.in_blocks_factored, question=DECODE
    ),
    "Python loop": loop,
    REFERENCE[PREFILL]: lambda size: dataset(
        size,
        question=PREFILL,
        context_len=None,
        isl=_every(16, size.context),
        variables=["prefill_latency"],
    ),
    BASELINE[PREFILL]: partial(numpy, function=formula.prefill_in_blocks, question=PREFILL),
    "sweep, 4 decode outputs": lambda size: dataset(
        size,
        variables=["decode_step_latency", "global_decode_step_latency", "bound", "feasible"],
    ),
    "sweep, Mixtral decode step": lambda size: dataset(
        size, models=["mixtral-8x7b", "mixtral-8x22b"]
    ),
    "sweep, request throughput": lambda size: dataset(
        size,
        batch_size={"powers_of": 2, "start": 1, "stop": 128},
        context_len=None,
        isl=_every(64, max(1, size.context // 8)),
        osl=_every(16, size.batch),
        variables=["output_throughput"],
    ),
}


def check(cases: dict[str, Case]) -> float:
    """Largest relative difference of any implementation from the kernel. [1]

    Raises:
        SystemExit: It exceeds the tolerance.
    """
    expected = {q: cases[name].values(cases[name].run())[0] for q, name in REFERENCE.items()}
    worst = 0.0
    for name, case in cases.items():
        if case.question:
            values, indices = case.values(case.run())
            difference = float(np.max(np.abs(values / expected[case.question][indices] - 1)))
            if not difference < TOLERANCE:
                raise SystemExit(f"{name}: differs from the kernel by {difference:.2g}, relative")
            worst = max(worst, difference)
    return worst


def clock(run: Callable[[], Any]) -> float:
    """Time of one run; its result is freed after the clock has stopped. [s]"""
    start = perf_counter()
    result = run()
    elapsed = perf_counter() - start
    del result
    return elapsed


def peak_memory(name: str, *, small: bool) -> float:
    """Peak resident memory of a process that runs `name` once, or nothing if empty. [MB]"""
    command = [sys.executable, "-m", "benchmarks.kernel", "--only", name]
    command += ["--small"] if small else []
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def _ratio(seconds: dict[str, np.ndarray], name: str, question: str) -> float | None:
    """Speed relative to NumPy, the median over the rounds. [1]"""
    return float(np.median(seconds[BASELINE[question]] / seconds[name])) if question else None


@click.command()
@click.option("--repeats", type=click.IntRange(1), help="Rounds, in each of which all run once.")
@click.option("--small", is_flag=True, help="Use a small grid, as a check; no true figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
@click.option("--only", hidden=True, help="Run one implementation once, print its peak memory.")
def main(repeats: int | None, small: bool, as_json: bool, only: str | None) -> None:
    """Time the kernel against NumPy broadcasting and a Python loop."""
    size = Size(32, 64) if small else Size(256, 1024)
    if only is not None:
        result = CASES[only](size).run() if only else None
        unit = 1 if sys.platform == "darwin" else 1024
        click.echo(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
        del result
        return
    repeats = repeats or (3 if small else 21)
    facts = machine()
    # A process starts with the peak of the one that forked it: measure before this one grows.
    facts["imports_mb"] = round(peak_memory("", small=small))
    measured = [BASELINE[DECODE]] if small else list(CASES)
    memory = {name: peak_memory(name, small=small) for name in measured}
    facts["reading_specs_s"] = round(clock(size.grid), 3)
    cases = {name: make(size) for name, make in CASES.items()}
    first = {name: clock(case.run) for name, case in cases.items()}
    facts["largest_difference"] = float(f"{check(cases):.2g}")
    times: dict[str, list[float]] = {name: [] for name in cases}
    system: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
            times[name].append(clock(case.run))
            system[name].append(resource.getrusage(resource.RUSAGE_SELF).ru_stime - before)
    seconds = {name: np.asarray(t) / cases[name].points for name, t in times.items()}
    rows = [
        {
            "implementation": name,
            "M points": cases[name].points / 1e6,
            "M points/s": 1e-6 / float(np.median(each)),
            "min": 1e-6 / float(each.max()),
            "max": 1e-6 / float(each.min()),
            "× NumPy": _ratio(seconds, name, cases[name].question),
            "OS %": 100 * float(np.median(np.divide(system[name], times[name]))),
            "peak MB": memory.get(name),
            "first call s": first[name],
        }
        for name, each in seconds.items()
    ]
    if as_json:
        click.echo(json.dumps({"machine": facts, "repeats": repeats, "rows": rows}, indent=2))
        return
    note = "; the grid is too small for meaningful figures" if small else ""
    print_table(f"Median of {repeats} rounds{note}", rows, facts)


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
