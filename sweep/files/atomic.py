"""Files written in a private folder and moved to their place when complete."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from sweep.errors import ResultError

LONGEST_NAME = 200
"""Start of a name that a temporary name repeats; systems allow 255 bytes in all. [byte]"""
PART = ".part"
"""End of the name of a private folder, beside the file that is written."""
RANDOM = "[a-z0-9_]{8}"
"""Pattern of the signs that `mkdtemp` puts between; folders of similar names are the user's."""
FULL = 2**20
"""A disk with less free space is full. [byte]"""


def check_writable(path: Path, *, force: bool) -> None:
    """Check that `path` can be written, before anything is computed for it.

    What killed processes left of writing it is removed.

    Raises:
        ResultError: The file exists, is a device, or its folder does not exist or is not writable.
    """
    if path.is_dir():
        raise ResultError(f"{path}: is a folder; name a file")
    try:
        target = path.resolve()
        endless = target.is_symlink()  # Python 3.13 raises no error for it.
    except (OSError, RuntimeError):
        endless = True
    if endless:
        raise ResultError(f"{path}: is a link to itself; name a file")
    if target.exists() and not target.is_file():
        raise ResultError(f"{path}: is a device, pipe or socket, not a regular file; name a file")
    if os.path.lexists(path) and not force:
        raise ResultError(f"{path}: exists; choose another name or give --force")
    folder = target.parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise ResultError(f"{path}: its folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise ResultError(f"{path}: its folder {folder} cannot be written to")
    remove_leftovers(target)


@contextmanager
def replacing(path: Path, *, force: bool = True, follow: bool = True) -> Iterator[Path]:
    """Yield the name of a new file, which becomes `path` if it is written without an error.

    The file is created by the writer, so that the system gives it the user's default mode, and
    since ext4 writes a file to disk on closing if it was empty before. It is in a folder that no
    other user may enter, so that nobody can put a link in its place.

    Args:
        path: The file to write.
        force: Whether a file that exists by now is replaced.
        follow: Whether the target of a symbolic link is replaced and the link kept, as for a name
            that the user gives; in a folder that others may have filled the link is replaced.

    Raises:
        ResultError: The file cannot be written, or exists by now and `force` is not set.
    """
    try:
        target = path.resolve() if follow else path.parent.resolve() / path.name
        with private_folder(target) as folder:
            temporary = folder / f"new{path.suffix}"
            yield temporary
            if force:
                temporary.replace(target)
            else:
                _move(temporary, target)
    except FileExistsError:
        raise exists_by_now(path) from None
    except UnicodeError:
        raise ResultError(f"{path!s}: its name is not text in this system's encoding") from None
    except (OSError, RuntimeError) as error:
        raise ResultError(f"{path}: cannot be written: {_reason(error, path)}") from None


@contextmanager
def private_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that only this user may enter, removed at the end.

    It is locked, so that `remove_leftovers` knows whether its process is alive.

    Raises:
        OSError: It cannot be created.
    """
    while True:
        folder = Path(mkdtemp(prefix=_start(target.name), suffix=PART, dir=target.parent))
        lock = _lock(folder)
        if folder.is_dir():
            break
        if lock is not None:  # Another process took it for a leftover before it was locked.
            os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(target: Path) -> None:
    """Remove private folders beside `target` whose processes were killed."""
    ours = re.compile(re.escape(_start(target.name)) + RANDOM + re.escape(PART))
    with suppress(OSError), os.scandir(target.parent) as entries:
        left = [entry.path for entry in entries if ours.fullmatch(entry.name)]
        for folder in map(Path, left):
            lock = None if folder.is_symlink() else _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def discard(path: Path) -> None:
    """Remove a file or a folder, which may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; `None` if another process has it locked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _move(temporary: Path, target: Path) -> None:
    """Move a file to a name that does not exist.

    Raises:
        FileExistsError: The name exists.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no links: an empty file reserves the name.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(target)


def exists_by_now(path: Path) -> ResultError:
    """The error for an output that appeared while it was written."""
    return ResultError(
        f"{path}: exists by now, another process wrote it; choose another name or give --force"
    )


def _reason(error: Exception, path: Path) -> str:
    """Reason of an error in words; the NetCDF library calls every failure a lack of permission."""
    if isinstance(error, PermissionError) and error.errno == errno.EACCES:
        with suppress(OSError):
            free = shutil.disk_usage(path.resolve().parent).free
            if free < FULL:
                return os.strerror(errno.ENOSPC)
            if os.access(path.resolve().parent, os.W_OK):
                return "the disk may be full, or a limit on the size of files reached"
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _start(name: str) -> str:
    """Start of temporary names for a file, in ASCII and no longer than systems allow."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() else "_" for sign in name)
    return f".{plain[:LONGEST_NAME]}."
