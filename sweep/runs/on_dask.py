"""Computes the shards of a directory on Dask workers: one task, one shard, a few bytes sent."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sweep.errors import ResultError, SweepError
from sweep.runs.run_folder import Directory
from sweep.runs.shards import make_shard

REACH = 8
"""How long to look for a scheduler. [s]"""
RETRIES = 2
"""How often a shard that failed is tried again; one whose worker died is always moved. [count]"""


def run_on_dask(
    directory: Directory,
    shards: Sequence[int],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute shards on worker processes of this machine, or those of a scheduler.

    Args:
        directory: Where they belong; workers see it under the same absolute path.
        shards: Their numbers.
        workers: Processes to start here, if there is no scheduler. [count]
        scheduler: Address of a Dask scheduler.
        progress: Called with shards done and shards in all.

    Raises:
        SweepError: Dask is not installed, the scheduler does not answer, or a shard failed.
    """
    with _client(workers, scheduler) as client:
        from distributed import as_completed

        folder = os.fspath(directory.path.resolve())
        tasks = [
            client.submit(make_shard, folder, directory.digest, shard, pure=False, retries=RETRIES)
            for shard in shards
        ]
        for done, task in enumerate(as_completed(tasks), start=1):
            _raise(task)
            task.release()
            if progress is not None:
                progress(done, len(shards))


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    try:
        import dask

        dask.config.set({"logging.distributed": "critical"})
        from distributed import Client, LocalCluster
    except ImportError:
        raise SweepError("workers need Dask: pip install 'llm-sweep[dask]'") from None
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=REACH)
        except (OSError, ValueError) as error:
            raise SweepError(
                f"no Dask scheduler answers at {scheduler}: {error}; start one, or correct "
                "--scheduler"
            ) from None
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _raise(task: Any) -> None:
    """Raise what a task raised, a death of its workers in words of ours."""
    from distributed import KilledWorker

    if task.status != "error":
        return
    error = task.exception()
    if isinstance(error, KilledWorker):
        raise ResultError(f"every worker that took a shard died: {error}") from None
    raise error
