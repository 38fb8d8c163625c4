"""Maps the kernel over the outer product of its axes."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from sweep.evaluation.packing import unpacked
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.schema.axes import AXES
from sweep.schema.variables import VARIABLES

COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""Where a processor has vectors of 512 bits, LLVM keeps to half of them unless it is told: the
kernel, which divides at every point, takes twice as long. Results are the same, bit for bit."""


@lru_cache(maxsize=64)
def kernel(
    dims: tuple[tuple[str, tuple[str, ...]], ...],
    keep_infeasible: bool,
    factors: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Any:
    """The kernel mapped over every axis its arguments have, compiled on first use.

    Each variable is mapped over its own dimensions only; JAX refuses one that varies over an
    axis it does not declare. The first argument is a set of buffers that the result overwrites.

    Args:
        dims: Names and dimensions of the variables to compute.
        keep_infeasible: Whether throughputs stand where the point cannot run.
        factors: Efficiency factors, each with the axes it varies along; none for the ideal.
    """

    def one_point(factor_values: dict[str, Any], *axes: Any) -> dict[str, jax.Array]:
        given = {name: unpacked(value) for name, value in zip(AXES, axes, strict=True)}
        point = Point(**given, factors=Factors(**factor_values))
        request = Request(point, keep_infeasible=keep_infeasible)
        return {name: _stored(getattr(request, name), name) for name, _ in dims}

    def outer_product(
        buffers: dict[str, jax.Array], factor_values: dict[str, Any], *axes: Any
    ) -> dict[str, jax.Array]:
        del buffers
        mapped: Callable[..., dict[str, jax.Array]] = one_point
        for place, axis in reversed(list(enumerate(AXES))):
            if axes[place] is None:
                continue
            over_factors = {name: 0 if axis in over else None for name, over in factors}
            in_axes = (over_factors, *(0 if i == place else None for i in range(len(AXES))))
            out_axes = {name: 0 if axis in over else None for name, over in dims}
            mapped = jax.vmap(mapped, in_axes, out_axes)
        return mapped(factor_values, *axes)

    return jax.jit(
        outer_product, donate_argnums=0, keep_unused=True, compiler_options=COMPILER_OPTIONS
    )


def _stored(value: Any, name: str) -> jax.Array:
    """Flags as small integers, quantities as they are."""
    dtype = VARIABLES[name].dtype
    return jnp.asarray(value) if dtype is None else jnp.asarray(value).astype(dtype)
