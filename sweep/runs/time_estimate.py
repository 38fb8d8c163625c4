"""Estimate of the time that a plan takes on this machine, from a small sample."""

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.evaluation.reduced import is_reduced_in_tiles, reduced_region
from sweep.files.netcdf import save
from sweep.queries.reduction import Reduction
from sweep.runs.run import compute

SAMPLE_BYTES = 2**24
"""Most values in the sample: a few tiles, computed in some milliseconds. [byte]"""


def probe(plan: Plan) -> float:
    """Estimate the time of a plan from a sample that is run twice, and written or reduced. [s]

    The first run's extra time is compilation, once for every structure among the models.
    """
    if is_reduced_in_tiles(plan, Evaluation(plan)):
        return _probe_of_tiles(plan)
    sampled = make_plan(
        plan.grid,
        plan.dtype,
        keep_infeasible=plan.keep_infeasible,
        calibration=plan.calibration,
        question=plan.question,
        shard_bytes=SAMPLE_BYTES,
    )
    sample = make_plan(
        plan.grid.part(sampled.shards.region(0)),
        plan.dtype,
        keep_infeasible=plan.keep_infeasible,
        calibration=plan.calibration,
    )
    cold = _seconds(sample, plan.reduction)
    warm = _seconds(sample, plan.reduction)
    structures = Evaluation(plan).structures / Evaluation(sample).structures
    return extrapolated(cold, warm, structures=structures, size=plan.bytes / sample.bytes)


def _probe_of_tiles(plan: Plan) -> float:
    """Estimate the time of a plan that is reduced in tiles, from a region of the size of one."""
    region = next(plan.subgrids(plan.shards.region(0)))
    spent = []
    for _ in range(2):
        work = Evaluation(plan)
        start = perf_counter()
        reduced_region(plan, work, region)
        spent.append(perf_counter() - start)
    size = plan.points / prod(len(indices) for indices in region.values())
    return extrapolated(*spent, structures=work.structures, size=size)


def extrapolated(cold: float, warm: float, *, structures: float, size: float) -> float:
    """Time of a plan: compilation once for each structure, the rest in proportion to size. [s]

    Args:
        cold: Time of the sample with compilation. [s]
        warm: Time of the sample without. [s]
        structures: Structures of the plan for each one of the sample. [1]
        size: Size of the plan relative to the sample. [1]
    """
    return max(cold - warm, 0.0) * structures + warm * size


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
