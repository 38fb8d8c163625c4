"""Rows of reduced and of calibrated sweeps, against the kernel into memory that is used again."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.kernel import HARDWARE, MODELS
from benchmarks.turns import Row, Run, ratio, rounds
from sweep.engines.calibration_file import load_calibration
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.evaluation.result_memory import ResultMemory
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.run import compute
from sweep.runs.to_disk import Sharding, run_reduced
from sweep.schema.intervals import CALIBRATED
from sweep.specs.catalog import current_catalog

BEST = ReductionRequest(text="best:batch_size,context_len", by="decode_step_latency")
QUANTILES = ReductionRequest(
    text="quantile:0.05,0.5,0.95:batch_size,context_len", by="decode_step_latency"
)
FRONT = ReductionRequest(text="pareto:decode_step_latency,memory_required")
RUN_BY_TENSORRT_LLM = [name for name in HARDWARE if not name.startswith(("mi", "v100"))]
"""Accelerators that the calibrated engine runs on."""


def _plan(
    hardware: Sequence[str] = HARDWARE,
    question: ReductionRequest | None = None,
    calibration: Any = None,
    **axes: Any,
) -> Plan:
    grid = Grid(models=MODELS, hardware=hardware, **axes)
    return make_plan(resolve(grid, current_catalog()), question=question, calibration=calibration)


def _refill(plan: Plan) -> Run:
    """The kernel into memory that is used again, with intervals if the plan has them."""
    work, memory = Evaluation(plan), ResultMemory()
    return lambda: compute(plan, work, work.whole, memory=memory)


def _rate(plan: Plan, times: np.ndarray) -> float:
    return plan.points / float(np.median(times))


def reduction_rows(points: int, folder: Path, repeats: int) -> Iterator[Row]:
    """A best and a front of decode steps, from the command's function to the file."""
    widths = [1, 2, 4, 8]
    lengths = max(1, round(points / (len(MODELS) * len(HARDWARE) * len(widths) * 256)))
    axes = {
        "tp": widths,
        "batch_size": {"start": 1, "stop": 257},
        "context_len": {"start": 1, "stop": lengths + 1},
    }
    # As many contexts as fill one tile, which the kernel overwrites again and again.
    tile = {**axes, "context_len": {"start": 1, "stop": min(lengths, 256) + 1}}
    kernel = _plan(**tile, variables=["decode_step_latency"])
    best = _plan(**axes, variables=["decode_step_latency"], question=BEST)
    front = _plan(**axes, variables=["decode_step_latency", "memory_required"], question=FRONT)
    # Sorting takes longer than everything else: the lengths of one tile are enough.
    quantiles = _plan(**tile, variables=["decode_step_latency"], question=QUANTILES)

    def reduced(plan: Plan) -> None:
        with TemporaryDirectory(dir=folder) as here:
            run_reduced(plan, Path(here) / "reduced.nc", Sharding(), lambda line: None)

    runs = {
        "kernel": _refill(kernel),
        "best": partial(reduced, best),
        "front": partial(reduced, front),
        "quantiles": partial(reduced, quantiles),
    }
    for run in runs.values():
        run()
    times = rounds(runs, repeats)
    plans = {"best": best, "front": front, "quantiles": quantiles}
    rate = {name: _rate(plan, times[name]) for name, plan in plans.items()}
    whole = _rate(kernel, times["kernel"])
    what = "best of batch and context"
    figure = f"{rate['best'] / 1e6:,.0f} M points/s"
    yield Row(what, figure, rate["best"] / whole, "the kernel, reused memory", 0.3)
    yield Row(what, figure, rate["best"] / 1e9, "10⁹ points/s", 1)
    minutes = 1e12 / rate["best"] / 60
    yield Row(
        "a trillion points at this rate",
        f"{minutes:,.0f} minutes",
        minutes / 60,
        "an hour",
        1,
        at_most=True,
    )
    figure = f"{rate['front'] / 1e6:,.0f} M points/s"
    yield Row("front of latency and memory", figure, rate["front"] / 1e8, "10⁸ points/s", 1)
    yield Row("quantiles over batch and context", f"{rate['quantiles'] / 1e6:,.0f} M points/s")


def calibrated_rows(lengths: int, repeats: int) -> Iterator[Row]:
    """Calibrated sweeps, with and without intervals, against ideal ones of the same variable."""
    batch = {"start": 1, "stop": 2 * lengths + 1}
    few = {"start": 1, "stop": lengths // 2 + 1}
    short = {"start": 16, "stop": 16 * lengths + 1, "step": 16}
    cases: dict[str, dict[str, Any]] = {
        "decode_step_latency": {"batch_size": batch, "context_len": short},
        "prefill_latency": {"batch_size": batch, "isl": short},
        "output_throughput": {"batch_size": few, "isl": short, "osl": short},
        "inflight_output_throughput": {"concurrency": few, "isl": short, "osl": short},
    }
    fitted = load_calibration("tensorrt-llm")
    for name, axes in cases.items():
        ideal = _plan(RUN_BY_TENSORRT_LLM, variables=[name], **axes)
        plan = _plan(RUN_BY_TENSORRT_LLM, variables=[name], calibration=fitted, **axes)
        runs = {"ideal": _refill(ideal), "with": _refill(plan), "without": _without_intervals(plan)}
        rows = {"without": (", without interval", "ideal", 0.4)}
        rows["with"] = (", interval and flags", "ideal, without them", 0.25)
        if name not in CALIBRATED:
            del runs["with"], rows["with"]
            rows["without"] = ("", "ideal", 0.4)
        for run in runs.values():
            run()
        times = rounds(runs, repeats)
        for which, (extra, baseline, bar) in rows.items():
            figure = f"{_rate(plan, times[which]) / 1e6:,.0f} M points/s"
            found = ratio(times, which, "ideal")
            yield Row(f"calibrated {name}{extra}", figure, found, baseline, bar)


def _without_intervals(plan: Plan) -> Run:
    """The kernel of a calibrated plan without the intervals and flags that sweeps have."""
    bare = replace(plan)
    with (
        patch("sweep.evaluation.plan.interval_variables", return_value=[]),
        patch("sweep.evaluation.evaluator.interval_tables", return_value={}),
    ):
        return _refill(bare)
