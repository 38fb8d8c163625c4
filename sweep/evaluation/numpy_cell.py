"""Evaluates a function of one cell with NumPy: for one cell, compiling takes longer than computing.

JAX traces the function and differentiates it where asked. The trace becomes a program of plain
data, which NumPy runs; the few operations that it has no counterpart for are computed by JAX.
Programs can be kept in files, since tracing takes longer than everything else.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, primitives

from sweep.evaluation.function_store import file_of, read_stored, write_stored
from sweep.evaluation.numpy_operations import RULES, SHAPED, Array
from sweep.evaluation.plain_data import from_json, to_json
from sweep.evaluation.traced_operations import CALLS, operation, used

LOOPS = {"while": ("cond_jaxpr", "body_jaxpr"), "scan": ("jaxpr",)}
"""Operations that repeat functions, with the parameters that have them."""

_met: dict[str, Any] = {}
"""Operations of JAX by name that traces of this process contain and NumPy lacks."""


class Step(NamedTuple):
    """One operation of a program.

    Attributes:
        name: Name of the operation.
        operands: Values that it reads, by their index in the program.
        parameters: Its other parameters; programs in index of functions.
    """

    name: str
    operands: tuple[int, ...]
    parameters: dict[str, Any]


class Program(NamedTuple):
    """A traced function. Its values are arguments, constants and results of steps, in this order.

    Attributes:
        arguments: Number of arguments. [count]
        constants: Values that do not depend on them.
        steps: Operations in the order they run.
        results: Indices of the results among the values.
    """

    arguments: int
    constants: tuple[Array, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """Compute the results."""
        values = [*arguments, *self.constants]
        for step in self.steps:
            values += _applied(step, [values[index] for index in step.operands])
        return [values[index] for index in self.results]


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
        trace, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self.program = _program(trace)
        self.indices = jax.tree.unflatten(
            jax.tree.structure(shapes), range(len(self.program.results))
        )

    def __call__(self, *arguments: Any) -> Any:
        """Compute the results of the function, as arrays of NumPy."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(arguments)]
        with np.errstate(all="ignore"):
            results = self.program.run(leaves)
        return jax.tree.map(lambda index: np.asarray(results[index]), self.indices)


def computed(function: Callable[..., Any], *arguments: Any, name: str | None = None) -> Any:
    """Compute a function that JAX can trace, for one set of arguments.

    Args:
        function: From pytrees of arrays to a pytree of arrays.
        arguments: Its arguments.
        name: Everything that determines the function beside the code of this package. If it is
            given, its program is kept in a file where this process keeps functions.
    """
    path = None if name is None else file_of(f"trace {name}", arguments)
    traced = None if path is None else _load(path)
    if traced is None:
        traced = Traced(function, *arguments)
        if path is not None:
            _save(traced, path)
    return traced(*arguments)


def _load(path: Any) -> Traced | None:
    """A program from a file; none if there is none, or it is damaged."""
    stored = read_stored(path)
    if stored is None:
        return None
    try:
        program, indices = from_json(stored)
        found = object.__new__(Traced)
        found.program, found.indices = _program_of(program), indices
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return found


def _save(traced: Traced, path: Any) -> None:
    """Keep a program, unless an operation of it cannot be written."""
    if all(_is_known(step) for step in traced.program.steps):
        write_stored(path, lambda: to_json((traced.program, traced.indices)).encode())


def _program_of(parts: Sequence[Any]) -> Program:
    """The program of its parts as plain tuples."""
    arguments, constants, steps, results = parts
    return Program(arguments, constants, tuple(map(_step_of, steps)), results)


def _step_of(parts: Sequence[Any]) -> Step:
    name, operands, parameters = parts
    inside = {part: _program_of(parameters[part]) for part in LOOPS.get(name, ())}
    return Step(name, operands, parameters | inside)


def _is_known(step: Step) -> bool:
    """Whether another process finds the operation by its name."""
    if step.name in LOOPS:
        inside = [each for part in LOOPS[step.name] for each in step.parameters[part].steps]
        return all(map(_is_known, inside))
    known = step.name in RULES or step.name in SHAPED
    return known or _met.get(step.name) is getattr(primitives, f"{step.name}_p", 0)


# From a trace to a program.


def _program(closed: ClosedJaxpr) -> Program:
    arguments = range(len(closed.jaxpr.invars))
    made = _Program(len(arguments))
    return made.ended(made.inlined(closed, list(arguments)))


class _Program:
    """A program while it is made: equal operations run once, those of constants not at all."""

    def __init__(self, arguments: int) -> None:
        self._arguments = arguments
        self._constants: list[Array] = []
        self._steps: list[Step] = []
        self._values = arguments
        self._known: dict[Any, list[int]] = {}

    def inlined(self, closed: ClosedJaxpr, arguments: Sequence[int]) -> list[int]:
        """Add the operations of a trace; indices of its results, below 0 for constants."""
        traced = closed.jaxpr
        constants = [self._constant(np.asarray(each)) for each in closed.consts]
        given = [*traced.constvars, *traced.invars]
        indices: dict[Any, int] = dict(zip(given, [*constants, *arguments], strict=True))

        def index_of(operand: Any) -> int:
            if isinstance(operand, Literal):
                value: Any = operand
                return self._constant(np.asarray(value.val, value.aval.dtype))
            return indices[operand]

        for equation in used(traced.eqns, traced.outvars):
            found = self._added(equation, tuple(map(index_of, equation.invars)))
            indices.update(zip(equation.outvars, found, strict=True))
        return list(map(index_of, traced.outvars))

    def ended(self, results: Sequence[int]) -> Program:
        """The program, whose constants come after the arguments."""

        def final(index: int) -> int:
            if index < 0:
                return self._arguments + ~index
            return index if index < self._arguments else index + len(self._constants)

        steps = [step._replace(operands=tuple(map(final, step.operands))) for step in self._steps]
        return Program(
            self._arguments, tuple(self._constants), tuple(steps), tuple(map(final, results))
        )

    def _constant(self, value: Array) -> int:
        key = "constant", value.dtype, value.shape, value.tobytes()
        if key not in self._known:
            self._constants.append(value)
            self._known[key] = [~(len(self._constants) - 1)]
        return self._known[key][0]

    def _added(self, equation: JaxprEqn, operands: tuple[int, ...]) -> list[int]:
        name, parameters = equation.primitive.name, dict(equation.params)
        if name in CALLS:
            return self.inlined(parameters[CALLS[name]], operands)
        if name in LOOPS:
            parameters |= {part: _program(parameters[part]) for part in LOOPS[name]}
        elif name not in RULES and name not in SHAPED:
            _met[name] = equation.primitive
        step = Step(name, operands, parameters)
        if name in LOOPS:
            return self._results_of(step, equation)
        try:
            key = step.name, step.operands, *sorted(parameters.items())
            known = self._known.get(key)
        except TypeError:  # A parameter without a hash or an order.
            return self._results_of(step, equation)
        if known is None:
            known = self._known[key] = self._folded(step) or self._results_of(step, equation)
        return known

    def _folded(self, step: Step) -> list[int]:
        """Results of an operation on constants; none if an operand varies, or JAX computes it."""
        if any(index >= 0 for index in step.operands):
            return []
        with np.errstate(all="ignore"):
            found = _by_numpy(step, [self._constants[~index] for index in step.operands])
        return [] if found is None else [self._constant(np.asarray(each)) for each in found]

    def _results_of(self, step: Step, equation: JaxprEqn) -> list[int]:
        self._steps.append(step)
        first, self._values = self._values, self._values + len(equation.outvars)
        return list(range(first, self._values))


# Operations.


def _applied(step: Step, operands: Sequence[Any]) -> Sequence[Any]:
    if step.name == "while":
        return _while(operands, step.parameters)
    if step.name == "scan":
        return _scan(operands, step.parameters)
    found = _by_numpy(step, operands)
    return _by_jax(step, operands) if found is None else found


def _by_numpy(step: Step, operands: Sequence[Any]) -> Sequence[Any] | None:
    rule = RULES.get(step.name)
    if rule is not None:
        return [rule(*operands)]
    if step.name not in SHAPED:
        return None
    found = SHAPED[step.name](operands, step.parameters)
    return found if isinstance(found, list | None) else [found]


class _Equation(NamedTuple):
    primitive: Any
    params: dict[str, Any]


def _by_jax(step: Step, operands: Sequence[Any]) -> Sequence[Any]:
    primitive = _met.get(step.name) or getattr(primitives, f"{step.name}_p")
    equation: Any = _Equation(primitive, step.parameters)
    found = operation(equation)(*operands)
    several = found if primitive.multiple_results else [found]
    return [np.asarray(each) for each in several]


def _while(operands: Sequence[Any], parameters: Any) -> Sequence[Any]:
    first, second = parameters["cond_nconsts"], parameters["body_nconsts"]
    in_test, in_body = operands[:first], operands[first : first + second]
    carried: Sequence[Any] = operands[first + second :]
    goes_on = np.asarray(parameters["cond_jaxpr"].run([*in_test, *carried])[0])
    while goes_on.any():
        found = parameters["body_jaxpr"].run([*in_body, *carried])
        # Of loops side by side, those that have ended keep their values.
        carried = [_chosen(goes_on, *each) for each in zip(found, carried, strict=True)]
        goes_on = np.asarray(parameters["cond_jaxpr"].run([*in_test, *carried])[0])
    return carried


def _chosen(flags: Array, new: Array, old: Array) -> Array:
    """New values where a flag of their first axes is set, and old ones elsewhere."""
    if not flags.ndim:
        return new
    return np.where(flags.reshape(flags.shape + (1,) * (np.ndim(new) - flags.ndim)), new, old)


def _scan(operands: Sequence[Any], parameters: Any) -> Sequence[Any]:
    fixed, count, length = (parameters[key] for key in ("num_consts", "num_carry", "length"))
    constants, carried, inputs = (
        operands[:fixed],
        operands[fixed : fixed + count],
        operands[fixed + count :],
    )
    indices = range(length)[::-1] if parameters["reverse"] else range(length)
    collected = []
    for index in indices:
        found = parameters["jaxpr"].run([*constants, *carried, *(each[index] for each in inputs)])
        carried = found[:count]
        collected.append(found[count:])
    if parameters["reverse"]:
        collected.reverse()
    return [*carried, *map(np.stack, zip(*collected, strict=True))]
