"""Maps the kernel over the outer product of its axes."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sweep.errors import SchemaError
from sweep.evaluation.compiled_parts import in_parts
from sweep.evaluation.intervals import Arrivals, Drawn, ends
from sweep.evaluation.outer_product import Spread, outer_product
from sweep.evaluation.packing import unpacked
from sweep.evaluation.stored_function import StoredFunction
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.schema.axes import AXES
from sweep.schema.intervals import ENERGY, OF_POWER, OF_RATES, OF_WAITS, UTILISATION
from sweep.schema.variables import COMPUTED, VARIABLES

COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""Full vectors on processors that have 512 bits, of which LLVM uses half by default: the kernel
divides at every point and would take twice as long. Results are the same, bit for bit."""

FEW = 50_000
"""Points up to which a kernel takes longer to compile than to compute."""
FAST_TO_COMPILE = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}
"""Options for few points: a fifth of the time to compile."""

OF_LOAD = {*OF_WAITS, *OF_RATES, UTILISATION, ENERGY}
"""Variables whose intervals depend on how busy a server is that requests arrive at."""

Over = tuple[tuple[str, tuple[str, ...]], ...]
"""Names, each with the axes along which it varies."""
OneCell = Callable[..., dict[str, jax.Array]]
"""The kernel at one cell: from factors and one value of each axis to variables by name."""


@lru_cache(maxsize=64)
def kernel(
    dims: Over,
    keep_infeasible: bool,
    factors: Over = (),
    tables: Over = (),
    *,
    few: bool = False,
) -> StoredFunction:
    """The kernel mapped over every axis its arguments have, compiled on first use.

    Each variable is mapped over its own dimensions only. The first argument is a set of buffers
    that the result overwrites.

    Args:
        dims: Names and dimensions of the variables to compute.
        keep_infeasible: Whether to keep throughputs where the point cannot run.
        factors: Factors, each with the axes it varies along; none for the ideal.
        tables: Tables of intervals, each with the axes it varies along; none for the ideal.
        few: Whether it is for a grid of no more than `FEW` points.

    Raises:
        SchemaError: When called, if a variable varies over an axis that its dims do not list.
    """
    at_a_rate = any("request_rate" in over for _, over in dims)

    def mapped(
        buffers: dict[str, jax.Array],
        factor_values: dict[str, Any],
        table_values: dict[str, Any],
        *axes: Any,
    ) -> dict[str, jax.Array]:
        del buffers
        arguments = factor_values, table_values, *map(unpacked, axes)
        leaves, tree = jax.tree.flatten(arguments)
        one_cell = _one_cell(tuple(name for name, _ in dims), keep_infeasible)
        axes_of_leaves = _axes_of_leaves(arguments, factors, tables)
        sizes = {axis: _length(value) for axis, value in zip(AXES, axes, strict=True)}

        def every_cell(*leaves: Any) -> dict[str, jax.Array]:
            found = outer_product(
                lambda *cell: one_cell(*jax.tree.unflatten(tree, cell)), leaves, axes_of_leaves
            )
            return {name: _over_its_dims(name, found[name], over, sizes) for name, over in dims}

        return (in_parts(every_cell) if few or at_a_rate else every_cell)(*leaves)

    options = FAST_TO_COMPILE if few else COMPILER_OPTIONS
    compiled = jax.jit(mapped, donate_argnums=0, keep_unused=True, compiler_options=options)
    # Of factors and tables, whose order is that of a set, only names and axes matter.
    named = repr(("kernel", dims, keep_infeasible, sorted(factors), sorted(tables), few))
    return StoredFunction(compiled, named, dict.fromkeys((name for name, _ in dims), 0.0))


def _one_cell(names: tuple[str, ...], keep_infeasible: bool) -> OneCell:
    computed = [name for name in names if name in COMPUTED]

    def one_cell(
        factor_values: dict[str, Any], table_values: dict[str, Any], *axes: Any
    ) -> dict[str, jax.Array]:
        given = dict(zip(AXES, axes, strict=True))
        point = Point(**given, factors=Factors(**factor_values))
        request = Request(point, keep_infeasible=keep_infeasible, asked=names)
        values = {name: _stored(getattr(request, name), name) for name in computed}
        if not table_values:
            return values
        found = {**values, **ends(values, table_values, *given_of(request, names))}
        return {name: found[name] for name in names}

    return one_cell


def given_of(request: Request, names: Sequence[str]) -> tuple[Arrivals | None, Drawn | None]:
    """Figures on which intervals of some variables depend, where they are asked for."""
    drawn = None
    if any(name in names for name in OF_POWER):
        drawn = Drawn(request.inflight_power, request.point.hardware.power)
    return arrivals_of(request, names), drawn


def arrivals_of(request: Request, names: Sequence[str]) -> Arrivals | None:
    """Figures on which intervals of a load depend; `None` where nothing arrives at a rate."""
    if request.point.request_rate is None or not OF_LOAD & set(names):
        return None
    return Arrivals(request.inflight_utilisation, request.inflight_prefill_time)


def _axes_of_leaves(
    arguments: tuple[Any, ...], factors: Over, tables: Over
) -> list[tuple[int, ...]]:
    """Positions in `AXES` of the axes of each leaf of the arguments."""
    factor_values, table_values, *axes = arguments
    found = []
    for values, over in ((factor_values, dict(factors)), (table_values, dict(tables))):
        # JAX takes the leaves of a dictionary in the order of its keys.
        found += [tuple(map(AXES.index, over[name])) for name in sorted(values)]
    for number, each in enumerate(axes):
        found += [(number,)] * len(jax.tree.leaves(each))
    return found


def _length(value: Any) -> int | None:
    """Length of an axis; `None` if the grid lacks it."""
    leaves = jax.tree.leaves(value)
    return leaves[0].shape[0] if leaves else None


def _over_its_dims(
    name: str, found: Spread, dims: tuple[str, ...], sizes: dict[str, int | None]
) -> jax.Array:
    """A variable over all axes of its dims, which include those along which it varies."""
    for number in found.axes:
        if AXES[number] not in dims:
            raise SchemaError(
                f"{name} varies over {AXES[number]}, which its dims in sweep/schema/variables.py "
                f"do not list: add {AXES[number]} to them, or compute {name} without it"
            )
    own = found.array.shape[len(found.axes) :]
    over = [axis for axis in AXES if axis in dims and sizes[axis] is not None]
    numbers = [over.index(AXES[number]) for number in found.axes]
    shape = *(sizes[axis] for axis in over), *own
    stretched: jax.Array = lax.broadcast_in_dim(
        found.array, shape, [*numbers, *range(len(over), len(shape))]
    )
    return stretched


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
