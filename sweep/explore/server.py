"""The live page's server: a few addresses, on this machine only."""

import json
import shlex
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sweep.errors import ResultError, SweepError
from sweep.explore.engine import Engine
from sweep.explore.page import live_page, live_script, plotly_script
from sweep.explore.view import View
from sweep.files.netcdf import write_netcdf
from sweep.html_report.report import html
from sweep.specs.catalog import Catalog

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")
"""Host names of an address that a browser may have asked: others come from a DNS rebinding."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
THREADS = 4
"""Views that are computed at once. [count]"""
LONGEST_QUERY = 4000
"""Longest query of an address. [character]"""
LONGEST_ERROR = 600
"""Longest line of an error. [character]"""
Answer = Callable[[View], Response]


class OwnPagesOnly:
    """Middleware that answers the page's own requests only, and sets headers on all answers.

    A browser says where a request comes from. Another site may link to the page, and no more.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        headers = dict(scope.get("headers", ()))
        foreign = headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        app = self._app
        if foreign and not (scope["path"] == "/" and headers.get(b"sec-fetch-mode") == b"navigate"):
            app = Response("this server answers its own page only\n", 403)
        await app(scope, receive, send_with_headers)


def application(engine: Engine, catalog: Catalog, files: Mapping[str, str | Path]) -> Starlette:
    """The server as an ASGI application.

    Args:
        engine: Computes views.
        catalog: The catalog of the engine.
        files: Name or file of each calibration but `ideal`, by name.
    """
    turns = BoundedSemaphore(THREADS)
    default = engine.default
    static = {
        "/": (live_page(engine.names, default), "text/html; charset=utf-8"),
        "/page.js": (live_script(), "text/javascript; charset=utf-8"),
        "/plotly.js": (plotly_script(), "text/javascript; charset=utf-8"),
    }

    def answering(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        def found(query: Mapping[str, str]) -> Response:
            try:
                view = View.read(query, engine.names, default)
                with turns:
                    return answer(view)
            except SweepError as error:
                line = " ".join(str(error).split())
                return JSONResponse({"error": line[:LONGEST_ERROR]}, 422)
            except (OverflowError, MemoryError):
                line = "too large to compute; give smaller numbers"
                return JSONResponse({"error": line}, 422)

        async def endpoint(request: Request) -> Response:
            if len(request.url.query) > LONGEST_QUERY:
                return JSONResponse({"error": "the address is too long"}, 414)
            query = dict(request.query_params)
            return await run_in_threadpool(found, query)

        return endpoint

    def fixed(text: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        body = text.encode()

        async def endpoint(request: Request) -> Response:
            del request
            return Response(body, media_type=kind)

        return endpoint

    def report(view: View) -> Response:
        text = html(
            engine.dataset(view),
            catalog=catalog,
            calibration=files.get(view.calibration),
            chosen={**view.cell, "precision": view.precision},
        )
        return _download(text.encode(), "view.html", "text/html; charset=utf-8")

    routes = [Route(path, fixed(*content)) for path, content in static.items()]
    routes += [
        Route("/view", answering(lambda view: _packed(*engine.contents(view)))),
        Route("/view.yaml", answering(lambda view: _sweep_file(view, files))),
        Route("/view.nc", answering(lambda view: _netcdf(engine, view))),
        Route("/view.html", answering(report)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    return Starlette(routes=routes, middleware=[Middleware(OwnPagesOnly), hosts])


def _packed(data: dict[str, Any], arrays: bytes) -> Response:
    """Length of the JSON as 4 bytes, the JSON padded to a multiple of 4, and the arrays."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return Response(struct.pack("<I", len(text)) + text + arrays, media_type="application/x-view")


def sweep_file(view: View, calibration: str | Path | None = None) -> str:
    """A view as a sweep file, whose lines are JSON and so YAML too.

    Args:
        view: The view.
        calibration: Name or file of its calibration; ideal rooflines if not given.
    """
    option = "" if calibration is None else f" --calibration {shlex.quote(str(calibration))}"
    command = json.dumps(f"llm-sweep run view.yaml -o view.nc{option}", ensure_ascii=False)
    lines = [f"{key}: {json.dumps(values)}" for key, values in view.axes.items()]
    return "\n".join([f"# {command}", *lines, ""])


def _sweep_file(view: View, files: Mapping[str, str | Path]) -> Response:
    text = sweep_file(view, files.get(view.calibration))
    return _download(text.encode(), "view.yaml", "application/yaml")


def _netcdf(engine: Engine, view: View) -> Response:
    with tempfile.TemporaryDirectory(prefix="llm-sweep-") as folder:
        path = Path(folder) / "view.nc"
        write_netcdf(engine.dataset(view), path)
        return _download(path.read_bytes(), path.name, "application/x-netcdf")


def _download(body: bytes, name: str, kind: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=kind, headers=headers)


def bound_socket(port: int) -> socket.socket:
    """A socket on this machine's loopback address, with port 0 on any free port.

    Raises:
        ResultError: The port is in use or may not be used.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((LOOPBACK, port))
    except OSError as error:
        opened.close()
        raise ResultError(
            f"port {port}: {error.strerror or error}; give another one by --port, or 0 for any"
        ) from None
    return opened


def serve(app: Starlette, opened: socket.socket) -> None:
    """Answer requests until the process is interrupted.

    Args:
        app: The application.
        opened: Socket to listen on.
    """
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[opened])
