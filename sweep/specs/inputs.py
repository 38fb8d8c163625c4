"""Opens the files that users name: regular ones only, since pipes and devices never end."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path

NOT_REGULAR = "is a device, pipe or socket, not a regular file"
LARGEST_TEXT = 10**7
"""Largest text that is read as a whole; parsed, it takes some hundred times as much memory.
[byte]"""


def open_input(path: Path) -> FileIO:
    """Open a regular file for reading, without a buffer and without waiting.

    Raises:
        OSError: It cannot be opened, or is a folder, device, pipe or socket.
        ValueError: No file can have this name.
    """
    # A pipe without a writer lets no one wait who opens it so; Windows knows no such flag.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = FileIO(path, "rb", opener=lambda name, _: os.open(name, flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return file


def check_regular(path: Path) -> None:
    """Check a file that a library opens by its name.

    Raises:
        OSError: As `open_input`.
        ValueError: As `open_input`.
    """
    open_input(path).close()


def read_text(path: Path, encoding: str = "utf-8", largest: int = LARGEST_TEXT) -> str:
    """Text of a regular file of at most `largest` bytes, with uniform line ends.

    Raises:
        OSError: As `open_input`, or it is larger.
        ValueError: It is not text in this encoding, or as `open_input`.
    """
    with open_input(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"is larger than {largest:,} bytes", str(path))
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
