"""Files written under a temporary name and renamed when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from sweep.errors import ResultError

LONGEST_NAME = 200
"""Start of a name that a temporary name repeats; systems allow 255 bytes in all. [byte]"""


def check_writable(path: Path, *, force: bool) -> None:
    """Check that `path` can be written, before anything is computed for it.

    Raises:
        ResultError: The file exists, is a device, or its folder does not exist or is not writable.
    """
    if path.is_dir():
        raise ResultError(f"{path}: is a folder; name a file")
    try:
        target = path.resolve()
    except (OSError, RuntimeError):
        raise ResultError(f"{path}: is a link to itself; name a file") from None
    if target.exists() and not target.is_file():
        raise ResultError(f"{path}: is a device, pipe or socket, not a regular file; name a file")
    if os.path.lexists(path) and not force:
        raise ResultError(f"{path}: exists; choose another name or give --force")
    folder = target.parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise ResultError(f"{path}: its folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise ResultError(f"{path}: its folder {folder} cannot be written to")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a new file, which replaces `path` if it is written without an error.

    The file is created by the writer, so that the system gives it the user's default mode, and
    since ext4 writes a file to disk on closing if it was empty before. The target of a symbolic
    link is replaced and the link kept.

    Raises:
        ResultError: The file cannot be written.
    """
    temporary = None
    try:
        target = path.resolve()
        temporary = target.with_name(f".{_shortened(path.name)}.{token_hex(4)}{path.suffix}")
        yield temporary
        temporary.replace(target)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ResultError(f"{path}: cannot be written: {reason}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _shortened(name: str) -> str:
    """Start of a file name, so that the temporary name is no longer than systems allow."""
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")
