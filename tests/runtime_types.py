"""The type checker that the kernel's modules run under in tests; `conftest.py` installs it."""

import dataclasses
import sys
from collections.abc import Callable
from functools import wraps
from inspect import get_annotations, isclass
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

MODULES = ("sweep.schema", "sweep.kernel", "sweep.models")
"""Hooked packages; beartype cannot check the `np.ndarray[Any, Any]` that the others write."""
CHECKED_IN = {
    *("diffusion", "disaggregated", "every_field", "factors", "global_roofline", "lengths"),
    *("load", "memory", "model_configs", "operators", "operators_in_models", "parameters"),
    *("quantisation", "sparse_attention", "speculation", "state_layers", "swept_loads"),
    *("uneven_layers", "unreadable_configs"),
}
"""Files of tests that together call every function of these packages that any test calls, with the
types, shapes and kinds of numbers that all but a few tests use. Kernels are traced faster without a
check of each call."""

_check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
"""An int counts as a float, as PEP 484 has it: a specification keeps sizes as integers."""
_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Check every function and dataclass of the hooked packages from their import on.

    The hook of jaxtyping decorates them with `jaxtyping.jaxtyped`. That compares named sizes among
    the arguments and the result of a call, and takes ten times as long as a check of types. Here
    only functions that name sizes go through it.
    """
    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(MODULES, "runtime_types.checker")


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the types of a function."""
    return _check(function)


def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that checks a function or the fields of a dataclass."""

    def decorated(checked: Any) -> Any:
        if not isclass(checked):
            if any(map(_names_sizes, get_annotations(checked).values())):
                return _jaxtyped(checked, typechecker=typechecker)
            return _switched(checked)
        fields = dataclasses.fields(checked) if dataclasses.is_dataclass(checked) else ()
        if fields and "__init__" in vars(checked):
            make = checked.__init__
            if any(_names_sizes(field.type) for field in fields):
                made = _jaxtyped(make, typechecker=typechecker)
            else:
                made = _switched(make)
            checked.__init__ = _unless_rebuilt(make, made)
        return checked

    return decorated


def _names_sizes(hint: Any) -> bool:
    """Whether an annotation, or one inside it, is an array whose sizes have names."""
    return bool(getattr(hint, "dim_str", "")) or any(map(_names_sizes, get_args(hint)))


def _unless_rebuilt(make: Callable[..., Any], checked: Callable[..., Any]) -> Callable[..., Any]:
    """A constructor that checks types, except where JAX rebuilds a pytree from any leaves."""

    @wraps(make)
    def made(*arguments: Any, **named: Any) -> None:
        by_jax = sys._getframe(1).f_globals.get("__name__", "").startswith("jax.")
        (make if by_jax else checked)(*arguments, **named)

    return made


def _switched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose types are checked while jaxtyping checks."""
    if "<locals>" in function.__qualname__:  # decorated again by each call around it
        return function
    checked = _check(function)

    @wraps(function)
    def either(*arguments: Any, **named: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*arguments, **named)
        return checked(*arguments, **named)

    return either
