"""Ctrl-C and SIGTERM unwind a command, so that no temporary file stays."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 1e-3
"""Wait before a signal that a callback swallowed is sent again. [s]"""
IMPORTED_S = 1e-2
"""Wait before a signal that arrived in an import is sent again. [s]"""


class Terminated(KeyboardInterrupt):
    """The process was asked to end."""


@contextmanager
def unwinding() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Terminated` on SIGTERM, and never lose either.

    A signal that is ignored, as in a job that a shell started in the background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    sys.unraisablehook = send_again
    for number in ours:
        signal.signal(number, _unwind)
    try:
        yield
    finally:
        sys.unraisablehook = sys.__unraisablehook__
        for number in ours:
            signal.signal(number, before[number])


def _unwind(number: int, frame: FrameType | None) -> None:
    """Raise, or wait for the end of an import: that of JAX crashes when an exception is raised."""
    if _is_importing(frame):
        _send_after(IMPORTED_S, number)
        return
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def send_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Send a signal again that arrived where exceptions are ignored.

    JAX runs a callback whenever Python collects garbage; Ctrl-C in it would have no effect. It has
    none in this function either, where it may arrive on a slow machine.
    """
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    number = signal.SIGTERM if issubclass(ignored.exc_type, Terminated) else signal.SIGINT
    while True:
        try:
            _send_after(AGAIN_S, number)
            return
        except KeyboardInterrupt:
            continue


def _send_after(wait: float, number: int) -> None:
    later = threading.Timer(wait, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()
