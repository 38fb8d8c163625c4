"""Computes the shards of a run."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock

import xarray as xr

from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan
from sweep.evaluation.reduced import is_reduced_in_tiles, reduced_region
from sweep.evaluation.result_memory import ResultMemory
from sweep.grid.tiling import Region
from sweep.queries.reduction import Reduction, joined, partials
from sweep.runs.jit_cache import use_compilation_cache
from sweep.runs.run import Progress, compute
from sweep.runs.run_folder import Directory
from sweep.runs.shard_file import write_shard

WRITERS = 2
"""Shards written at a time: one goes to disk while the checksum of another is computed. [count]"""


def run_shards(
    directory: Directory, shards: Sequence[int], progress: Progress | None = None
) -> None:
    """Compute shards one after another, each while the last ones are written.

    Args:
        directory: Folder of the run.
        shards: Numbers of the shards.
        progress: Called with shards done and shards in all.

    Raises:
        ResultError: A shard cannot be written; those before it are complete.
    """
    work = Evaluation(directory.plan)
    free = deque(ResultMemory() for _ in range(WRITERS + 1))
    writing: deque[Future[ResultMemory]] = deque()
    with ThreadPoolExecutor(max_workers=WRITERS) as writers:
        for done, shard in enumerate(shards):
            memory = free.popleft()
            computed = [_shard(directory, work, shard, memory)]
            if len(writing) == WRITERS:
                free.append(writing.popleft().result())
            if progress is not None:
                progress(done, len(shards))
            writing.append(writers.submit(_write, directory, shard, computed, memory))
        for written in writing:
            written.result()
    if progress is not None:
        progress(len(shards), len(shards))


def make_shard(folder: str, digest: str, shard: int) -> int:
    """Compute and write one shard in this process, unless its file is complete.

    Args:
        folder: Folder of the run, whose `plan.json` says everything else.
        digest: Digest of the plan that is meant.
        shard: Number of the shard.

    Returns:
        The number of the shard.

    Raises:
        ResultError: The folder has another plan, or the shard cannot be written.
    """
    use_compilation_cache()
    with _computing:
        directory, work = _loaded(folder, digest)
        if not directory.fault(shard):
            return shard
        dataset = _shard(directory, work, shard, None)
    write_shard(dataset, directory.shard_path(shard), directory.identity(shard))
    return shard


_computing = Lock()
"""Held while a thread computes: an evaluation has one set of buffers."""


@lru_cache(maxsize=1)
def _loaded(folder: str, digest: str) -> tuple[Directory, Evaluation]:
    directory = Directory.load(Path(folder))
    directory.check_reproducible(digest)
    return directory, Evaluation(directory.plan)


def _shard(
    directory: Directory, work: Evaluation, shard: int, memory: ResultMemory | None
) -> xr.Dataset:
    plan, region = directory.plan, directory.plan.shards.region(shard)
    if is_reduced_in_tiles(plan, work):
        return reduced_region(plan, work, region)
    if plan.reduction is not None:
        return joined(plan.reduction, _partials(plan, plan.reduction, work, region))
    return compute(plan, work, region, memory=memory, origin=directory.origin)


def _partials(
    plan: Plan, reduction: Reduction, work: Evaluation, shard: Region
) -> Iterator[xr.Dataset]:
    """Yield the partial results of a reduction over each sub-grid of a shard."""
    memory = ResultMemory()
    for subgrid in plan.subgrids(shard):
        dataset = compute(plan, work, subgrid, memory=memory)
        # A partial may share arrays with the dataset, whose memory is used again.
        yield from (partial.copy(deep=True) for partial in partials(reduction, dataset))
        # JAX uses the memory of an array again only when nobody reads it.
        del dataset


def _write(
    directory: Directory, shard: int, computed: list[xr.Dataset], memory: ResultMemory
) -> ResultMemory:
    """Write a shard; its memory, which is free once the dataset is taken from the list."""
    write_shard(computed.pop(), directory.shard_path(shard), directory.identity(shard))
    return memory
