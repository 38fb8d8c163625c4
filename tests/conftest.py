"""Strictness for every test, and two wide sweeps that several files read."""

from collections.abc import Iterator

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from runtime_types import MODULES

install_import_hook(MODULES, "runtime_types.checker")
settings.register_profile("sweep", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("sweep")


@pytest.fixture(autouse=True, scope="session")
def no_folders_of_the_user() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SWEEP_CONFIGS", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def strict_arrays() -> Iterator[None]:
    """No implicit widening of types, no implicit broadcasting over new axes."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def wide64():
    """Every variable over a few shipped models and machines, in float64."""
    from factories import wide_sweep

    return wide_sweep("float64")


@pytest.fixture(scope="session")
def wide32():
    """The same in float32."""
    from factories import wide_sweep

    return wide_sweep("float32")
