"""Operations of functions that JAX has traced."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jax.extend.core import JaxprEqn

CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Operations that call a function, with the name of the parameter that has it."""


def used(equations: Sequence[JaxprEqn], results: Sequence[Any]) -> list[JaxprEqn]:
    """Equations of a trace that its results depend on, in order."""
    wanted = {id(variable) for variable in results}
    used = []
    for equation in reversed(equations):
        if any(id(variable) in wanted for variable in equation.outvars):
            used.append(equation)
            wanted |= {id(operand) for operand in equation.invars}
    return used[::-1]


def operation(equation: JaxprEqn) -> Callable[..., Any]:
    """The operation of an equation as a function of its operands."""
    primitive, given = equation.primitive, equation.primitive.get_bind_params(equation.params)
    if isinstance(given, tuple):  # Functions apart from the rest, before JAX 0.10.
        functions, rest = given
        return partial(primitive.bind, *functions, **rest)
    return partial(primitive.bind, **given)
