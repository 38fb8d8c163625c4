"""Starts the live page's server."""

import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

from sweep.engines.calibration_file import IDEAL_NAME, Calibration, load_calibration
from sweep.errors import ResultError, SweepError
from sweep.explore.engine import Engine
from sweep.explore.server import application, bound_socket, serve
from sweep.files.optional import needed
from sweep.html_report.report import EXTRA
from sweep.runs.jit_cache import use_compilation_cache
from sweep.specs.catalog import Catalog
from sweep.specs.shipped import shipped_configs


def start(
    catalog: Catalog,
    calibrations: Sequence[str] = (),
    *,
    port: int,
    browse: bool = False,
    tell: Callable[[str], object] = print,
    program: str = "llm-sweep",
) -> None:
    """Serve the live page until the process is interrupted.

    Args:
        catalog: Where names are looked up.
        calibrations: Files of calibrations to offer beside the shipped ones.
        port: Port on this machine's loopback address; 0 for any free one.
        browse: Whether to open the page in a browser.
        tell: Called with the address once the server listens.
        program: Name of the command, for the message.

    Raises:
        ResultError: A package that the page needs is not installed, or the port is in use.
        SpecError: A calibration is unknown or malformed.
    """
    for package in ("plotly.offline", "jinja2"):
        needed(package, EXTRA)
    found, files = known_calibrations(calibrations)
    opened = bound_socket(port)
    with opened:
        use_compilation_cache()
        engine = Engine(catalog, found)
        app = application(engine, catalog, files)
        opened.listen()
        address = f"http://{opened.getsockname()[0]}:{opened.getsockname()[1]}/"
        tell(f"{program} explore: {address} (Ctrl-C ends it)")
        # The first kernel is compiled while the browser opens.
        Thread(target=_warm, args=(engine,), daemon=True).start()
        if browse:
            webbrowser.open(address)
        serve(app, opened)


def _warm(engine: Engine) -> None:
    """Compute the first view; its errors are those of the page that asks for it."""
    with suppress(SweepError):
        engine.contents(engine.default)


def known_calibrations(
    given: Sequence[str],
) -> tuple[dict[str, Calibration | None], dict[str, str | Path]]:
    """Calibrations of the page by name, bounds last, and the name or file of each.

    Args:
        given: Files of further calibrations, or names of shipped ones.

    Raises:
        SpecError: One is unknown or malformed.
        ResultError: Two have the same name.
    """
    shipped = sorted(path.stem for path in (shipped_configs() / "calibrations").glob("*.yaml"))
    found: dict[str, Calibration | None] = {}
    files: dict[str, str | Path] = {}
    for file in (*given, *shipped):
        calibration = load_calibration(file)
        if calibration is None or file in files.values():
            continue
        if calibration.name in found:
            raise ResultError(
                f"{file}: another calibration has its name, {calibration.name!r}; rename it"
            )
        found[calibration.name], files[calibration.name] = calibration, file
    return {**found, IDEAL_NAME: None}, files
