"""A large function that XLA compiles part by part.

XLA recomputes what several results need for each of them where that saves memory traffic: of
7,000 operations of a server at a rate it makes 40,000, which take long to compile. It does so
within a part only.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from sweep.evaluation.traced_operations import operation, used

PART = 200
"""Most operations of a part, of which it has half at least: of 120 to 400, those that compute and
compile in the shortest time. [count]"""


def in_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, divided into parts where it is compiled.

    Args:
        function: A function that JAX can trace, from pytrees of arrays to a pytree of arrays.
    """

    def divided(*arguments: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluated(traced, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return divided


def _evaluated(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Results of a traced function, part by part."""
    traced = closed.jaxpr
    values = dict(zip(traced.invars, arguments, strict=True))
    values.update(zip(traced.constvars, closed.consts, strict=True))
    equations = used(traced.eqns, traced.outvars)
    for start, end in pairwise(_cuts(equations, traced.outvars)):
        part, rest = equations[start:end], equations[end:]
        later = {*_read(rest), *(each for each in traced.outvars if not isinstance(each, Literal))}
        made = {each: None for equation in part for each in equation.outvars}
        results = [each for each in made if each in later]
        given = [each for each in _read(part) if each not in made]
        with set_xla_metadata(inlineable="false"):
            found = _part(part, given, results)([values[each] for each in given])
        values.update(zip(results, found, strict=True))
    return [each.val if isinstance(each, Literal) else values[each] for each in traced.outvars]


def _cuts(equations: Sequence[JaxprEqn], results: Sequence[Any]) -> list[int]:
    """Indices at which parts begin, and the end: where the fewest numbers are handed on."""
    made: dict[Any, int] = {
        each: index for index, equation in enumerate(equations) for each in equation.outvars
    }
    last: dict[Any, int] = {
        each: index for index, equation in enumerate(equations) for each in _read([equation])
    }
    last |= {each: len(equations) for each in results if not isinstance(each, Literal)}
    handed = np.zeros(len(equations) + 2, int)
    for each, index in made.items():
        handed[index + 1] += each.aval.size
        handed[last.get(each, index) + 1] -= each.aval.size
    handed = np.cumsum(handed)
    cuts = [0]
    while len(equations) - cuts[-1] > PART:
        first = cuts[-1] + PART // 2
        cuts.append(first + int(np.argmin(handed[first : cuts[-1] + PART + 1])))
    return [*cuts, len(equations)]


def _read(equations: Sequence[JaxprEqn]) -> dict[Any, None]:
    """Variables that equations read, in order."""
    return {
        each: None
        for equation in equations
        for each in equation.invars
        if not isinstance(each, Literal)
    }


def _part(
    equations: Sequence[JaxprEqn], given: Sequence[Any], results: Sequence[Any]
) -> Callable[[Sequence[Any]], list[Any]]:
    """Equations as a function from the values of some variables to those of others."""

    def apply(arrays: Sequence[Any]) -> list[Any]:
        values = dict(zip(given, arrays, strict=True))
        for equation in equations:
            operands = [
                each.val if isinstance(each, Literal) else values[each] for each in equation.invars
            ]
            values.update(zip(equation.outvars, _applied(equation, operands), strict=True))
        return [values[each] for each in results]

    return jax.jit(apply)


def _applied(equation: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    """Results of one operation; the body of a long loop is divided too."""
    given = equation.params
    if equation.primitive.name == "scan" and len(given["jaxpr"].eqns) > PART:
        return _loop(equation, operands)
    found = operation(equation)(*operands)
    return found if equation.primitive.multiple_results else [found]


def _loop(equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    given = equation.params
    first, each = given["num_consts"], given["num_consts"] + given["num_carry"]

    def body(state: list[Any], elements: list[Any]) -> tuple[list[Any], list[Any]]:
        found = _evaluated(given["jaxpr"], [*operands[:first], *state, *elements])
        return found[: given["num_carry"]], found[given["num_carry"] :]

    state, stacked = lax.scan(
        body,
        list(operands[first:each]),
        list(operands[each:]),
        length=given["length"],
        reverse=given["reverse"],
        unroll=given["unroll"],
    )
    return [*state, *stacked]
