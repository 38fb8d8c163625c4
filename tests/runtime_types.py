"""The type checker that the kernel's modules run under in tests; `conftest.py` installs it."""

from beartype import BeartypeConf, beartype

MODULES = ("sweep.schema", "sweep.kernel", "sweep.models")
"""Hooked packages; beartype cannot check the `np.ndarray[Any, Any]` that the others write."""

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int counts as a float, as PEP 484 has it: a specification keeps sizes as integers."""
