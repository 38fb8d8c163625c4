"""Computes the shards of a folder on Dask workers: each task is one shard and sends a few bytes."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sweep.errors import ResultError, SweepError
from sweep.runs.huge_pages import VARIABLE, tunables
from sweep.runs.run_folder import Directory
from sweep.runs.shards import make_shard

QUIET = {"logging.distributed": "critical"}
"""Settings of Dask that leave its log out."""
PRE_SPAWN = "distributed.nanny.pre-spawn-environ"
"""Key of what Dask sets in the environment before it starts workers."""
REACH = 8
"""Longest wait for a scheduler to answer. [s]"""
RETRIES = 2
"""Times that a failed shard is tried again; one whose worker died always is. [count]"""


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
        directory: Folder of the run; workers see it under the same absolute path.
        shards: Numbers of the shards.
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
    """A client of a scheduler, or of a cluster on this machine.

    The configuration of Dask and the environment are changed for this time only.
    """
    try:
        import dask

        # It reads where to log when it is imported. Its defaults, which it adds to the
        # configuration then, have to remain.
        with dask.config.set(QUIET):
            from distributed import Client
    except ImportError:
        raise _dask_is_missing() from None
    with dask.config.set(_configuration()):
        if scheduler is None:
            with _own_environment(), _local_cluster(workers) as cluster, Client(cluster) as client:
                yield client
            return
        try:
            client = Client(scheduler, timeout=REACH)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise SweepError(
                f"no Dask scheduler answers at {scheduler}: {error}; start one, or correct "
                "--scheduler"
            ) from None
        with client:
            yield client


@contextmanager
def _own_environment() -> Iterator[None]:
    """Remove the variables that Dask sets for its workers in this process, too."""
    from dask.config import get

    before, set_by_nanny = set(os.environ), {*get(PRE_SPAWN), "PYTHONHASHSEED"}
    try:
        yield
    finally:
        for name in os.environ.keys() - before:
            if name in set_by_nanny or "DASK_" in name:
                del os.environ[name]


def _configuration() -> dict[str, Any]:
    """Settings of Dask: quiet, and workers with huge pages."""
    settings = dict(QUIET)
    wanted = tunables(os.environ)
    if wanted is not None:
        settings[f"{PRE_SPAWN}.{VARIABLE}"] = wanted
    return settings


def _local_cluster(workers: int | None) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        memory_limit=0,
    )


def _dask_is_missing() -> SweepError:
    return SweepError("workers need Dask: pip install 'llm-sweep[dask]'")


def _raise(task: Any) -> None:
    """Raise the error of a task; explain the death of its workers."""
    from distributed import KilledWorker

    if task.status != "error":
        return
    error = task.exception()
    if isinstance(error, KilledWorker):
        raise ResultError(f"every worker that took a shard died: {error}") from None
    raise error
