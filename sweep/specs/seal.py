"""Seals of files: a checksum of all bytes, after those that the NetCDF library reads."""

import os
from collections.abc import Callable, Iterator
from io import RawIOBase
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from xxhash import xxh3_64

from sweep.specs.inputs import open_input


class _Kind(NamedTuple):
    """A kind of seal.

    Attributes:
        start: Start of the last bytes of a sealed file, after those that HDF5 reads. The HDF5
            library may hang on a damaged file, so the checksum is verified before the library
            opens it.
        digits: Hexadecimal digits of the checksum that follow. [count]
        checksum: Checksum of the next bytes of a file.
    """

    start: bytes
    digits: int
    checksum: Callable[[RawIOBase, int], int]

    @property
    def length(self) -> int:
        """Bytes of a seal. [byte]"""
        return len(self.start) + self.digits

    def of(self, total: int) -> bytes:
        """The seal of a checksum."""
        return self.start + b"%0*x" % (self.digits, total)

    def resembles(self, last: bytes) -> bool:
        """Whether the last bytes of a file were a seal before some of them changed."""
        same = sum(one == other for one, other in zip(last, self.start, strict=False))
        return 2 * same > len(self.start)


AT_ONCE = 2**17
"""Bytes to read at once: they stay in the cache of a core. [byte]"""
DAMAGED = "is damaged: its checksum differs"


def seal(path: Path) -> None:
    """Append the checksum of a complete file to it.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("r+b", buffering=0) as file:
        total = xxh3_64()
        # Bytes are read where they are, in a third of the time; an empty file cannot be mapped.
        if file.seek(0, os.SEEK_END):
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                total.update(content)
        file.write(_NOW.of(total.intdigest()))


def fault_of_seal(path: Path, *, needed: bool, most: int | None = None) -> str:
    """Describe the fault of a sealed file in words; empty if all its bytes are as written.

    Args:
        path: The file.
        needed: Whether a file without a seal is at fault; results from elsewhere have none.
        most: Size of the largest file that is read for this; all are if not given. [byte]

    Raises:
        OSError: The file cannot be read.
    """
    with open_input(path) as file:
        whole = os.fstat(file.fileno()).st_size
        if whole <= SEAL_LENGTH:
            return DAMAGED if needed else ""
        file.seek(whole - SEAL_LENGTH)
        tail = file.read(SEAL_LENGTH)
        for kind in (_NOW, _FORMER):
            last = tail[-kind.length :]
            if last.startswith(kind.start):
                if most is not None and whole > most:
                    return ""
                file.seek(0)
                found = kind.of(kind.checksum(file, whole - kind.length))
                return "" if last == found else DAMAGED
        damaged = needed or any(kind.resembles(tail[-kind.length :]) for kind in (_NOW, _FORMER))
        return DAMAGED if damaged else ""


def without_seal(content: bytes) -> bytes:
    """The bytes that a seal covers, of the content of a sealed file."""
    for kind in (_NOW, _FORMER):
        if content[-kind.length :].startswith(kind.start):
            return content[: -kind.length]
    return content


def _windows(file: RawIOBase, size: int) -> Iterator[memoryview]:
    """The next `size` bytes of a file, some at a time in the same memory."""
    window, left = memoryview(bytearray(AT_ONCE)), size
    while left and (count := file.readinto(window[: min(left, AT_ONCE)])):
        yield window[:count]
        left -= count


def _xxh3(file: RawIOBase, size: int) -> int:
    """XXH3 of the next `size` bytes of a file, 64 bits."""
    total = xxh3_64()
    for window in _windows(file, size):
        total.update(window)
    return total.intdigest()


def _crc32(file: RawIOBase, size: int) -> int:
    """CRC-32 of the next `size` bytes of a file."""
    total = 0
    for window in _windows(file, size):
        total = crc32(window, total)
    return total


_NOW = _Kind(b"\nllm-sweep xxh3 ", 16, _xxh3)
_FORMER = _Kind(b"\nllm-sweep crc32 ", 8, _crc32)
"""Seals of earlier versions."""
SEAL_LENGTH = _NOW.length
"""Bytes of a seal. [byte]"""
