"""The type checker that the kernel's modules run under in tests; `conftest.py` installs it."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

MODULES = ("sweep.schema", "sweep.kernel", "sweep.models")
"""Hooked packages; beartype cannot check the `np.ndarray[Any, Any]` that the others write."""
CHECKED_IN = {
    *("at_load", "diffusion", "disaggregated", "every_field", "factors", "laws", "layouts"),
    *("lengths", "load", "memory", "model_configs", "operators", "outer_product", "parameters"),
    *("prefix", "quantisation", "roofline", "server", "sparse_attention", "speculation"),
    *("staggered", "state_layers", "uneven_layers"),
}
"""Files of tests that call these packages for every structure, variable and load. Other tests call
them in the same ways, and kernels are traced faster without a check of each call."""

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int counts as a float, as PEP 484 has it: a specification keeps sizes as integers."""


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the types of a function, unless another one defines it each time that it is called."""
    return function if "<locals>" in function.__qualname__ else _check(function)
