"""Evaluates a function of one cell with NumPy: for one cell, compiling takes longer than computing.

JAX traces the function and differentiates it where asked. Each operation of the trace is then
computed by NumPy; the few that it has no counterpart for here are computed by JAX.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from sweep.evaluation.outer_product import CALLS, operation, used

Array = np.ndarray[Any, Any]
Rule = Callable[..., Any]

RULES: dict[str, Rule] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "ceil": np.ceil,
    "copy": np.copy,
    "eq": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
}
"""Functions of NumPy without parameters, by the name of the operation."""


class Traced:
    """A function that JAX has traced for arguments of one structure, computed by NumPy.

    Results differ from compiled ones by rounding errors.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Trace the function.

        Args:
            function: From pytrees of arrays to a pytree of arrays.
            arguments: Arguments of the structure, shapes and types of those of later calls;
                inside `jax.enable_x64`, float64 stays float64.
        """
        self._trace, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self._structure = jax.tree.structure(shapes)

    def __call__(self, *arguments: Any) -> Any:
        """Compute the results of the function, as arrays of NumPy."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(arguments)]
        with np.errstate(all="ignore"):
            results = _evaluate(self._trace, leaves)
        return jax.tree.unflatten(self._structure, results)


def computed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compute a function that JAX can trace, for one set of arguments."""
    return Traced(function, *arguments)(*arguments)


def _evaluate(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Array]:
    """Results of a traced function."""
    traced = closed.jaxpr
    inputs = [*map(np.asarray, closed.consts), *arguments]
    values = dict(zip([*traced.constvars, *traced.invars], inputs, strict=True))

    def value_of(operand: Any) -> Any:
        return _constant(operand) if isinstance(operand, Literal) else values[operand]

    for equation in used(traced.eqns, traced.outvars):
        results = _apply(equation, [value_of(operand) for operand in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [np.asarray(value_of(result)) for result in traced.outvars]


def _constant(literal: Any) -> Array:
    return np.asarray(literal.val, literal.aval.dtype)


def _apply(equation: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS:
        return _evaluate(parameters[CALLS[name]], operands)
    if name in LOOPS:
        return list(LOOPS[name](operands, parameters))
    if name in RULES:
        return [RULES[name](*operands)]
    if name in SHAPED:
        found = SHAPED[name](operands, parameters)
        if found is not None:
            return list(found) if equation.primitive.multiple_results else [found]
    by_jax = operation(equation)(*operands)
    several = by_jax if equation.primitive.multiple_results else [by_jax]
    return [np.asarray(each) for each in several]


def _divide(operands: Sequence[Any], _: Any) -> Any:
    floats = operands[0].dtype.kind == "f"
    return np.divide(*operands) if floats else None


def _power(operands: Sequence[Any], _: Any) -> Any:
    floats = all(each.dtype.kind == "f" for each in operands)
    return np.power(*operands) if floats else None


def _integer_power(operands: Sequence[Any], parameters: Any) -> Any:
    (base,), exponent = operands, parameters["y"]
    product = np.ones_like(base)
    for _ in range(abs(exponent)):
        product = product * base
    return 1 / product if exponent < 0 else product


def _convert(operands: Sequence[Any], parameters: Any) -> Any:
    """NumPy does not say which integer an infinity or NaN becomes, so JAX converts floats."""
    (value,), dtype = operands, parameters["new_dtype"]
    if value.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
        return None
    return value.astype(dtype)


def _select(operands: Sequence[Any], _: Any) -> Any:
    which, *cases = operands
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else np.choose(which, cases)


def _broadcast(operands: Sequence[Any], parameters: Any) -> Any:
    (value, *_), shape = operands, parameters["shape"]
    lengths = [1] * len(shape)
    for own, place in enumerate(parameters["broadcast_dimensions"]):
        lengths[place] = np.shape(value)[own]
    return np.broadcast_to(np.reshape(value, lengths), shape)


def _slice(operands: Sequence[Any], parameters: Any) -> Any:
    starts, limits = parameters["start_indices"], parameters["limit_indices"]
    strides = parameters["strides"] or [1] * len(starts)
    return operands[0][tuple(map(slice, starts, limits, strides))]


def _dynamic_slice(operands: Sequence[Any], parameters: Any) -> Any:
    value, *starts = operands
    sizes = parameters["slice_sizes"]
    clamped = [
        min(max(int(start), 0), length - size)
        for start, length, size in zip(starts, value.shape, sizes, strict=True)
    ]
    return value[tuple(slice(at, at + size) for at, size in zip(clamped, sizes, strict=True))]


def _while(operands: Sequence[Any], parameters: Any) -> Sequence[Any]:
    first, second = parameters["cond_nconsts"], parameters["body_nconsts"]
    in_test, in_body = operands[:first], operands[first : first + second]
    carried: Sequence[Any] = operands[first + second :]
    while _evaluate(parameters["cond_jaxpr"], [*in_test, *carried])[0]:
        carried = _evaluate(parameters["body_jaxpr"], [*in_body, *carried])
    return carried


def _scan(operands: Sequence[Any], parameters: Any) -> Sequence[Any]:
    fixed, count, length = (parameters[key] for key in ("num_consts", "num_carry", "length"))
    constants, carried, inputs = (
        operands[:fixed],
        operands[fixed : fixed + count],
        operands[fixed + count :],
    )
    places = range(length)[::-1] if parameters["reverse"] else range(length)
    collected = []
    for place in places:
        found = _evaluate(
            parameters["jaxpr"], [*constants, *carried, *(each[place] for each in inputs)]
        )
        carried = found[:count]
        collected.append(found[count:])
    if parameters["reverse"]:
        collected.reverse()
    return [*carried, *map(np.stack, zip(*collected, strict=True))]


LOOPS: dict[str, Rule] = {"while": _while, "scan": _scan}


def _reduced(function: Callable[..., Any]) -> Rule:
    return lambda operands, parameters: function(operands[0], axis=tuple(parameters["axes"]))


SHAPED: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda operands, p: np.concatenate(operands, axis=p["dimension"]),
    "convert_element_type": _convert,
    "div": _divide,
    "dynamic_slice": _dynamic_slice,
    "integer_pow": _integer_power,
    "pow": _power,
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_or": _reduced(np.bitwise_or.reduce),
    "reduce_sum": _reduced(np.sum),
    "reshape": lambda operands, p: np.reshape(operands[0], p["new_sizes"]),
    "select_n": _select,
    "slice": _slice,
    "stack": lambda operands, p: np.stack(operands, axis=p["axis"]),
    "split": lambda operands, p: np.split(operands[0], np.cumsum(p["sizes"])[:-1], p["axis"]),
    "squeeze": lambda operands, p: np.squeeze(operands[0], axis=tuple(p["dimensions"])),
    "transpose": lambda operands, p: np.transpose(operands[0], p["permutation"]),
}
"""Functions of operands and parameters; `None` where JAX has to compute."""
