"""Maps a function of one cell over the outer product of axes, in one pass over its operations.

Nested `jax.vmap` handles every operation once for each axis, which takes longer than everything
else before XLA starts to compile. Here the function is traced for one cell, and each operation of
the trace is applied once, to arrays with a dimension for each axis along which their values vary.
Equal operations are applied once, those without use not at all. XLA gets the same operations on the
same shapes as from `jax.vmap`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

UNARY = (
    *("abs", "ceil", "convert_element_type", "cos", "exp", "exp2", "expm1", "floor"),
    *("integer_pow", "is_finite", "log", "log1p", "logistic", "neg", "not", "round", "rsqrt"),
    *("sign", "sin", "sqrt", "square", "tanh"),
)
BINARY = (
    *("add", "and", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "or", "pow"),
    *("rem", "sub", "xor"),
)
ELEMENTWISE = frozenset((*UNARY, *BINARY))
"""Operations on operands of one shape, which stretch dimensions of length 1. Others are mapped by
`jax.vmap`."""
SELECT = "select_n"
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Operations that call a function, with the name of the parameter that has it."""


class Spread(NamedTuple):
    """An array over some axes.

    Attributes:
        array: Values: first a dimension for each axis, then those of one cell.
        axes: Positions of the axes, in rising order.
    """

    array: Any
    axes: tuple[int, ...]


def outer_product(
    function: Callable[..., Any], arguments: Sequence[Any], axes: Sequence[tuple[int, ...]]
) -> Any:
    """Apply a function of one cell to all cells.

    Args:
        function: A function that JAX can trace, from arrays to a pytree of arrays.
        arguments: Arrays: first a dimension for each of their axes, then those of one cell.
        axes: Positions of the axes of each argument, in rising order.

    Returns:
        The results as `Spread`, over the axes along which each varies.
    """
    cell = [
        jax.ShapeDtypeStruct(array.shape[len(own) :], array.dtype)
        for array, own in zip(arguments, axes, strict=True)
    ]
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*cell)
    results = _Outer().evaluate(traced, list(map(Spread, arguments, axes)))
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


class _Outer:
    """One pass over a trace, which remembers the results of operations."""

    def __init__(self) -> None:
        self._known: dict[Any, list[Spread]] = {}
        self._operands: list[Any] = []

    def evaluate(self, closed: ClosedJaxpr, arguments: Sequence[Spread]) -> list[Spread]:
        """Results of a traced function."""
        traced = closed.jaxpr
        values = dict(zip(traced.invars, arguments, strict=True))
        for variable, array in zip(traced.constvars, closed.consts, strict=True):
            values[variable] = Spread(array, ())

        def value_of(operand: Any) -> Spread:
            return Spread(operand.val, ()) if isinstance(operand, Literal) else values[operand]

        for equation in used(traced.eqns, traced.outvars):
            results = self._apply(equation, [value_of(operand) for operand in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [value_of(result) for result in traced.outvars]

    def _apply(self, equation: JaxprEqn, operands: list[Spread]) -> list[Spread]:
        name = equation.primitive.name
        if name in CALLS:
            return self.evaluate(equation.params[CALLS[name]], operands)
        key = name, *equation.params.items(), *map(_identity, operands)
        elementwise = name in ELEMENTWISE or name == SELECT
        apply = self._elementwise if elementwise else _mapped
        return self._once(key, operands, lambda: apply(equation, operands))

    def _once(
        self, key: Any, operands: Sequence[Spread], compute: Callable[[], list[Spread]]
    ) -> list[Spread]:
        """Results of an operation, computed when it is first met."""
        try:
            known = self._known.get(key)
        except TypeError:  # A parameter without a hash.
            return compute()
        if known is None:
            known = self._known[key] = compute()
            # Keys contain identities, which are unique among objects that are alive.
            self._operands.append(operands)
        return known

    def _elementwise(self, equation: JaxprEqn, operands: Sequence[Spread]) -> list[Spread]:
        axes = _together(operands)
        own = max(np.ndim(each.array) - len(each.axes) for each in operands)
        arrays = [self._aligned(each, axes, own) for each in operands]
        if equation.primitive.name == SELECT:
            arrays = _stretched(arrays)
        return [Spread(equation.primitive.bind(*arrays, **equation.params), axes)]

    def _aligned(self, operand: Spread, axes: tuple[int, ...], own: int) -> Any:
        """The array with a dimension for each of `axes` and `own` for those of a cell.

        A scalar that does not vary is left as it is.
        """
        given = np.ndim(operand.array)
        if given == 0 or (operand.axes == axes and given == len(axes) + own):
            return operand.array
        absent = [place for place, axis in enumerate(axes) if axis not in operand.axes]
        added = (*absent, *range(given + len(absent), len(axes) + own))
        key = "expand_dims", added, _identity(operand)
        (aligned,) = self._once(
            key, [operand], lambda: [Spread(lax.expand_dims(operand.array, added), axes)]
        )
        return aligned.array


def used(equations: Sequence[JaxprEqn], results: Sequence[Any]) -> list[JaxprEqn]:
    """Equations of a trace that its results depend on, in order."""
    wanted = {id(variable) for variable in results}
    used = []
    for equation in reversed(equations):
        if any(id(variable) in wanted for variable in equation.outvars):
            used.append(equation)
            wanted |= {id(operand) for operand in equation.invars}
    return used[::-1]


def _identity(operand: Spread) -> Any:
    """A key that two operands share only if they are the same values."""
    if isinstance(operand.array, jax.core.Tracer | jax.Array):
        return id(operand.array)
    array = np.asarray(operand.array)
    return array.dtype, array.shape, array.tobytes(), type(operand.array)


def _together(operands: Sequence[Spread]) -> tuple[int, ...]:
    """Axes along which any of the operands varies."""
    return tuple(sorted({axis for operand in operands for axis in operand.axes}))


def _stretched(arrays: Sequence[Any]) -> list[Any]:
    """Arrays stretched to one shape."""
    shape = np.broadcast_shapes(*map(np.shape, arrays))

    def stretched(array: Any) -> Any:
        given = np.ndim(array)
        if np.shape(array) == shape:
            return array
        return lax.broadcast_in_dim(array, shape, range(len(shape) - given, len(shape)))

    return [stretched(array) for array in arrays]


def _mapped(equation: JaxprEqn, operands: Sequence[Spread]) -> list[Spread]:
    """Results of an operation that is mapped over one axis after another."""
    axes, mapped = _together(operands), operation(equation)
    for axis in reversed(axes):
        mapped = jax.vmap(mapped, [0 if axis in each.axes else None for each in operands])
    found = mapped(*(operand.array for operand in operands))
    several = found if equation.primitive.multiple_results else [found]
    return [Spread(array, axes) for array in several]


def operation(equation: JaxprEqn) -> Callable[..., Any]:
    """The operation of an equation as a function of its operands."""
    primitive, given = equation.primitive, equation.primitive.get_bind_params(equation.params)
    if isinstance(given, tuple):  # Functions apart from the rest, before JAX 0.10.
        functions, rest = given
        return partial(primitive.bind, *functions, **rest)
    return partial(primitive.bind, **given)
