"""Loads stored executables ahead on a thread, while Python still imports and reads specifications.

XLA takes half a second to load a large executable, and lets Python run meanwhile. Which ones a
command needs is known when it calls them; those are loaded that it called the last time. They are
then found by their files as always: an executable that is loaded in vain costs time, no more.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import jax

from sweep.evaluation.function_store import (
    file_of,
    folder_of_functions,
    read_stored,
    write_stored,
)

MOST_EXECUTABLES = 8
"""Executables that are loaded ahead. [count]"""


class Stored(NamedTuple):
    """Content of the file of an executable.

    Attributes:
        temporary_bytes: Memory that the function needs beside arguments and results. [byte]
        executable: The executable as JAX writes it.
    """

    temporary_bytes: int
    executable: bytes


class Ahead:
    """An executable that a thread loads.

    Attributes:
        done: Set when the thread has finished with it.
        found: The executable with its arguments in a list; `None` if there is none.
    """

    def __init__(self) -> None:
        """Start without an executable."""
        self.done = Event()
        self.found: Any = None


class _Unknown:
    """The structure of arguments, which is not known yet: they are kept in a list."""

    def unflatten(self, leaves: Sequence[Any]) -> list[Any]:
        return list(leaves)


_ahead: dict[Path, Ahead] = {}
"""Executables that are loaded ahead and nobody has asked for."""
_used: list[str] = []
"""Names of the files whose executables this process used."""


@contextmanager
def loading_ahead(command: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Load the executables that a command used the last time; keep their names at its end.

    Args:
        command: Name of the command.
        options: Values of its options; numbers make no difference.
    """
    words = [value if isinstance(value, str | tuple) else bool(value) for value in options.values()]
    path, folder = file_of(f"used by {command} {words}", ()), folder_of_functions()
    if path is None or folder is None:
        yield
        return
    names = _names(path)
    ahead = {folder / name: Ahead() for name in names[:MOST_EXECUTABLES]}
    _used.clear()
    _ahead.update(ahead)
    Thread(target=_load_each, args=(ahead,)).start()
    yield
    if sorted(_used) != sorted(names):
        write_stored(path, lambda: json.dumps(_used).encode())


def _names(path: Path) -> list[str]:
    """Names of files, without any folder, in a file of the store."""
    with suppress(ValueError):
        found = json.loads(read_stored(path) or b"[]")
        return [str(name) for name in found if str(name).isalnum()]
    return []


def _load_each(ahead: Mapping[Path, Ahead]) -> None:
    for path, each in ahead.items():
        with suppress(Exception):
            each.found = _loaded(path, _Unknown(), None)
        each.done.set()


def load(path: Path, arguments: Any, results: Any) -> Any:
    """Load the executable of a file; `None` if there is none, or it is of no use here.

    Args:
        path: The file.
        arguments: Arguments of the types for which it was compiled.
        results: The structure of its results.
    """
    _used.append(path.name)
    structure, ahead = jax.tree.structure((arguments, {})), _ahead.pop(path, None)
    try:
        if ahead is not None:
            ahead.done.wait()
            if ahead.found is not None:
                return _with_structures(ahead.found, structure, results)
        return _loaded(path, structure, results)
    except Exception:
        return None


def _loaded(path: Path, structure: Any, results: Any) -> Any:
    from jax.experimental.serialize_executable import deserialize_and_load

    found = read_executable(path)
    return None if found is None else deserialize_and_load(found.executable, structure, results)


def _with_structures(found: Any, structure: Any, results: Any) -> Any:
    """An executable with the structures of its arguments and results."""
    arguments = structure.unflatten(found.args_info)
    return jax.stages.Compiled(
        found._executable, [], arguments, results, no_kwargs=found._no_kwargs
    )


def read_executable(path: Path) -> Stored | None:
    """Read the file of an executable; `None` if there is none, or it is damaged."""
    size, _, executable = (read_stored(path) or b"").partition(b"\n")
    return Stored(int(size), executable) if size.isdigit() else None
