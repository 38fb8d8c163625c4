"""Interruptions of a run at a given shard, so that no test depends on how fast a machine is."""

import itertools
import json
import signal
import threading
from pathlib import Path
from typing import Any

DEADLINE = 600
"""Longest wait for a process that may hang. [s]"""


def sweep_in(folder: Path, sweep: dict[str, Any]) -> Path:
    """Write a sweep to a file for a command."""
    file = folder / "many.json"
    file.write_text(json.dumps(sweep))
    return file


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
