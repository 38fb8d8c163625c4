"""Interruptions of a run at a given shard, so that no test depends on how fast a machine is."""

import itertools
import signal
import threading
from typing import Any

DEADLINE = 600
"""Longest wait for a process that may hang. [s]"""


def hold_after(writes: int) -> None:
    """Let this process write some shards and wait for ever before the next one."""
    from sweep.runs import shards

    write, started = shards.write_shard, itertools.count()

    def held(*given: Any) -> None:
        if next(started) >= writes:
            threading.Event().wait()
        write(*given)

    shards.write_shard = held


def interrupt_at(shard: int) -> None:
    """Send this process Ctrl-C when it begins to compute its shard number `shard`, from 0."""
    from sweep.runs import shards

    compute, started = shards.compute, itertools.count()

    def interrupted(*given: Any, **options: Any) -> Any:
        if next(started) == shard:
            signal.raise_signal(signal.SIGINT)
        return compute(*given, **options)

    shards.compute = interrupted
