"""The NetCDF library: one thread at a time enters it, and a process opens each file once.

Neither netCDF-C nor HDF5 is thread-safe as they come with netCDF4. They crash, in one thread too,
where a process opens a file with text again that it has open
(https://github.com/Unidata/netcdf4-python/issues/1444).
"""

import gc
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netCDF4 import Dataset

    State = tuple[int, int, int, int]


class Library:
    """A lock that its thread may take again; copies of it are the same lock.

    A lazy Dataset refers to the lock of its file, and may be copied or pickled.

    Attributes:
        depth: How often the thread that holds it has taken it. [count]
    """

    def __init__(self) -> None:
        """Make the lock."""
        self._lock = threading.RLock()
        self.depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        """Wait for the lock, or only try to take it."""
        taken = self._lock.acquire(blocking)
        self.depth += taken
        return taken

    def release(self) -> None:
        """Give the lock back."""
        self.depth -= 1
        self._lock.release()

    def __enter__(self) -> None:
        """Take the lock."""
        self.acquire()

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.release()

    def __reduce__(self) -> str:
        """Name of the lock in this module."""
        return "LIBRARY"


LIBRARY = Library()
"""Held while a thread opens, reads, writes or closes a NetCDF file."""
if hasattr(os, "register_at_fork"):
    # A child would wait for ever for a thread of its parent, and find the library in a call.
    os.register_at_fork(
        before=LIBRARY.acquire, after_in_parent=LIBRARY.release, after_in_child=LIBRARY.release
    )


@contextmanager
def inside_library() -> Iterator[None]:
    """Hold the lock, and close what is left of a file that could not be opened.

    A file that fails while it is opened closes when its object is collected. That would happen at
    any time and in any thread, without the lock.
    """
    with LIBRARY:
        try:
            yield
        except Exception:
            gc.collect(1)
            raise


@dataclass
class _Handle:
    """An open file of the library.

    Attributes:
        state: Identity, size and time of the file.
        dataset: The file.
        readers: Objects that have it open. [count]
    """

    state: "State"
    dataset: "Dataset"
    readers: int = 0


_handles: dict[tuple[int, int], _Handle] = {}
"""Handle of each open file, by device and number of the file."""
_left: deque[_Handle] = deque()
"""Handles whose readers were collected without closing them."""


class OpenFile:
    """A NetCDF file that is open for one of its readers; all readers share one handle.

    It takes the part of a file manager of xarray.
    """

    def __init__(self, path: Path, state: "State | None" = None) -> None:
        """Open the file.

        Args:
            path: The file.
            state: Identity, size and time that it must have; any if not given.

        Raises:
            OSError: It cannot be read, or has changed while another reader has it open.
            RuntimeError: As `OSError`.
        """
        self._handle: _Handle | None = None
        self._state = state
        self._path = path.absolute()
        self.acquire()

    def acquire(self, needs_lock: bool = True) -> "Dataset":
        """The open file; a file that was closed is opened again.

        Raises:
            OSError: The file has been replaced since it was opened first.
        """
        with LIBRARY:
            if self._handle is None:
                self._handle = _handle_of(self._path, self._state)
                self._state = self._handle.state
            return self._handle.dataset

    @contextmanager
    def acquire_context(self, needs_lock: bool = True) -> Iterator["Dataset"]:
        """The open file, which stays open."""
        yield self.acquire()

    def close(self, needs_lock: bool = True) -> None:
        """Close the file if no other reader has it open."""
        with LIBRARY:
            if self._handle is not None:
                handle, self._handle = self._handle, None
                _leave(handle)

    def __del__(self) -> None:
        """Close the file, or have the next reader close it if the library is in use."""
        if self._handle is None:
            return
        _left.append(self._handle)
        if LIBRARY.acquire(blocking=False):
            try:
                # This thread may be collecting garbage in the middle of a call of the library.
                if LIBRARY.depth == 1:
                    _close_left()
            finally:
                LIBRARY.release()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the file again, if it is still the same."""
        return OpenFile, (self._path, self._state)


def _handle_of(path: Path, wanted: "State | None") -> _Handle:
    """The handle of a file, with one more reader."""
    from netCDF4 import Dataset

    _close_left()
    state = _state(path)
    if wanted not in (None, state):
        raise OSError("it has been replaced since it was opened")
    handle = _handles.get(state[:2])
    if handle is None:
        handle = _handles[state[:2]] = _Handle(state, Dataset(path))
    elif handle.state != state:
        raise OSError("it has changed since this process opened it; close it there first")
    handle.readers += 1
    return handle


def _leave(handle: _Handle) -> None:
    handle.readers -= 1
    if not handle.readers:
        del _handles[handle.state[:2]]
        handle.dataset.close()


def _close_left() -> None:
    while _left:
        _leave(_left.popleft())


def _state(path: Path) -> "State":
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def opened(path: Path) -> Iterator["Dataset"]:
    """Open a file for reading, and hold the lock until it is closed.

    Raises:
        OSError: The library cannot read the file.
        RuntimeError: As `OSError`.
    """
    with inside_library():
        file = OpenFile(path)
        try:
            yield file.acquire()
        finally:
            file.close()
