"""The type checker that the kernel's modules run under in tests; `conftest.py` installs it."""

from beartype import BeartypeConf, beartype

MODULES = tuple(
    f"sweep.{name}"
    for name in (
        "architecture",
        "efficiency",
        "bindings",
        "facts",
        "families",
        "global_roofline",
        "judged",
        "memory",
        "operators",
        "params",
        "phases",
        "request",
        "roofline",
        "sensitivity",
        "server",
        "transformer",
        "variables",
    )
)
"""Hooked modules; `np.ndarray[Any, Any]`, which the others write, is beyond beartype."""

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int counts as a float, as PEP 484 has it: a specification keeps sizes as integers."""
