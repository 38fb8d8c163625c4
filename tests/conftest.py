"""Strictness for every test, and two wide sweeps that several files read."""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
import xarray as xr
from filelock import FileLock
from hypothesis import settings
from jaxtyping import install_import_hook
from runtime_types import MODULES

Call = Callable[..., tuple[int, str, str]]
"""Runs the command: exit status, standard output and error."""

COMPILED_FAST = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
"""Flags with which XLA compiles kernels that run a few times: it takes half the time."""
os.environ.setdefault("XLA_FLAGS", COMPILED_FAST)

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


@pytest.fixture
def call(monkeypatch, capsys) -> Call:
    """Run `llm-sweep` in this process; returns exit status, standard output and error."""
    from sweep.cli import main as cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llm-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


LONG_TO_COMPILE = {
    *("wide64", "wide32", "mesh", "deployments", "swept"),
    *("served", "served_page", "article_page", "hostile_page", "browser"),
}
"""Fixtures of sweeps and pages that take long to compile."""


LONGEST_FILES = ("laws", "scale", "pages", "report", "calibration", "cli", "shards", "evaluation")
"""Files that take longest; they start first, so that both workers end together."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of slow fixtures and of campaigns as slow, and start the longest files first."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if LONG_TO_COMPILE & fixtures or item.get_closest_marker("campaign"):
            item.add_marker(pytest.mark.slow)
    first = {f"test_{name}": place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


@pytest.fixture(scope="session")
def wide64(tmp_path_factory, worker_id: str) -> xr.Dataset:
    """Every variable over a few shipped models and machines, in float64."""
    return computed_once("float64", tmp_path_factory.getbasetemp(), worker_id)


@pytest.fixture(scope="session")
def wide32(tmp_path_factory, worker_id: str) -> xr.Dataset:
    """The same in float32."""
    return computed_once("float32", tmp_path_factory.getbasetemp(), worker_id)


def computed_once(dtype: str, folder: Path, worker_id: str) -> xr.Dataset:
    """A wide sweep, compiled by the first worker of a test run that needs it."""
    from factories import wide_sweep

    shared = (folder if worker_id == "master" else folder.parent) / f"wide-{dtype}.pickle"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            shared.write_bytes(pickle.dumps(wide_sweep(dtype)))
    found: xr.Dataset = pickle.loads(shared.read_bytes())
    return found
