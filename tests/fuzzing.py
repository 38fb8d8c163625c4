"""Mutations of files for fuzz tests, drawn by Hypothesis, and the one outcome that is allowed.

A reader either returns, or raises an error of this package with one short line, within `SECONDS`.
"""

import copy
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sweep.errors import SpecWarning, SweepError

CASES = int(os.environ.get("FUZZ_CASES", "10000"))
"""Cases of each format in a campaign."""
FEW = 20
"""Cases of each format in the ordinary tests."""
SECONDS = 10
"""Longest time for one file. [s]"""
LONGEST_LINE = 2000
"""Longest line of an error. [character]"""

SHORT = settings(max_examples=FEW, derandomize=True, database=None)
LONG = settings(
    max_examples=CASES,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

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
    """Let the block fail after `SECONDS`."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(read: Callable[[], Any]) -> Any:
    """What `read` returns, or `None` if it refuses in one short line; all else is a failure."""
    with warnings.catch_warnings(), in_time():
        warnings.simplefilter("ignore", SpecWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return read()
        except SweepError as error:
            line = str(error)
            assert "\n" not in line.strip(), line
            assert len(line) < LONGEST_LINE, line[:LONGEST_LINE]
            return None


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of nested mappings and lists is, the outermost first."""
    found = [path]
    pairs: Any = tree.items() if isinstance(tree, dict) else ()
    pairs = enumerate(tree) if isinstance(tree, list) else pairs
    for key, value in pairs:
        found += paths_of(value, (*path, key))
    return found


@st.composite
def trees(draw: Any, base: Any) -> Any:
    """A copy of nested mappings and lists with one to four edits."""
    tree = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, 4))):
        inside = paths_of(tree)[1:]
        if not inside:
            break
        *inner, last = draw(st.sampled_from(inside))
        at = tree
        for key in inner:
            at = at[key]
        tree_edit(draw, at, last)
    return tree


def tree_edit(draw: Any, at: Any, last: Any) -> None:
    """Replace, remove, rename or repeat one value of a mapping or list."""
    kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "scale", "repeat"]))
    junk = copy.deepcopy(draw(st.sampled_from(JUNK)))
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
        at[f"{last}{draw(st.sampled_from(['s', '', ' ', '_', '.x']))}"] = old
    elif kind == "scale" and isinstance(old, int | float) and abs(old) < 10**300:
        at[last] = old * draw(st.sampled_from([-1, 0, 1e-30, 1e30, 1e300, 2]))
    else:
        at[last] = junk


@st.composite
def texts(draw: Any, base: str) -> str:
    """A copy of a text with one to four edits."""
    text = base
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 3, 20, 10**6])))
        put = draw(st.sampled_from(["", *TOKENS]) | st.text(max_size=5))
        text = text[:start] + put + text[end:]
    return text


@st.composite
def damaged(draw: Any, base: bytes) -> bytes:
    """A copy of a file with a few bytes changed, cut off or added."""
    content = bytearray(base)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "add", "zero"]))
        if kind == "flip" and content:
            content[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[place : place + draw(st.sampled_from([1, 8, 10**9]))]
        elif kind == "add":
            content[place:place] = draw(st.binary(min_size=1, max_size=9))
        else:
            content[place : place + 16] = bytes(min(16, len(content) - place))
    return bytes(content)
