"""Packages that only some formats need."""

from importlib import import_module
from types import ModuleType

from sweep.errors import ResultError


def needed(package: str, extra: str) -> ModuleType:
    """Import a package of an optional extra.

    Raises:
        ResultError: The package is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise ResultError(
            f"this needs {package.partition('.')[0]}: pip install 'llm-sweep[{extra}]'"
        ) from None
