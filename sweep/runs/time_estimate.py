"""Tells from a small sample how long a plan will take on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.files.netcdf import save
from sweep.queries.reduction import Reduction
from sweep.runs.run import compute

SAMPLE_BYTES = 2**24
"""Size of the sample: one block of the kernel. [byte]"""


def probe(plan: Plan) -> float:
    """Time that a plan will take here, from a sample that is run twice, and written or reduced. [s]

    What the first time took longer is compiling, once for every kind of model.
    """
    sampled = make_plan(
        plan.grid,
        plan.dtype,
        keep_infeasible=plan.keep_infeasible,
        efficiency=plan.efficiency,
        question=plan.question,
        shard_bytes=SAMPLE_BYTES,
    )
    sample = make_plan(
        plan.grid.part(sampled.cut.places(0)),
        plan.dtype,
        keep_infeasible=plan.keep_infeasible,
        efficiency=plan.efficiency,
    )
    cold = _seconds(sample, plan.reduction)
    warm = _seconds(sample, plan.reduction)
    kinds = Evaluation(plan).families / Evaluation(sample).families
    return max(cold - warm, 0.0) * kinds + warm * plan.bytes / sample.bytes


def _seconds(sample: Plan, reduction: Reduction | None) -> float:
    start = perf_counter()
    work = Evaluation(sample)
    dataset = compute(sample, work, work.whole)
    if reduction is not None:
        reduction.within(dataset)
        return perf_counter() - start
    with TemporaryDirectory() as folder:
        save(dataset, Path(folder) / "sample.nc")
    return perf_counter() - start
