"""The kernel's own formulas in NumPy broadcasting, operation by operation.

Code as one would write it without a compiler: each quantity is an array with only the axes it
depends on. JAX lists the primitives of the formulas of one point; here each primitive is a NumPy
function. Common results are computed once, and arrays are freed after their last use.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

Array = np.ndarray[Any, Any]

ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "rem": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "pow": np.power,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
}
REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "reduce_sum": np.sum,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_and": np.all,
    "reduce_or": np.any,
}
NESTED = ("jit", "pjit", "closed_call", "custom_jvp_call")
"""Primitives that call a list of primitives."""


class Program:
    """A function of one point, as a list of NumPy operations on whole axes.

    Attributes:
        steps: Function, slots of its arguments, slot of its result, slots free afterwards.
    """

    def __init__(self, function: Callable[..., Any], *axes: Any) -> None:
        """Trace `function` for arguments like one entry of each of `axes`."""
        one = [jax.tree.map(lambda leaf: leaf[0], axis) for axis in axes]
        closed = jax.make_jaxpr(function)(*one)
        self._values: list[Array | None] = []
        self._seen: dict[Any, int] = {}
        self._dims = len(axes)
        self.steps: list[tuple[Callable[..., Any], list[int], int, list[int]]] = []
        self._inputs = [self._new() for _ in closed.jaxpr.invars]
        consts = [self._constant(value) for value in closed.consts]
        self._outputs = self._spell(closed.jaxpr, consts, self._inputs)
        self._drop_dead()

    def __call__(self, *axes: Any) -> list[Array]:
        """Evaluate the function over the outer product of `axes`, each with a leading dimension."""
        values = list(self._values)
        leaves = [
            np.expand_dims(leaf, [d for d in range(self._dims) if d != own])
            for own, axis in enumerate(axes)
            for leaf in jax.tree.leaves(axis)
        ]
        for slot, leaf in zip(self._inputs, leaves, strict=True):
            values[slot] = leaf
        with np.errstate(all="ignore"):
            for function, arguments, result, free in self.steps:
                values[result] = function(*(values[slot] for slot in arguments))
                for slot in free:
                    values[slot] = None
        return [np.asarray(values[slot]) for slot in self._outputs]

    def _new(self, value: Array | None = None) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _constant(self, value: Any) -> int:
        array = np.asarray(value)
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._seen:
            self._seen[key] = self._new(array.reshape((1,) * self._dims + array.shape))
        return self._seen[key]

    def _spell(self, jaxpr: Any, consts: Sequence[int], arguments: Sequence[int]) -> list[int]:
        """Append the operations of `jaxpr`, and return the slots of its results."""
        slots = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def slot(atom: Any) -> int:
            return self._constant(atom.val) if isinstance(atom, Literal) else slots[atom]

        for equation in jaxpr.eqns:
            given = [slot(atom) for atom in equation.invars]
            if equation.primitive.name in NESTED:
                inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
                inner_consts = [self._constant(value) for value in inner.consts]
                found = self._spell(inner.jaxpr, inner_consts, given)
            else:
                key = equation.primitive.name, str(equation.params), *given
                if key not in self._seen:
                    self._seen[key] = self._new()
                    function = self._numpy(equation)
                    self.steps.append((function, given, self._seen[key], []))
                found = [self._seen[key]]
            slots.update(zip(equation.outvars, found, strict=True))
        return [slot(atom) for atom in jaxpr.outvars]

    def _numpy(self, equation: Any) -> Callable[..., Any]:
        """The NumPy equivalent of one primitive.

        Raises:
            ValueError: The formulas use a primitive that this file has no rule for.
        """
        name, params = equation.primitive.name, equation.params
        if name in ELEMENTWISE:
            return ELEMENTWISE[name]
        if name == "integer_pow":
            return lambda x: x ** params["y"]
        if name == "select_n":
            return lambda which, *cases: (
                np.where(which, cases[1], cases[0]) if len(cases) == 2 else np.choose(which, cases)
            )
        if name in ("convert_element_type", "copy", "stop_gradient"):
            dtype = equation.outvars[0].aval.dtype
            return lambda x: x.astype(dtype, copy=False)
        own = equation.outvars[0].aval.shape
        if name in ("reshape", "squeeze"):
            return lambda x: x.reshape(x.shape[: self._dims] + own)
        if name == "broadcast_in_dim":
            given = equation.invars[0].aval.shape
            sizes = dict(zip(params["broadcast_dimensions"], given, strict=True))
            shape = tuple(sizes.get(dim, 1) for dim in range(len(own)))
            return lambda x: np.broadcast_to(
                x.reshape(x.shape[: self._dims] + shape), x.shape[: self._dims] + own
            )
        if name == "slice":
            cut = tuple(map(slice, params["start_indices"], params["limit_indices"]))
            return lambda x: x[..., *cut]
        if name == "stack":
            axis = self._dims + params["axis"]
            return lambda *parts: np.stack(np.broadcast_arrays(*parts), axis)
        if name in REDUCTIONS:
            axes = tuple(self._dims + axis for axis in params["axes"])
            return lambda x: REDUCTIONS[name](x, axis=axes).astype(equation.outvars[0].aval.dtype)
        if name in ("gather", "dynamic_slice") and own in ((), (1,)):
            return lambda table, index: self._look_up(table, index).reshape(
                np.broadcast_shapes(table.shape[: self._dims], index.shape[: self._dims]) + own
            )
        raise ValueError(
            f"{name}: broadcasting.py has no NumPy function for this primitive; add one"
        )

    def _look_up(self, table: Array, index: Array) -> Array:
        """The entry of each table, a vector, at its own index."""
        lead = np.broadcast_shapes(table.shape[: self._dims], index.shape[: self._dims])
        indices = np.broadcast_to(index.reshape(*index.shape[: self._dims], 1), (*lead, 1))
        return np.take_along_axis(np.broadcast_to(table, (*lead, table.shape[-1])), indices, -1)

    def _drop_dead(self) -> None:
        """Drop unused operations, and free every other array after its last use."""
        needed, kept = set(self._outputs), []
        for function, arguments, result, _ in reversed(self.steps):
            if result in needed:
                last = [slot for slot in dict.fromkeys(arguments) if slot not in needed]
                needed.update(last)
                kept.append((function, arguments, result, last))
        self.steps = kept[::-1]
