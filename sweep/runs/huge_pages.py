"""Huge pages for the memory of results, by a tunable of the GNU C library.

XLA allocates results with `malloc`, whose fresh memory comes in pages of 4 kB: clearing so many
takes longer than computing the values. The tunable asks for huge pages instead, as NumPy does for
its own arrays. The library reads it when a process starts, so commands restart themselves once.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
"""Environment variable with tunables, separated by colons."""
TUNABLE = "glibc.malloc.hugetlb"
FIRST_VERSION = (2, 35)
"""Version of the library that introduced the tunable."""
RESTARTED = "LLM_SWEEP_RESTARTED"
"""Environment variable with the number of a process that restarted itself."""
SETTING_OF_LINUX = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def tunables(environment: Mapping[str, str]) -> str | None:
    """Value of `GLIBC_TUNABLES` that asks for huge pages, with the tunables set already.

    `None` where it changes nothing: it is set already, Linux gives huge pages to all processes or
    to none, or the C library is another one or too old.
    """
    given = environment.get(VARIABLE, "")
    if TUNABLE in given or not (_linux_waits_to_be_asked() and _library_has_tunable()):
        return None
    return f"{given}:{TUNABLE}=1" if given else f"{TUNABLE}=1"


def restart_with_huge_pages() -> None:
    """Replace this process by the same command with huge pages, unless it has them already.

    Call it where a command starts, before anything is imported that takes time.
    """
    wanted = tunables(os.environ)
    process = str(os.getpid())
    if wanted is None or not sys.executable or os.environ.get(RESTARTED) == process:
        return
    environment = {**os.environ, VARIABLE: wanted, RESTARTED: process}
    try:
        os.execve(sys.executable, sys.orig_argv, environment)
    except OSError:
        # Without huge pages the command takes longer and computes the same.
        return


def _linux_waits_to_be_asked() -> bool:
    try:
        return sys.platform == "linux" and "[madvise]" in SETTING_OF_LINUX.read_text("ascii")
    except OSError:
        return False


def _library_has_tunable() -> bool:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= FIRST_VERSION
    except (AttributeError, OSError, ValueError):
        return False
