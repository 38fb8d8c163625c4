"""What the kernel says of measured rows, and how that moves with the efficiency factors."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from calibration.fit.malloc_trim import return_free_memory
from calibration.fit.points import Group
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request

Array = np.ndarray[Any, Any]
LEAST_AT_ONCE, MOST_AT_ONCE = 16, 4096
"""Rows predicted by one call of a kernel. [count]"""
COMPILED_AT_ONCE = 2
"""Kernels. [count]"""
COMPILER_OPTIONS = {"xla_disable_hlo_passes": "fusion", "xla_backend_optimization_level": 0}
"""Thousands of small steps and their slopes: fusing them would take XLA minutes and optimising
them half as long again, to save milliseconds on a few thousand rows."""


@lru_cache(maxsize=16)
def _ideal(variable: str) -> Callable[[Point], jax.Array]:
    def one_row(point: Point) -> jax.Array:
        return _figure(point, variable)

    mapped: Callable[[Point], jax.Array] = eqx.filter_jit(eqx.filter_vmap(one_row))
    return mapped


def _figure(point: Point, variable: str) -> jax.Array:
    return jnp.asarray(getattr(Request(point, keep_infeasible=True), variable))


def _length(group: Group, *, slopes: bool) -> int:
    """Rows of a group that the kernel takes at once. [count]

    A fit asks for the same rows again and again. Other tables come in all lengths, and few
    lengths share their compiled kernels from one run to the next.
    """
    rows = len(group.rows)
    return rows if slopes else min(max(LEAST_AT_ONCE, 1 << (rows - 1).bit_length()), MOST_AT_ONCE)


def _traced(group: Group, factors: tuple[str, ...], *, slopes: bool) -> Any:
    """Logarithm of the figure of rows of a group, and its slopes if asked for, as traced."""

    def logarithm(values: jax.Array, point: Point) -> jax.Array:
        own = Factors(**dict(zip(factors, values, strict=True)))
        return jnp.log(_figure(dataclasses.replace(point, factors=own), group.variable))

    def one_row(values: jax.Array, point: Point) -> tuple[jax.Array, jax.Array]:
        if not slopes:
            return logarithm(values, point), jnp.zeros_like(values)
        # Backwards: one figure a row has slopes by all factors for the price of a few figures.
        found: tuple[jax.Array, jax.Array] = jax.value_and_grad(logarithm)(values, point)
        return found

    mapped = jax.jit(jax.vmap(one_row), compiler_options=COMPILER_OPTIONS)
    length = _length(group, slopes=slopes)
    with jax.enable_x64(True):
        return mapped.trace(np.ones((length, len(factors))), _part(group, _places(group, length)))


def _compiled(groups: Sequence[Group], factors: tuple[str, ...], *, slopes: bool) -> list[Any]:
    """The kernels of all groups, in their order.

    Two are compiled at a time, while the next is traced; more would take memory that none of the
    others frees. What compiling took is as much as the kernels themselves.
    """
    with jax.enable_x64(True), ThreadPoolExecutor(max_workers=COMPILED_AT_ONCE) as compiler:
        kernels = [
            compiler.submit(_traced(group, factors, slopes=slopes).lower().compile)
            for group in groups
        ]
        compiled = [kernel.result() for kernel in kernels]
    return_free_memory()
    return compiled


def _places(group: Group, length: int, start: int = 0) -> Array:
    """So many places in a group from `start` on, the last repeated where it ends."""
    return np.minimum(np.arange(start, start + length), len(group.rows) - 1)


def _part(group: Group, places: Array) -> Any:
    """The arrays of the points at some places."""
    return jax.tree.map(lambda leaf: leaf[places], eqx.filter(group.point, eqx.is_array))


def predict(groups: Sequence[Group]) -> Array:
    """The ideal figure of every row. [s-1 or s]"""
    found = np.full(sum(len(group.rows) for group in groups), np.nan)
    with jax.enable_x64(True):
        for group in groups:
            found[group.rows] = np.asarray(_ideal(group.variable)(group.point))
    return found


class Forward:
    """The kernel of every group, compiled once for a set of factors and rows."""

    def __init__(
        self, groups: Sequence[Group], factors: tuple[str, ...], *, slopes: bool = True
    ) -> None:
        """Compile for `factors`, with slopes by them or, faster, without."""
        self.groups, self.factors = groups, factors
        self._lengths = [_length(group, slopes=slopes) for group in groups]
        self._compiled = _compiled(groups, factors, slopes=slopes)

    def log_figures(self, values: Array) -> tuple[Array, Array]:
        """Logarithm of every row's figure under its own factors, and the slopes by them.

        Args:
            values: One row of factors for each measured row.
        """
        figures, slopes = np.empty(len(values)), np.empty(values.shape)
        with jax.enable_x64(True):
            kernels = zip(self.groups, self._lengths, self._compiled, strict=True)
            for group, length, compiled in kernels:
                for start in range(0, len(group.rows), length):
                    places = _places(group, length, start)
                    rows = group.rows[places]
                    figures[rows], slopes[rows] = compiled(values[rows], _part(group, places))
        return figures, slopes
