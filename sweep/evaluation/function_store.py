"""Files of compiled functions and traces, looked up by everything that determines them.

JAX looks its own cache up by the program that tracing and lowering make, which takes longer than
loading it. Here a file is looked up by the code of this package, versions, the processor, settings
of JAX and XLA, and types of the arguments.

A file contains machine code: whoever can write it can run code, as with JAX's cache around it.
"""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sweep.files.atomic import replacing
from sweep.specs.seal import fault_of_seal, seal, without_seal

FOLDER = "llm-sweep-functions"
"""Folder of the store, inside JAX's cache."""
MOST_FILES = 256
"""Functions that are kept: those used last. [count]"""
DETERMINING = ("jax", "jaxlib", "numpy")
"""Packages that determine a compiled function, besides this one."""
UNRELATED = ("JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS")
"""Environment variables of JAX that do not determine a function."""

_folders: list[Path] = []
"""The folder of this process, if it has one."""


def folder_of_functions() -> Path | None:
    """The folder in which this process keeps functions, if it does."""
    return _folders[0] if _folders else None


def keep_functions_in(folder: Path) -> None:
    """Let this process keep its compiled functions in a folder, which need not exist."""
    _folders[:] = [folder]


def types_of(arguments: Any) -> tuple[Any, ...]:
    """Structure, shapes and types of arguments, and the type of a number without one."""
    leaves, tree = jax.tree.flatten(arguments)
    types = tuple((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves)
    return tree, types, str(jax.dtypes.canonicalize_dtype(float))


def file_of(name: str, arguments: Any) -> Path | None:
    """The file of a function of arguments of these types; `None` if this process keeps none.

    Args:
        name: Everything that determines the function beside the code of this package.
        arguments: Its arguments.
    """
    if not _folders:
        return None
    tree, *types = types_of(arguments)
    text = "\n".join((surroundings(), name, str(tree), repr(tuple(types))))
    return _folders[0] / hashlib.sha256(text.encode()).hexdigest()


@cache
def surroundings() -> str:
    """Everything that determines compiled functions, apart from the functions."""
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("JAX_", "XLA_")) and name not in UNRELATED
    }
    versions = [f"{name} {version(name)}" for name in DETERMINING]
    return repr(
        (
            digest_of_code(Path(__file__).parents[1]),
            sys.version,
            versions,
            _processor(),
            sorted(settings.items()),
        )
    )


def digest_of_code(package: Path) -> str:
    """Digest of the modules of a package."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """Name and abilities of the processor, for which XLA compiles."""
    found = [platform.system(), platform.machine(), str(os.cpu_count())]
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        found += sorted(set(re.findall(r"^(?:model name|flags|Features)\s*:.*$", text, re.M)))
    return "\n".join(found)


def read_stored(path: Path) -> bytes | None:
    """Content of a file of the store; `None` if there is none, or it is damaged."""
    try:
        if fault_of_seal(path, needed=True):
            return None
        content = without_seal(path.read_bytes())
        os.utime(path)
        return content
    except OSError:
        return None


def write_stored(path: Path, content: Callable[[], bytes]) -> None:
    """Write a file of the store; where that is impossible, the next process makes it again."""
    with suppress(Exception):
        made = content()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path, follow=False) as temporary:
            temporary.write_bytes(made)
            seal(temporary)
        _remove_oldest(path.parent)


def _remove_oldest(folder: Path) -> None:
    kept = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime_ns)
    for path in kept[:-MOST_FILES]:
        path.unlink(missing_ok=True)
