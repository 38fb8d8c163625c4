"""Mutations of files for fuzz tests, and the one outcome that is allowed.

A reader either returns, or raises an error of this package with one short line, within `SECONDS`
and `MOST_BYTES`. Readers run in this process; a `Reader` is a process of its own, for files on
which a library may crash or wait.
"""

import contextlib
import copy
import io
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sweep.errors import SpecWarning, SweepError

CASES = int(os.environ.get("FUZZ_CASES", "10000"))
"""Cases of each format in a campaign."""
FEW = 20
"""Cases of each format in the ordinary tests."""
SEED = os.environ.get("FUZZ_SEED", "1")
"""Another one gives other cases."""
SECONDS = 10
"""Longest time for one file. [s]"""
MOST_BYTES = 2 * 10**9
"""Most memory for one file. [byte]"""
LONGEST_LINE = 2000
"""Longest line of an error. [character]"""

JUNK: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 10**9, 10**18, 10**400, 0.5, -0.0, 1e-300, 1e300),
    *(float("nan"), float("inf"), -float("inf"), "", "x", "8", "-1", "nan", "1e999", "\x00"),
    *("\x1b[31m", "=1+1", "é", "\U0001f600", "../../etc/passwd", "/dev/zero", "x" * 5000),
    *([], [1], ["x"], [None], [[]], [{}], {}, {"a": 1}, {"x": {"y": []}}, [1, "x", None]),
]
"""Values of other types, sizes and signs."""
TOKENS = [
    *("\n", " ", "\t", ":", "- ", ",", "{", "}", "[", "]", '"', "'", "#", "&a ", "*a", "!!int "),
    *("null", "~", ".nan", ".inf", "-1", "0x1f", "1e999", "1_000", "<<: ", "%", "---\n", "...\n"),
    *("\x00", "\x1b", "\ufeff", "\u2028", "\ud800", "é", "9" * 400, "[" * 300, "x" * 3000),
    *("!!python/object/apply:os.system ['true']", "Infinity", "NaN", "\r", "\r\n", "|\n", ">\n"),
]
"""Pieces of text that mean something in YAML, JSON or CSV."""


@contextmanager
def in_time() -> Iterator[None]:
    """Let the block fail after `SECONDS` of work, or ten times as long of waiting."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, late) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        yield
    finally:
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def outcome(read: Callable[[], Any]) -> Any:
    """What `read` returns, or `None` if it refuses in one short line; all else is a failure."""
    before = peak()
    with warnings.catch_warnings(), in_time():
        warnings.simplefilter("ignore", SpecWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            found = read()
        except SweepError as error:
            line, found = str(error), None
            assert "\n" not in line.strip(), line
            assert len(line) < LONGEST_LINE, line[:LONGEST_LINE]
    assert peak() - before < MOST_BYTES, "took too much memory"
    return found


def peak() -> int:
    """Most memory that this process has had. [byte]"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Reader:
    """A process that reads one file after another, and is replaced when it crashes or waits."""

    def __init__(self) -> None:
        """Start the process."""
        self._process = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", "import fuzzing; fuzzing.serve()"],
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def outcome(self, path: Path) -> str:
        """`read`, `refused`, `crashed`, `waited`, or the error that is none of this package."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 10 * SECONDS)
        said = process.stdout.readline().strip() if ready else "waited"
        if not ready or not said:
            process.kill()
            process.wait()
            self._process = self._started()
        return said or "crashed"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def serve() -> None:
    """Read the results whose names come on standard input, and print the outcome of each."""
    from sweep.runs.check_results import check_dataset
    from sweep.runs.open_results import open_results

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    limit = psutil.Process().memory_info().data + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for line in sys.stdin:
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                with open_results(line.rstrip("\n")) as found:
                    check_dataset(found)
                    found.compute()
            said = "read"
        except SweepError as error:
            short = "\n" not in str(error).strip() and len(str(error)) < LONGEST_LINE
            said = "refused" if short else f"a long line: {str(error)[:200]!r}"
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:200]!r}"
        print(said, file=answers, flush=True)


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of nested mappings and lists is, the outermost first."""
    found = [path]
    pairs: Any = tree.items() if isinstance(tree, dict) else ()
    pairs = enumerate(tree) if isinstance(tree, list) else pairs
    for key, value in pairs:
        found += paths_of(value, (*path, key))
    return found


def cases(kind: str, count: int) -> Iterator[random.Random]:
    """Sources of chance, one for each case: the same ones in every run."""
    for number in range(count):
        yield random.Random(f"{SEED} {kind} {number}")


def attack(kind: str, count: int, attempt: Callable[[random.Random], Any]) -> None:
    """Attempt `count` cases; all that fail are reported at the end, each kind of error once.

    Args:
        kind: Name of the format.
        count: Cases to attempt. [count]
        attempt: Makes one case and reads it; fails where the outcome is not allowed.
    """
    failed: dict[str, int] = {}
    total = 0
    for number, chance in enumerate(cases(kind, count)):
        try:
            attempt(chance)
        except Exception as error:
            total += 1
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
            failed.setdefault(f"{type(error).__name__} {where} {str(error)[:200]}", number)
    assert not failed, f"{total} of {count} cases of {kind}, first of each kind: {failed}"


def edited_tree(chance: random.Random, base: Any) -> Any:
    """A copy of nested mappings and lists with one to four edits."""
    tree = json.loads(json.dumps(base))
    for _ in range(chance.randint(1, 4)):
        inside = paths_of(tree)[1:]
        if not inside:
            break
        *inner, last = chance.choice(inside)
        at = tree
        for key in inner:
            at = at[key]
        _edit(chance, at, last)
    return tree


def _edit(chance: random.Random, at: Any, last: Any) -> None:
    """Replace, remove, rename or repeat one value of a mapping or list."""
    kind = chance.choice(["replace", "replace", "remove", "rename", "scale", "repeat"])
    junk = copy.deepcopy(chance.choice(JUNK))
    if isinstance(at, list):
        if kind == "remove":
            del at[last]
        elif kind == "repeat":
            at.insert(last, copy.deepcopy(at[last]))
        else:
            at[last] = junk
        return
    old = at.get(last)
    if kind == "remove":
        at.pop(last, None)
    elif kind == "rename":
        at.pop(last, None)
        at[f"{last}{chance.choice(['s', '', ' ', '_', '.x'])}"] = old
    elif kind == "scale" and isinstance(old, int | float) and abs(old) < 10**300:
        at[last] = old * chance.choice([-1, 0, 1e-30, 1e30, 1e300, 2])
    else:
        at[last] = junk


def edited_text(chance: random.Random, base: str) -> str:
    """A copy of a text with one to four edits."""
    text = base
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice([0, 0, 1, 3, 20, 10**6]))
        put = chance.choice(["", *TOKENS]) if chance.random() < 0.7 else _signs(chance)
        text = text[:start] + put + text[end:]
    return text


def _signs(chance: random.Random) -> str:
    """Up to five signs: of ASCII, or any of Unicode, halves of pairs included."""
    most = chance.choice([127, 0x10FFFF])
    return "".join(chr(chance.randint(0, most)) for _ in range(chance.randint(0, 5)))


def damaged(chance: random.Random, base: bytes) -> bytes:
    """A copy of a file with a few bytes changed, cut off or added."""
    content = bytearray(base)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(max(len(content), 1))
        kind = chance.choice(["flip", "flip", "flip", "cut", "add", "zero"])
        if kind == "flip" and content:
            content[place] ^= chance.randint(1, 255)
        elif kind == "cut":
            del content[place : place + chance.choice([1, 8, 10**9])]
        elif kind == "add":
            content[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 9)))
        else:
            content[place : place + 16] = bytes(min(16, len(content) - place))
    return bytes(content)
