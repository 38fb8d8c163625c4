"""Predictions of measured rows by the kernel, and their derivatives by the factors."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from threading import Semaphore
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calibration.fit.malloc_trim import return_free_memory
from calibration.fit.points import Group
from sweep.evaluation.function_store import digest_of_code
from sweep.evaluation.stored_function import StoredFunction
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request

Array = np.ndarray[Any, Any]
LEAST_AT_ONCE, MOST_AT_ONCE = 16, 4096
"""Rows predicted by one call of a kernel. [count]"""
COMPILED_AT_ONCE = 2
"""Kernels compiled at the same time. [count]"""
MOST_STORED = 16
"""Groups up to which executables are kept in files; a fit of a large table has hundreds. [count]"""
COMPILED_BETWEEN = 6
"""Kernels compiled before memory is given back. [count]"""
COMPILER_OPTIONS = {
    "xla_disable_hlo_passes": "fusion",
    "xla_backend_optimization_level": 0,
    # Without the emitters of fusions, each operation would be a mapped piece of memory of its own,
    # of which Linux lets a process have 65,530.
    "xla_cpu_use_fusion_emitters": True,
}
"""Fusing thousands of small operations and their derivatives takes XLA minutes, optimising them
half as long again; both save milliseconds on a few thousand rows."""


def _figure(point: Point, variables: Sequence[str], which: jax.Array) -> jax.Array:
    """The variable of a row, by its index in `variables`."""
    request = Request(point, keep_infeasible=True, side_by_side=True)
    figures = [jnp.asarray(getattr(request, name)) for name in variables]
    return figures[0] if len(figures) == 1 else jax.lax.select_n(which, *figures)


def _length(group: Group) -> int:
    """Rows of a group in one kernel call: its rows, rounded up to three binary digits. [count]

    Tables of any length then share a few compiled kernels; a quarter of the rows is repeated at
    most.
    """
    rows = min(max(LEAST_AT_ONCE, len(group.rows)), MOST_AT_ONCE)
    step = 1 << max(rows.bit_length() - 3, 0)
    return -(-rows // step) * step


@cache
def _code() -> str:
    """Digest of the modules that a kernel is traced from, besides those of the package `sweep`."""
    return digest_of_code(Path(__file__).parent)


@lru_cache(maxsize=64)
def _kernel(
    variables: tuple[str, ...], factors: tuple[str, ...], *, slopes: bool
) -> StoredFunction:
    """The logarithm of the figure of each row, with its derivatives by the factors."""

    def logarithm(values: jax.Array, point: Point, which: jax.Array) -> jax.Array:
        own = Factors(**dict(zip(factors, values, strict=True)))
        return jnp.log(_figure(dataclasses.replace(point, factors=own), variables, which))

    def one_row(values: jax.Array, point: Point, which: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not slopes:
            return logarithm(values, point, which), jnp.zeros_like(values)
        # Reverse mode: derivatives by all factors cost as much as a few figures.
        found: tuple[jax.Array, jax.Array] = jax.value_and_grad(logarithm)(values, point, which)
        return found

    mapped = jax.jit(jax.vmap(one_row), compiler_options=COMPILER_OPTIONS)
    named = repr(("rows", variables, factors, slopes, _code()))
    return StoredFunction(mapped, named, (0.0, 0.0))


@lru_cache(maxsize=64)
def _ideal(variables: tuple[str, ...], factors: tuple[float, ...]) -> StoredFunction:
    """The figure of each row under factors that are the same for all rows."""

    def one_row(point: Point, which: jax.Array) -> jax.Array:
        own = dataclasses.replace(point, factors=Factors(*factors))
        return _figure(own, variables, which)

    mapped = jax.jit(jax.vmap(one_row))
    return StoredFunction(mapped, repr(("ideal rows", variables, factors, _code())), 0.0)


def _compiled(groups: Sequence[Group], factors: tuple[str, ...], *, slopes: bool) -> list[Any]:
    """Executables of all groups, in their order, from files where there are some.

    Two compile at a time while the next is traced; more would need too much memory, and so would
    programs that wait. Memory of the compiler, which is as large as the kernels, is given back
    after every few, while none compiles. Executables of many groups are left to JAX's cache.
    """
    room = Semaphore(COMPILED_AT_ONCE)
    executables: list[Any] = []
    stored = len(groups) <= MOST_STORED
    with jax.enable_x64(True), ThreadPoolExecutor(max_workers=COMPILED_AT_ONCE) as compiler:
        for start in range(0, len(groups), COMPILED_BETWEEN):
            compiling: list[Any] = []
            for group in groups[start : start + COMPILED_BETWEEN]:
                length = _length(group)
                rows = np.ones((length, len(factors))), *_part(group, _places(group, length))
                kernel = _kernel(group.variables, factors, slopes=slopes)
                known = kernel.known(*rows) if stored else None
                if known is not None:
                    compiling.append(known)
                    continue
                compilation = kernel.compilation(*rows, stored=stored)
                room.acquire()
                compiling.append(compiler.submit(compilation))
                compiling[-1].add_done_callback(lambda _: room.release())
                del compilation
            found = [each.result() if isinstance(each, Future) else each for each in compiling]
            executables += found
            if any(isinstance(each, Future) for each in compiling):
                return_free_memory()
            compiling.clear()
    return executables


def _places(group: Group, length: int, start: int = 0) -> Array:
    """`length` indices of rows of a group from `start` on, padded with the last one."""
    return np.minimum(np.arange(start, start + length), len(group.rows) - 1)


def _part(group: Group, indices: Array) -> Any:
    """The arrays of the points at some indices, and which figure each row has."""

    def rows(leaf: Any) -> Any:
        return leaf[indices] if isinstance(leaf, np.ndarray) else None

    return jax.tree.map(rows, group.point), group.which[indices]


def predict(groups: Sequence[Group]) -> Array:
    """Figure of every row under ideal rooflines. [s-1 or s]"""
    found = np.full(sum(len(group.rows) for group in groups), np.nan)
    with jax.enable_x64(True):
        for group in groups:
            length, point = _length(group), group.point
            for start in range(0, len(group.rows), length):
                indices = _places(group, length, start)
                rows, which = _part(group, indices)
                kernel = _ideal(group.variables, dataclasses.astuple(point.factors))
                found[group.rows[indices]] = np.asarray(kernel(rows, which))
    return found


class Forward:
    """The kernel of every group, compiled once for a set of factors and rows."""

    def __init__(
        self, groups: Sequence[Group], factors: tuple[str, ...], *, slopes: bool = True
    ) -> None:
        """Compile for `factors`, with derivatives by them or, faster, without."""
        self.groups, self.factors = groups, factors
        self._compiled = _compiled(groups, factors, slopes=slopes)
        # A fit evaluates the same rows many times, predictions many rows once.
        self._kept = list(self._calls()) if slopes else None

    def _calls(self) -> Iterator[tuple[Any, Array, Any]]:
        """Kernel, indices of the rows and their points of each call."""
        with jax.enable_x64(True):
            for group, compiled in zip(self.groups, self._compiled, strict=True):
                length = _length(group)
                for start in range(0, len(group.rows), length):
                    indices = _places(group, length, start)
                    yield compiled, group.rows[indices], jax.device_put(_part(group, indices))

    def log_figures(self, values: Array) -> tuple[Array, Array]:
        """Logarithm of the figure of every row under its factors, and its derivatives by them.

        Args:
            values: Factors of each row, shape (rows, factors).
        """
        figures, slopes = np.empty(len(values)), np.empty(values.shape)
        with jax.enable_x64(True):
            running = [
                (rows, compiled(values[rows], *part))
                for compiled, rows, part in self._kept or self._calls()
            ]
            for rows, found in running:
                figures[rows], slopes[rows] = found
        return figures, slopes
