"""What the kernel says of measured rows, and how that moves with the efficiency factors."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from calibration.observations import Group
from sweep.efficiency import Efficiency
from sweep.params import Point
from sweep.request import Request

Array = np.ndarray[Any, Any]


@lru_cache(maxsize=16)
def _ideal(variable: str) -> Callable[[Point], jax.Array]:
    def one_row(point: Point) -> jax.Array:
        return _figure(point, variable)

    mapped: Callable[[Point], jax.Array] = eqx.filter_jit(eqx.filter_vmap(one_row))
    return mapped


def _figure(point: Point, variable: str) -> jax.Array:
    return jnp.asarray(getattr(Request(point, keep_infeasible=True), variable))


def _traced(group: Group, factors: tuple[str, ...], *, slopes: bool) -> Any:
    """Logarithm of the figure of every row of a group, and its slopes if asked for, as traced.

    Thousands of small steps and their slopes: fusing them would take XLA minutes, and saves
    milliseconds on a few thousand rows.
    """

    def logarithm(values: jax.Array, point: Point) -> jax.Array:
        efficiency = Efficiency(**dict(zip(factors, values, strict=True)))
        return jnp.log(_figure(dataclasses.replace(point, efficiency=efficiency), group.variable))

    def one_row(values: jax.Array, point: Point) -> tuple[jax.Array, jax.Array]:
        if not slopes:
            return logarithm(values, point), jnp.zeros_like(values)
        # Backwards: one figure a row has slopes by all factors for the price of a few figures.
        found: tuple[jax.Array, jax.Array] = jax.value_and_grad(logarithm)(values, point)
        return found

    mapped = jax.jit(jax.vmap(one_row), compiler_options={"xla_disable_hlo_passes": "fusion"})
    example = np.ones((len(group.rows), len(factors)))
    with jax.enable_x64(True):
        return mapped.trace(example, _arrays(group.point))


def _compiled(groups: Sequence[Group], factors: tuple[str, ...], *, slopes: bool) -> list[Any]:
    """The kernels of all groups, in their order.

    One after the other, in this thread: others would keep the memory that compiling took, twice
    that of the kernels. XLA uses all cores by itself.
    """
    with jax.enable_x64(True):
        return [_traced(group, factors, slopes=slopes).lower().compile() for group in groups]


def _arrays(point: Point) -> Any:
    return eqx.filter(point, eqx.is_array)


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
        self._compiled = _compiled(groups, factors, slopes=slopes)

    def log_figures(self, values: Array) -> tuple[Array, Array]:
        """Logarithm of every row's figure under its own factors, and the slopes by them.

        Args:
            values: One row of factors for each measured row.
        """
        figures, slopes = np.empty(len(values)), np.empty(values.shape)
        with jax.enable_x64(True):
            for group, compiled in zip(self.groups, self._compiled, strict=True):
                value, slope = compiled(values[group.rows], _arrays(group.point))
                figures[group.rows], slopes[group.rows] = value, slope
        return figures, slopes
