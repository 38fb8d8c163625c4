"""Rows of the kernel: decode step and prefill against numba and NumPy."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import click
import numpy as np

from benchmarks import formula
from benchmarks.broadcasting import Program
from benchmarks.kernel import Size, by_hand
from benchmarks.kernel import numpy as numpy_case
from benchmarks.turns import Row, Run, ratio, rounds
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.kernel_inputs import (
    hardware_params,
    model_params,
    precision_params,
    stack,
)
from sweep.evaluation.plan import make_plan
from sweep.evaluation.result_memory import ResultMemory
from sweep.grid.resolved import Resolved
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.runs.run import run_plan

TOLERANCE = 1e-4
FOUR = ["decode_step_latency", "global_decode_step_latency", "bound", "feasible"]


# The kernel.


def kernel_rows(size: Size, repeats: int) -> Iterator[Row]:
    """Points per second into memory that is used again and into a fresh Dataset."""
    lengths = [16 * (index + 1) for index in range(size.context)]
    prefill = {"context_len": None, "isl": lengths, "variables": ["prefill_latency"]}
    numpy_decode = numpy_case(size, formula.broadcast, "").run
    numpy_prefill = numpy_case(size, formula.prefill_in_blocks, "").run
    cases = (
        ("decode step", size.grid(), numpy_decode, "decode"),
        ("prefill", size.grid(**prefill), numpy_prefill, "prefill"),
        ("4 decode outputs", size.grid(variables=FOUR), four_outputs(size), ""),
    )
    for name, grid, numpy, loop in cases:
        yield from _kernel_case(name, grid, numpy, _numba(size, loop) if loop else {}, repeats)


def _kernel_case(
    name: str, grid: Resolved, numpy: Run, loops: dict[str, Run], repeats: int
) -> Iterator[Row]:
    plan = make_plan(grid)
    work = Evaluation(plan)
    memory = ResultMemory()

    def refill() -> np.ndarray:
        return work.compute(work.whole, memory)[grid.variables[0]]

    runs = {"reused": refill, "fresh": lambda: run_plan(make_plan(grid)), "NumPy": numpy, **loops}
    for run in (numpy, *loops.values()):
        first = np.asarray(run()).reshape(refill().shape)
        worst = float(np.max(np.abs(first / refill() - 1)))
        if not worst < TOLERANCE:
            raise SystemExit(f"{name}: differs from the kernel by {worst:.2g}, relative")
        del first
    times = rounds(runs, repeats)
    for kind, bars in (("reused", (15, 0.4)), ("fresh", (8, 0.6))):
        rate = f"{grid.points / float(np.median(times[kind])) / 1e6:,.0f} M points/s"
        where = "into reused buffers" if kind == "reused" else "into a fresh Dataset"
        what = f"{name}, {where}"
        yield Row(what, rate, ratio(times, kind, "NumPy"), "NumPy, broadcasting", bars[0])
        if loops:
            other = f"numba, {kind}"
            yield Row(what, rate, ratio(times, kind, other), f"{other} memory", bars[1])
    for other in ("NumPy", *loops):
        rate = grid.points / float(np.median(times[other])) / 1e6
        yield Row(f"{name}, {other}", f"{rate:,.0f} M points/s")


def _numba(size: Size, loop: str) -> dict[str, Run]:
    """The parallel loop into memory that is used again, and into fresh memory."""
    try:
        from benchmarks import numba_loops
    except ImportError:
        raise click.ClickException("this needs numba: pip install 'llm-sweep[bench]'") from None

    models, machines, batch, context = by_hand(size)
    tables = np.asarray(models, np.float32), np.asarray(machines, np.float32)
    shape = (len(models), len(machines), batch.size, context.size)
    kept = np.empty(shape, np.float32)

    def run(result: np.ndarray | None) -> np.ndarray:
        result = np.empty(shape, np.float32) if result is None else result
        getattr(numba_loops, loop)(*tables, batch, context, result)
        return result

    return {"numba, reused": partial(run, kept), "numba, fresh": partial(run, None)}


def four_outputs(size: Size) -> Run:
    """The kernel's own formulas in NumPy broadcasting, model by model; the first output."""
    grid = size.grid(variables=FOUR)
    models = [stack([model_params(blocks)], np.float32) for _, blocks in grid.models]
    shared = [
        stack([hardware_params(spec) for spec in grid.hardware], np.float32),
        stack([precision_params(spec) for spec in grid.precision], np.float32),
        *(np.asarray(values, np.float32) for values in grid.numbers.values()),
    ]
    axes = list(grid.sizes)

    def one_point(*given: Any) -> Any:
        request = Request(Point(**dict(zip(axes, given, strict=True))))
        return [getattr(request, name) for name in grid.variables]

    programs = [Program(one_point, model, *shared) for model in models]

    def run() -> np.ndarray:
        found = [p(model, *shared) for p, model in zip(programs, models, strict=True)]
        return np.stack([outputs[0] for outputs in found])

    return run
