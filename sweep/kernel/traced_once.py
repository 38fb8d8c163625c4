"""Parts of the kernel that are traced once, in however many programs they occur."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Fixed:
    """A number of Python, which may decide what is computed at all: part of the structure."""

    number: float
    type: type


def traced_once(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, with one trace for all arguments of one structure.

    JAX takes as long to trace a formula the tenth time as the first. Numbers of Python stay what
    they are in arguments and results; without tracers among the arguments nothing is traced.

    Args:
        function: A function of pytrees to a pytree, without side effects.
    """

    @jax.jit
    def traced(arguments: Any) -> Any:
        given, named = _released(arguments)
        return _fixed(function(*given, **named))

    @wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        leaves = jax.tree.leaves((arguments, named))
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*arguments, **named)
        found: R = _released(traced(_fixed((arguments, named))))
        return found

    return called


def _fixed(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: _Fixed(leaf, type(leaf)) if isinstance(leaf, int | float) else leaf, tree
    )


def _released(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.number if isinstance(leaf, _Fixed) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, _Fixed),
    )
