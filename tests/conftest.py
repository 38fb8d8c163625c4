"""Strictness for every test, and results that several files read."""

import atexit
import ctypes
import gc
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    import xarray as xr

Call = Callable[..., tuple[int, str, str]]
"""Runs the command: exit status, standard output and error."""
Once = Callable[[str, Callable[[Path], object]], Path]
"""Makes a file or folder of some name; its path."""

COMPILED_FAST = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 "
    "--xla_cpu_parallel_codegen_split_count=1"
)
"""Flags with which XLA compiles kernels that run a few times: it takes half the time."""
os.environ.setdefault("XLA_FLAGS", COMPILED_FAST)
SELDOM = 200_000, 20, 50
"""Thresholds of the garbage collector: traces of JAX are millions of objects that live on."""


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a process that runs tests; the one that only hands them out loads nothing heavy.

    All processes of a run, commands too, share compiled kernels in a folder of the run.
    """
    if not hasattr(config, "workerinput"):
        kernels = TemporaryDirectory(prefix="llm-sweep-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(kernels.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = kernels.name
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        if config.getoption("numprocesses", None):
            return
    import runtime_types
    from hypothesis import settings

    # Processes of pytest-xdist have one, and a command in a pipe then breaks its lines.
    os.environ.pop("COLUMNS", None)
    gc.freeze()
    gc.set_threshold(*SELDOM)
    atexit.register(gc.freeze)
    runtime_types.install()
    settings.register_profile("sweep", deadline=None, derandomize=True, max_examples=25)
    settings.load_profile("sweep")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the types of arguments and results in tests of the modules that are checked.

    Other tests keep compiled kernels where commands do, so that each is traced once in a run.
    """
    import jaxtyping
    from runtime_types import CHECKED_IN

    from sweep.evaluation import function_store

    checks = item.path.stem.removeprefix("test_") in CHECKED_IN
    jaxtyping.config.jaxtyping_disable = not checks
    kernels = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / function_store.FOLDER
    function_store._folders[:] = [] if checks else [kernels]


@pytest.fixture(autouse=True, scope="session")
def no_folders_of_the_user() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SWEEP_CONFIGS", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def strict_arrays() -> Iterator[None]:
    """No implicit widening of types, no implicit broadcasting over new axes."""
    import jax

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


LARGE_WORKER = 3e9
"""Memory of a process from which on it lets go of compiled functions after a file. [byte]

Compiling them again takes seconds, so that a run of the quick tests stays below it.
"""
GROWTH = 1.5
"""Memory relative to what was left the last time from which on it does so again. [1]"""
MANY_MAPPINGS = 30_000
"""Mapped pieces of memory from which on it does so too: as `COMPILED_FAST` has them made, kernels
have thousands of pieces, and Linux ends a process that maps more than 65,530. [count]"""


def mapped_pieces() -> int:
    """Mapped pieces of memory of this process, 0 where there is no way to know. [count]"""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(scope="session")
def left_after_freeing() -> list[float]:
    """Memory of this process each time it had freed compiled functions. [byte]"""
    return []


@pytest.fixture(autouse=True, scope="module")
def limited_memory(left_after_freeing: list[float]) -> Iterator[None]:
    """Free compiled functions after a file; a worker would grow to several gigabytes."""
    yield
    import jax
    import psutil

    process, left = psutil.Process(), left_after_freeing[-1:]
    most = max(LARGE_WORKER, *(GROWTH * each for each in left), 0)
    if process.memory_info().rss > most or mapped_pieces() > MANY_MAPPINGS:
        jax.clear_caches()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
        if trim is not None:  # glibc keeps what was freed in small pieces
            trim(0)
        left_after_freeing.append(process.memory_info().rss)


LONG_TO_COMPILE = {
    *("wide64", "wide32", "mesh", "deployments", "swept"),
    *("served", "served_page", "article_page", "hostile_page", "browser"),
}
"""Fixtures of sweeps and pages that take long to compile."""


LONGEST_FILES = (
    *(
        "pages",
        "arrivals",
        "open_loop",
        "load",
        "laws",
        "calibration",
        "scale",
        "report",
    ),
    *("judgement", "interrupted_runs", "report_in_browser", "cli", "evaluation", "recommendation"),
    *("at_load", "explanation", "shards", "wide_grids"),
)
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
def once(tmp_path_factory, worker_id: str) -> Once:
    """Make a file or folder that both workers read, in the first worker that needs it."""
    own = tmp_path_factory.getbasetemp()
    folder = own if worker_id == "master" else own.parent

    def path_of(name: str, make: Callable[[Path], object]) -> Path:
        path = folder / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                make(path)
        return path

    return path_of


@pytest.fixture(scope="session")
def wide64(once: Once) -> "xr.Dataset":
    """Every variable over a few shipped models and machines, in float64."""
    from factories import wide_sweep

    return pickled(once, "wide-float64", lambda: wide_sweep("float64"))


@pytest.fixture(scope="session")
def wide32(once: Once) -> "xr.Dataset":
    """The same in float32."""
    from factories import wide_sweep

    return pickled(once, "wide-float32", lambda: wide_sweep("float32"))


def pickled(once: Once, name: str, make: Callable[[], "xr.Dataset"]) -> "xr.Dataset":
    """A result that is computed once for both workers."""
    path = once(f"{name}.pickle", lambda path: path.write_bytes(pickle.dumps(make())))
    found: xr.Dataset = pickle.loads(path.read_bytes())
    return found


@pytest.fixture(scope="session")
def article(once: Once) -> "xr.Dataset":
    """The article's sweep."""
    from report_pages import article_result

    return pickled(once, "article", article_result)


@pytest.fixture(scope="session")
def served(once: Once) -> "xr.Dataset":
    """A calibrated result over input and output lengths."""
    from report_pages import served_result

    return pickled(once, "served", served_result)


@pytest.fixture(scope="session")
def article_page(once: Once, article: "xr.Dataset") -> str:
    """Its page."""
    from sweep.html_report.report import html

    path = once("article.html", lambda path: path.write_text(html(article), "utf-8"))
    return path.read_text("utf-8")


@pytest.fixture(scope="session")
def served_page(once: Once, served: "xr.Dataset") -> str:
    """Its page."""
    from sweep.html_report.report import html

    path = once("served.html", lambda path: path.write_text(html(served), "utf-8"))
    return path.read_text("utf-8")


@pytest.fixture(scope="session")
def hostile_page(once: Once, tmp_path_factory) -> str:
    """A page of names that are markup."""
    from report_pages import hostile_html

    folder = tmp_path_factory.mktemp("configs")
    path = once("hostile.html", lambda path: path.write_text(hostile_html(folder), "utf-8"))
    return path.read_text("utf-8")


@pytest.fixture(scope="session")
def whole_shards(once: Once) -> Path:
    """A folder of shards, which tests copy before they damage it."""
    from damage import tiny, written

    return once("whole-shards", lambda path: written(path, tiny(shards=4)))


@pytest.fixture(scope="session")
def reduced_shards(once: Once) -> Path:
    """The same, reduced shard by shard."""
    from damage import tiny, written

    from sweep.queries.reduction_request import ReductionRequest

    asked = ReductionRequest(text="argmin:ttft", where="", by=None, per=None)
    return once("reduced-shards", lambda path: written(path, tiny(shards=4, question=asked)))


@pytest.fixture(scope="session")
def whole_file(once: Once, whole_shards: Path) -> Path:
    """The shards in one file."""
    import sweep

    def write(path: Path) -> None:
        with sweep.open_results(whole_shards) as results:
            sweep.write_netcdf(results.compute(), path)

    return once("whole.nc", write)
