"""Maps the kernel over the outer product of its axes."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from sweep.errors import SchemaError
from sweep.evaluation.intervals import ends
from sweep.evaluation.packing import unpacked
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.schema.axes import AXES
from sweep.schema.variables import COMPUTED, VARIABLES

COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""Full vectors on processors that have 512 bits, of which LLVM uses half by default: the kernel
divides at every point and would take twice as long. Results are the same, bit for bit."""

Over = tuple[tuple[str, tuple[str, ...]], ...]
"""Names, each with the axes along which it varies."""
OneCell = Callable[..., dict[str, jax.Array]]
"""The kernel at one cell: from factors and one value of each axis to variables by name."""


@lru_cache(maxsize=64)
def kernel(dims: Over, keep_infeasible: bool, factors: Over = (), tables: Over = ()) -> Any:
    """The kernel mapped over every axis its arguments have, compiled on first use.

    Each variable is mapped over its own dimensions only. The first argument is a set of buffers
    that the result overwrites.

    Args:
        dims: Names and dimensions of the variables to compute.
        keep_infeasible: Whether to keep throughputs where the point cannot run.
        factors: Factors, each with the axes it varies along; none for the ideal.
        tables: Tables of intervals, each with the axes it varies along; none for the ideal.

    Raises:
        SchemaError: When called, if a variable varies over an axis that its dims do not list.
    """

    def outer_product(
        buffers: dict[str, jax.Array],
        factor_values: dict[str, Any],
        table_values: dict[str, Any],
        *axes: Any,
    ) -> dict[str, jax.Array]:
        del buffers
        arguments = factor_values, table_values, *axes
        mapped = one_cell = _one_cell(tuple(name for name, _ in dims), keep_infeasible)
        for axis in reversed(AXES):
            if _has(axis, arguments):
                out_axes = {name: 0 if axis in over else None for name, over in dims}
                mapped = jax.vmap(mapped, _in_axes(axis, factors, tables), out_axes)
        try:
            return mapped(*arguments)
        except ValueError as refusal:
            # JAX refuses an undeclared axis, in words of its own that name neither.
            raise _undeclared_axis(one_cell, arguments, dims, factors, tables) or refusal from None

    return jax.jit(
        outer_product, donate_argnums=0, keep_unused=True, compiler_options=COMPILER_OPTIONS
    )


def _one_cell(names: tuple[str, ...], keep_infeasible: bool) -> OneCell:
    computed = [name for name in names if name in COMPUTED]

    def one_cell(
        factor_values: dict[str, Any], table_values: dict[str, Any], *axes: Any
    ) -> dict[str, jax.Array]:
        given = {name: unpacked(value) for name, value in zip(AXES, axes, strict=True)}
        point = Point(**given, factors=Factors(**factor_values))
        request = Request(point, keep_infeasible=keep_infeasible)
        values = {name: _stored(getattr(request, name), name) for name in computed}
        found = {**values, **ends(values, table_values)} if table_values else values
        return {name: found[name] for name in names}

    return one_cell


def _has(axis: str, arguments: tuple[Any, ...]) -> bool:
    return arguments[2 + AXES.index(axis)] is not None


def _in_axes(axis: str, factors: Over, tables: Over) -> tuple[Any, ...]:
    """The argument that is mapped over `axis`, and the factors and tables that vary along it."""
    along = (
        {name: 0 if axis in over else None for name, over in each} for each in (factors, tables)
    )
    return *along, *(0 if other == axis else None for other in AXES)


def _undeclared_axis(
    one_cell: OneCell, arguments: tuple[Any, ...], dims: Over, factors: Over, tables: Over
) -> SchemaError | None:
    """The error that names a variable and an axis missing from its dims, if there is one."""
    present = [axis for axis in AXES if _has(axis, arguments)]
    for name, over in dims:
        for missing in (axis for axis in present if axis not in over):

            def one_variable(*cell: Any, name: str = name) -> jax.Array:
                return one_cell(*cell)[name]

            mapped: Callable[..., jax.Array] = one_variable
            for axis in reversed(present):
                out_axis = None if axis == missing else 0
                mapped = jax.vmap(mapped, _in_axes(axis, factors, tables), out_axis)
            try:
                jax.eval_shape(mapped, *arguments)
            except ValueError:
                return SchemaError(
                    f"{name} varies over {missing}, which its dims in sweep/schema/variables.py "
                    f"do not list: add {missing} to them, or compute {name} without it"
                )
    return None


def _stored(value: Any, name: str) -> jax.Array:
    """A flag as a small integer, a quantity as it is."""
    variable, array = VARIABLES[name], jnp.asarray(value)
    by_operator = "operator" in variable.dims
    if array.ndim != int(by_operator):
        raise SchemaError(
            f"{name} has {array.ndim} dimensions in one cell, but its dims in "
            f"sweep/schema/variables.py {'list' if by_operator else 'do not list'} operator: "
            "return one value per operator if and only if they do"
        )
    return array if variable.dtype is None else array.astype(variable.dtype)
