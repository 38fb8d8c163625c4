"""Compiled functions that are kept in files, so that a later process neither traces nor lowers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import jax

from sweep.evaluation.function_store import (
    file_of,
    folder_of_functions,
    types_of,
    write_stored,
)
from sweep.evaluation.load_ahead import load, read_executable

_without = Lock()
_compiling: list[bool] = []
"""One entry for each thread that compiles without JAX's cache, which all threads share."""


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
        if folder_of_functions() is None:
            return self._function(*arguments)
        return self.compiled(*arguments)(*arguments)

    def eval_shape(self, *arguments: Any) -> Any:
        """Shapes and types of the results, without computing them."""
        return self._function.eval_shape(*arguments)

    def compiled(self, *arguments: Any) -> Any:
        """The executable for arguments of these shapes and types."""
        found = self.known(*arguments)
        return self.compilation(*arguments)() if found is None else found

    def known(self, *arguments: Any) -> Any:
        """The executable for such arguments, if this process or a file has it, else `None`."""
        key, path = self._key(arguments)
        if key not in self._compiled:
            found = None if path is None else load(path, arguments, self._results)
            if found is None:
                return None
            self._compiled[key] = found
        return self._compiled[key]

    def compilation(self, *arguments: Any, stored: bool = True) -> Callable[[], Any]:
        """Lower the function; the result compiles it, on any thread.

        Args:
            arguments: Arguments of the shapes and types of those of later calls.
            stored: Whether to keep the executable, in memory and in a file.
        """
        key, path = self._key(arguments)
        lowered = self._function.lower(*arguments)

        def compiled() -> Any:
            if not stored:
                return lowered.compile()
            if path is None:
                self._compiled[key] = lowered.compile()
            else:
                with without_jax_cache():
                    self._compiled[key] = lowered.compile()
                _save(self._compiled[key], path)
            return self._compiled[key]

        return compiled

    def temporary_bytes(self, *arguments: Any) -> int:
        """Memory that the function needs beside such arguments and its results. [byte]

        A file is not loaded for it, which takes longer than reading it.
        """
        key, path = self._key(arguments)
        if key not in self._compiled and path is not None:
            found = read_executable(path)
            if found is not None:
                return found.temporary_bytes
        return _temporary_bytes(self.compiled(*arguments))

    def _key(self, arguments: Any) -> tuple[Any, Path | None]:
        """A key among the executables of this process, and the file if there may be one."""
        key = types_of(arguments)
        if key in self._compiled or not _has_one_processor():
            return key, None
        return key, file_of(self._name, arguments)


def _has_one_processor() -> bool:
    return [device.platform for device in jax.local_devices()] == ["cpu"]


def _temporary_bytes(compiled: Any) -> int:
    return int(compiled.memory_analysis().temp_size_in_bytes)


def _save(compiled: Any, path: Path) -> None:
    from jax.experimental.serialize_executable import serialize

    write_stored(path, lambda: b"%d\n" % _temporary_bytes(compiled) + serialize(compiled)[0])


@contextmanager
def without_jax_cache() -> Iterator[None]:
    """Let JAX compile: an executable that its cache returns cannot be written again."""
    with _without:
        _compiling.append(jax.config.values["jax_enable_compilation_cache"])
        if len(_compiling) == 1:
            _use_jax_cache(False)
    try:
        yield
    finally:
        with _without:
            before = any(_compiling)
            _compiling.pop()
            if not _compiling:
                _use_jax_cache(before)


def _use_jax_cache(wanted: bool) -> None:
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", wanted)
    compilation_cache.reset_cache()
