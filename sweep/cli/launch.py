"""Runs a command line; every expected error ends as one line on standard error."""

import atexit
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import click

from sweep.cli.signals import Terminated, unwinding
from sweep.errors import LONGEST_MESSAGE, SpecWarning, SweepError
from sweep.schema.labels import printable

USAGE_ERROR, CHECK_FAILED, INTERRUPTED = 2, 1, 130

TERMINATED = 128 + signal.SIGTERM
NEW_OBJECTS = 50_000
"""New objects after which Python looks for unused ones. [count]"""
MOST_DIGITS = 6
"""Digits of the largest width or height of a terminal. [count]"""


def launch(command: click.Command, program: str) -> None:
    """Run `command` under the name `program` and exit with its status."""

    def report(message: str, code: int) -> int:
        print(f"{program}: {one_line(message)}", file=sys.stderr)
        return code

    def warn(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Print a warning of this package as one line; those of libraries are for programmers."""
        if issubclass(category, SpecWarning):
            report(f"warning: {message}", 0)

    # What imports and traces make is kept: to look through it took an eighth of a short command.
    gc.set_threshold(NEW_OBJECTS, 20, 20)
    # At the end the process lets go of all memory: to look through it again took a tenth of it.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    _keep_sizes()
    _complete(command, program)
    warnings.showwarning = warn
    _open_streams()
    with unwinding():
        code = _status(command, program, report)
    sys.exit(code if isinstance(code, int) else 0)


def _status(command: click.Command, program: str, report: Callable[[str, int], int]) -> Any:
    """Run `command` and return its result, or the exit status of the error that it reports."""
    try:
        with command.make_context(program, sys.argv[1:]) as context:
            code = command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        asked = isinstance(error, Terminated)
        code = report("terminated", TERMINATED) if asked else report("interrupted", INTERRUPTED)
        if "jax" in sys.modules:
            # Threads of XLA may still compile, and would crash while the interpreter shuts down.
            sys.stderr.flush()
            os._exit(code)
    except click.ClickException as error:
        code = report(error.format_message(), USAGE_ERROR)
    except SweepError as error:
        code = report(str(error), USAGE_ERROR)
    except OverflowError:
        code = report("a number is too large to compute with; give a smaller one", USAGE_ERROR)
    except MemoryError:
        code = report("not enough memory; shorten an axis or drop variables", USAGE_ERROR)
    except (BrokenPipeError, SystemExit):
        code = _leave_closed_pipe()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = report(f"{where}{error.strerror or error}", USAGE_ERROR)
        _leave_closed_pipe()
    except RuntimeError as error:
        # JAX_PLATFORMS names a platform that this machine lacks, or a file that is read when its
        # values are used is damaged.
        if not any(word in str(error) for word in ("backend", "NetCDF", "HDF")):
            raise
        code = report(f"{error}; check the file and the environment", USAGE_ERROR)
    return code


def _complete(command: click.Command, program: str) -> None:
    """Answer a request of a shell: to complete a line, or for its completion script."""
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    asked = os.environ.get(variable)
    if asked:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(command, {}, program, variable, asked))


def _keep_sizes() -> None:
    """Remove sizes that no terminal has: libraries fail on ² and on 5,000 digits."""
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "")
        if not (size.isdecimal() and len(size) <= MOST_DIGITS and int(size) > 0):
            os.environ.pop(name, None)


def _open_streams() -> None:
    """Escape characters that an output stream cannot encode, and replace closed streams."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # A file that is opened later would get the number of the closed stream.
            nobody = os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
            setattr(sys, name, os.fdopen(nobody, "r" if name == "stdin" else "w", encoding="utf-8"))
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def one_line(message: str) -> str:
    """The message in one line of printable text that a terminal shows as it is."""
    line = printable(" ".join(message.split()))
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}…"


def _leave_closed_pipe() -> int:
    """Discard the output that is left, since nobody reads the pipe, and report success."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
