"""Files written beside their final name and renamed when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from sweep.errors import ResultError


def check_writable(path: Path, *, force: bool) -> None:
    """See that `path` can be made, before anything is computed for it.

    Raises:
        ResultError: The file exists, or its folder does not or refuses new files.
    """
    if path.is_dir():
        raise ResultError(f"{path}: is a folder; name a file")
    if os.path.lexists(path) and not force:
        raise ResultError(f"{path}: exists; choose another name or give --force")
    if not path.parent.is_dir():
        raise ResultError(f"{path}: its folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ResultError(f"{path}: its folder {path.parent} cannot be written to")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, renamed to it if all goes well and removed if not.

    Raises:
        ResultError: It cannot be written.
    """
    try:
        handle, name = mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error.strerror or error}") from None
    os.close(handle)
    beside = Path(name)
    # Of a file that stood there empty, ext4 writes all to disk when it is closed, as though it
    # replaced an older one: that takes as long again as to write it.
    beside.unlink()
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path.resolve())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ResultError(f"{path}: cannot be written: {reason}") from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
