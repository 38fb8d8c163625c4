"""Keeps compiled functions in files, so that a later process neither traces nor lowers them.

JAX looks its own cache up by the program that tracing and lowering make, which takes longer than
loading it. Here a file is looked up by everything that determines the program: the code of this
package, versions, the processor, settings of JAX and XLA, and types of the arguments.

A file contains machine code: whoever can write it can run code, as with JAX's cache around it.
"""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np

from sweep.files.atomic import replacing
from sweep.specs.seal import SEAL_LENGTH, fault_of_seal, seal

FOLDER = "llm-sweep-functions"
"""Folder of the store, inside JAX's cache."""
MOST_FILES = 256
"""Functions that are kept: those used last. [count]"""
DETERMINING = ("jax", "jaxlib", "numpy", "equinox")
"""Packages that determine a compiled function, besides this one."""
UNRELATED = ("JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS")
"""Environment variables of JAX that do not determine a function."""

_folders: list[Path] = []
"""The folder of this process, if it has one."""
_compiling = Lock()
"""Held by the thread that turned JAX's cache off, which all threads share."""


def keep_functions_in(folder: Path) -> None:
    """Let this process keep its compiled functions in a folder, which need not exist."""
    _folders[:] = [folder]


class StoredFunction:
    """A function compiled by `jax.jit` whose executables are kept in files.

    It is called as the function is. Without a folder, with several devices or with others than
    processors, JAX calls the function itself.
    """

    def __init__(self, function: Any, name: str, results: Any) -> None:
        """Start without any executable.

        Args:
            function: The result of `jax.jit`.
            name: Everything that determines it beside the code of this package.
            results: A pytree of the structure of its results.
        """
        self._function, self._name = function, name
        self._results = jax.tree.structure(results)
        self._compiled: dict[Any, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        if not _folders:
            return self._function(*arguments)
        return self.compiled(*arguments)(*arguments)

    def eval_shape(self, *arguments: Any) -> Any:
        """Shapes and types of the results, without computing them."""
        return self._function.eval_shape(*arguments)

    def compiled(self, *arguments: Any) -> Any:
        """The executable for arguments of these shapes and types."""
        key, path = self._key(arguments)
        if key not in self._compiled:
            found = None if path is None else _load(path, arguments, self._results)
            self._compiled[key] = self._new(path, arguments) if found is None else found
        return self._compiled[key]

    def temporary_bytes(self, *arguments: Any) -> int:
        """Memory that the function needs beside such arguments and its results. [byte]

        A file is not loaded for it, which takes longer than reading it.
        """
        key, path = self._key(arguments)
        if key not in self._compiled and path is not None:
            found = _read(path)
            if found is not None:
                return found.temporary_bytes
        return _temporary_bytes(self.compiled(*arguments))

    def _key(self, arguments: Any) -> tuple[Any, Path | None]:
        """A key among the executables of this process, and the file if there may be one."""
        key = _types(arguments)
        if key in self._compiled or not _folders or not _has_one_processor():
            return key, None
        return key, file_of(self._name, arguments)

    def _new(self, path: Path | None, arguments: Any) -> Any:
        """Compile the function, and keep it where it can be kept."""
        if path is None:
            return self._function.lower(*arguments).compile()
        with _compiling, _without_jax_cache():
            compiled = self._function.lower(*arguments).compile()
        _save(compiled, path)
        return compiled


def _types(arguments: Any) -> tuple[Any, ...]:
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
    tree, *types = _types(arguments)
    text = "\n".join((surroundings(), name, str(tree), repr(tuple(types))))
    return _folders[0] / hashlib.sha256(text.encode()).hexdigest()


def _has_one_processor() -> bool:
    return [device.platform for device in jax.local_devices()] == ["cpu"]


def _temporary_bytes(compiled: Any) -> int:
    return int(compiled.memory_analysis().temp_size_in_bytes)


@cache
def surroundings() -> str:
    """Everything that determines compiled functions, apart from the functions."""
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("JAX_", "XLA_")) and name not in UNRELATED
    }
    versions = [f"{name} {version(name)}" for name in DETERMINING]
    return repr((_code(), sys.version, versions, _processor(), sorted(settings.items())))


def _code() -> str:
    """Digest of the modules of this package."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
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


class Stored(NamedTuple):
    """Content of a file.

    Attributes:
        temporary_bytes: Memory that the function needs beside arguments and results. [byte]
        executable: The executable as JAX writes it.
    """

    temporary_bytes: int
    executable: bytes


def read_stored(path: Path) -> bytes | None:
    """Content of a file of the store; `None` if there is none, or it is damaged."""
    try:
        if fault_of_seal(path, needed=True):
            return None
        content = path.read_bytes()[:-SEAL_LENGTH]
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


def _read(path: Path) -> Stored | None:
    size, _, executable = (read_stored(path) or b"").partition(b"\n")
    return Stored(int(size), executable) if size.isdigit() else None


def _load(path: Path, arguments: Any, results: Any) -> Any:
    """The executable of a file; `None` if there is none, or it is of no use here."""
    from jax.experimental.serialize_executable import deserialize_and_load

    found = _read(path)
    if found is None:
        return None
    try:
        into = jax.tree.structure((arguments, {}))
        return deserialize_and_load(found.executable, into, results)
    except Exception:
        return None


def _save(compiled: Any, path: Path) -> None:
    from jax.experimental.serialize_executable import serialize

    write_stored(path, lambda: b"%d\n" % _temporary_bytes(compiled) + serialize(compiled)[0])


def _remove_oldest(folder: Path) -> None:
    kept = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime_ns)
    for path in kept[:-MOST_FILES]:
        path.unlink(missing_ok=True)


@contextmanager
def _without_jax_cache() -> Iterator[None]:
    """Let JAX compile: an executable that its cache returns cannot be written again."""
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
