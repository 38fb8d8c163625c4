"""Maps a function of one cell over the outer product of axes, in one pass over its operations.

Nested `jax.vmap` handles every operation once for each axis, which takes longer than everything
else before XLA starts to compile. Here the function is traced for one cell, and each operation of
the trace is applied once, to arrays with a dimension for each axis along which their values vary.
Equal operations are applied once, those without use not at all. XLA gets the same operations on the
same shapes as from `jax.vmap`.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from sweep.evaluation.traced_operations import CALLS, operation, used

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
        return self._once(key, operands, lambda: self._way(name)(equation, operands))

    def _way(self, name: str) -> Callable[[JaxprEqn, Sequence[Spread]], list[Spread]]:
        """The function that applies operations of a name."""
        if name in ELEMENTWISE or name == SELECT:
            return self._elementwise
        return LOOPS.get(name, _mapped)

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
        absent = [number for number, axis in enumerate(axes) if axis not in operand.axes]
        added = (*absent, *range(given + len(absent), len(axes) + own))
        key = "expand_dims", added, _identity(operand)
        (aligned,) = self._once(
            key, [operand], lambda: [Spread(lax.expand_dims(operand.array, added), axes)]
        )
        return aligned.array


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


class _Loop:
    """One round of a loop over arrays that vary over several axes.

    What a round hands to the next varies over the axes that anything it is computed from does, and
    has the whole length of each, so that all rounds are alike.
    """

    def __init__(
        self,
        body: ClosedJaxpr,
        fixed: Sequence[Spread],
        first: Sequence[Spread],
        test: Sequence[Spread] = (),
    ) -> None:
        """Find the axes of what is handed on.

        Args:
            body: A round, from what is the same in all of them and what the last one handed on.
            fixed: What is the same.
            first: What the first round is given.
            test: What a condition to go on is given beside that.
        """
        self._body, self._fixed = body, fixed
        self.axes = _of_loop(body, [each.axes for each in fixed], [each.axes for each in first])
        self._sizes = _sizes([*fixed, *first, *test])

    def varies_too(self, axes: tuple[int, ...]) -> None:
        """Have everything vary over these axes too."""
        self.axes = [tuple(sorted({*own, *axes})) for own in self.axes]

    def spread(self, state: Sequence[Any]) -> list[Spread]:
        """Arrays that are handed on, with their axes."""
        return list(map(Spread, state, self.axes))

    def after(self, state: Sequence[Any]) -> list[Any]:
        """Arrays that a round hands on, from those it is given."""
        found = _Outer().evaluate(self._body, [*self._fixed, *self.spread(state)])
        return self.whole(found)

    def whole(self, found: Sequence[Spread]) -> list[Any]:
        """Arrays of what is handed on, stretched to the whole length of its axes."""
        return [self._over(each, axes) for each, axes in zip(found, self.axes, strict=True)]

    def where(self, on: Spread, after: Sequence[Any], before: Sequence[Any]) -> list[Any]:
        """Arrays handed on in the cells that go on, and those of before in the others."""
        chosen = []
        for axes, new, old in zip(self.axes, after, before, strict=True):
            own = (1,) * (np.ndim(new) - len(axes))
            going = self._over(on, axes)
            chosen.append(jnp.where(going.reshape(going.shape + own), new, old))
        return chosen

    def _over(self, found: Spread, axes: tuple[int, ...]) -> Any:
        """An array stretched over axes, before the dimensions of a cell."""
        array = jnp.asarray(found.array)
        cell = array.shape[len(found.axes) :]
        numbers = [axes.index(axis) for axis in found.axes]
        shape = (*(self._sizes[axis] for axis in axes), *cell)
        return lax.broadcast_in_dim(array, shape, [*numbers, *range(len(axes), len(shape))])


def _counted(equation: JaxprEqn, operands: Sequence[Spread]) -> list[Spread]:
    """Results of a loop of a known number of rounds, as `lax.fori_loop` makes them."""
    given = equation.params
    fixed, first = operands[: given["num_consts"]], operands[given["num_consts"] :]
    if not len(first) == given["num_carry"] == len(equation.outvars):
        return _mapped(equation, operands)
    loop = _Loop(given["jaxpr"], fixed, first)
    found, _ = lax.scan(
        lambda state, _: (loop.after(state), None),
        loop.whole(first),
        None,
        length=given["length"],
        reverse=given["reverse"],
        unroll=given["unroll"],
    )
    return loop.spread(found)


def _conditional(equation: JaxprEqn, operands: Sequence[Spread]) -> list[Spread]:
    """Results of a loop that goes on as long as a condition holds, in each cell by itself."""
    given = equation.params
    tests, fixed = given["cond_nconsts"], given["cond_nconsts"] + given["body_nconsts"]
    of_test, first = operands[:tests], operands[fixed:]
    loop = _Loop(given["body_jaxpr"], operands[tests:fixed], first, of_test)

    def goes_on(state: Sequence[Any]) -> Spread:
        return _Outer().evaluate(given["cond_jaxpr"], [*of_test, *loop.spread(state)])[0]

    (varied,) = _axes_of(given["cond_jaxpr"], [*(each.axes for each in of_test), *loop.axes])
    loop.varies_too(varied)

    def body(state: Sequence[Any]) -> list[Any]:
        after = loop.after(state)
        return loop.where(goes_on(state), after, state) if varied else after

    found = lax.while_loop(lambda state: jnp.any(goes_on(state).array), body, loop.whole(first))
    return loop.spread(found)


LOOPS = {"scan": _counted, "while": _conditional}


def _sizes(operands: Sequence[Spread]) -> dict[int, int]:
    """Lengths of the axes of some arrays."""
    return {
        axis: length
        for each in operands
        for axis, length in zip(each.axes, np.shape(each.array), strict=False)
    }


def _of_loop(
    body: ClosedJaxpr, fixed: Sequence[tuple[int, ...]], first: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Axes along which what a loop hands from round to round varies, from those at its start."""
    now = list(first)
    while True:
        found = _axes_of(body, [*fixed, *now])
        further = [tuple(sorted({*old, *new})) for old, new in zip(now, found, strict=True)]
        if further == now:
            return now
        now = further


def _axes_of(closed: ClosedJaxpr, arguments: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Axes along which results of a traced function vary, from those of its arguments."""
    traced = closed.jaxpr
    axes = dict(zip(traced.invars, arguments, strict=True))

    def of(operand: Any) -> tuple[int, ...]:
        return () if isinstance(operand, Literal) else axes.get(operand, ())

    for equation in traced.eqns:
        given, name = [of(operand) for operand in equation.invars], equation.primitive.name
        if name in CALLS:
            results = _axes_of(equation.params[CALLS[name]], given)
        else:
            results = [tuple(sorted({*chain(*given)}))] * len(equation.outvars)
        axes.update(zip(equation.outvars, results, strict=True))
    return [of(result) for result in traced.outvars]
