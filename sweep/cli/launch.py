"""Runs a command line; every expected error ends as one line on standard error."""

import os
import sys
import warnings
from contextlib import suppress
from typing import TextIO

import click

from sweep.errors import SpecWarning, SweepError

USAGE_ERROR, CHECK_FAILED, INTERRUPTED = 2, 1, 130


def launch(command: click.Command, program: str) -> None:
    """Run `command` under the name `program` and exit with its status."""

    def report(message: str, code: int) -> int:
        print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
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

    warnings.showwarning = warn
    try:
        with command.make_context(program, sys.argv[1:]) as context:
            code = command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = report("interrupted", INTERRUPTED)
        if "jax" in sys.modules:
            # Threads of XLA may still compile, and would crash while the interpreter shuts down.
            sys.stderr.flush()
            os._exit(code)
    except click.ClickException as error:
        code = report(error.format_message(), USAGE_ERROR)
    except SweepError as error:
        code = report(str(error), USAGE_ERROR)
    except MemoryError:
        code = report("not enough memory; shorten an axis or drop variables", USAGE_ERROR)
    except (BrokenPipeError, SystemExit):
        code = _leave_closed_pipe()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = report(f"{where}{error.strerror or error}", USAGE_ERROR)
        _leave_closed_pipe()
    sys.exit(code if isinstance(code, int) else 0)


def _leave_closed_pipe() -> int:
    """Let the interpreter flush output that nobody reads; rich exits where a pipe is closed."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
