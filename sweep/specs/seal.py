"""Seals of files: a checksum of all bytes, after those that the NetCDF library reads."""

import os
from io import RawIOBase
from pathlib import Path
from zlib import crc32

from sweep.specs.inputs import open_input

SEAL = b"\nllm-sweep crc32 "
"""Start of the last bytes of a sealed file, after those that HDF5 reads. The HDF5 library may hang
on a damaged file, so the checksum is verified before the library opens it."""
SEAL_LENGTH = len(SEAL) + 8
AT_ONCE = 2**17
"""Bytes to read at once: they stay in the cache of a core. [byte]"""
DAMAGED = "is damaged: its checksum differs"


def seal(path: Path) -> None:
    """Append the checksum of a complete file to it.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("r+b", buffering=0) as file:
        total = _checksum(file, os.fstat(file.fileno()).st_size)
        file.write(SEAL + b"%08x" % total)


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
        size = whole - SEAL_LENGTH
        if size <= 0:
            return DAMAGED if needed else ""
        file.seek(size)
        last = file.read(SEAL_LENGTH)
        if not last.startswith(SEAL):
            return DAMAGED if needed or _resembles(last) else ""
        if most is not None and whole > most:
            return ""
        file.seek(0)
        return "" if last == SEAL + b"%08x" % _checksum(file, size) else DAMAGED


def _resembles(last: bytes) -> bool:
    """Whether the last bytes of a file were a seal before some of them changed."""
    same = sum(one == other for one, other in zip(last, SEAL, strict=False))
    return 2 * same > len(SEAL)


def _checksum(file: RawIOBase, size: int) -> int:
    """CRC-32 of the next `size` bytes of a file."""
    total, left = 0, size
    window = memoryview(bytearray(AT_ONCE))
    while left and (count := file.readinto(window[: min(left, AT_ONCE)])):
        total, left = crc32(window[:count], total), left - count
    return total
