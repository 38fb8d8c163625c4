"""Computes the shards of a run."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock

import xarray as xr

from sweep.evaluation.evaluator import Arrays, Evaluation
from sweep.evaluation.plan import Plan
from sweep.evaluation.tiles import Places
from sweep.queries.reduction import Reduction, joined, partials
from sweep.runs.jit_cache import use_compilation_cache
from sweep.runs.run import Progress, compute
from sweep.runs.run_folder import Directory
from sweep.runs.shard_file import write_shard

WRITERS = 2
"""Shards on their way to disk at a time: one is written while the other is sealed. [count]"""


def run_shards(
    directory: Directory, shards: Sequence[int], progress: Progress | None = None
) -> None:
    """Compute shards one after another, each while those before it are written and sealed.

    Args:
        directory: Where they belong.
        shards: Their numbers.
        progress: Called with shards done and shards in all.

    Raises:
        ResultError: One cannot be written; those before it stand.
    """
    work = Evaluation(directory.plan)
    writing: deque[Future[Arrays]] = deque()
    spare: Arrays | None = None
    with ThreadPoolExecutor(max_workers=WRITERS) as writers:
        for done, shard in enumerate(shards):
            dataset = _shard(directory, work, shard, spare)
            spare = writing.popleft().result() if len(writing) == WRITERS else None
            if progress is not None:
                progress(done, len(shards))
            writing.append(writers.submit(_write, directory, dataset, shard))
        for written in writing:
            written.result()
    if progress is not None:
        progress(len(shards), len(shards))


def make_shard(folder: str, digest: str, shard: int) -> int:
    """Compute and write one shard, in whatever process this is, unless it stands there already.

    Args:
        folder: Directory whose `plan.json` tells everything else.
        digest: Of the plan that is meant.
        shard: Number of the shard.

    Returns:
        The number of the shard.

    Raises:
        ResultError: The directory holds another plan, or the shard cannot be written.
    """
    use_compilation_cache()
    with _computing:
        directory, work = _loaded(folder, digest)
        if not directory.fault(shard):
            return shard
        dataset = _shard(directory, work, shard)
    _write(directory, dataset, shard)
    return shard


_computing = Lock()
"""Held while a thread computes: an evaluation has one set of buffers."""


@lru_cache(maxsize=1)
def _loaded(folder: str, digest: str) -> tuple[Directory, Evaluation]:
    directory = Directory.load(Path(folder))
    directory.check_reproducible(digest)
    return directory, Evaluation(directory.plan)


def _shard(
    directory: Directory, work: Evaluation, shard: int, spare: Arrays | None = None
) -> xr.Dataset:
    plan, places = directory.plan, directory.plan.cut.places(shard)
    if plan.reduction is not None:
        return joined(plan.reduction, _partials(plan, plan.reduction, work, places))
    return compute(plan, work, places, spare=spare, origin=directory.origin)


def _partials(
    plan: Plan, reduction: Reduction, work: Evaluation, places: Places
) -> Iterator[xr.Dataset]:
    """What a reduction finds in each piece of what lies at `places`."""
    spare: Arrays | None = None
    for piece in plan.pieces(places):
        dataset = compute(plan, work, piece, spare=spare)
        for partial in partials(reduction, dataset):
            # What the reduction carries along as it is lies in arrays that are used again.
            yield partial.copy(deep=True)
        spare = _arrays(dataset)


def _write(directory: Directory, dataset: xr.Dataset, shard: int) -> Arrays:
    """Write a shard, and give its arrays back."""
    write_shard(dataset, directory.shard_path(shard), directory.identity(shard))
    return _arrays(dataset)


def _arrays(dataset: xr.Dataset) -> Arrays:
    return {str(name): array.values for name, array in dataset.data_vars.items()}
