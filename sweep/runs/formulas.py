"""Digest of the code that determines results: whether this package may resume a run.

Comments and docstrings change no result, so they are not part of it.
"""

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

COMPUTING = ("schema", "specs", "kernel", "models", "engines", "grid", "evaluation")
"""Packages that determine results."""
REDUCING = ("queries",)
"""Packages that determine reduced results too."""


@cache
def formulas_digest(*, reduced: bool = False) -> str:
    """Digest of every module that determines results.

    Args:
        reduced: Whether the results are reduced.
    """
    content = "".join(executed(path.read_text("utf-8")) for path in formula_files(reduced=reduced))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def formula_files(*, reduced: bool = False) -> list[Path]:
    """Paths of every module that determines results, in a fixed order."""
    package = Path(__file__).parents[1]
    folders = (*COMPUTING, *(REDUCING if reduced else ()))
    return [path for folder in folders for path in sorted((package / folder).rglob("*.py"))]


def executed(source: str) -> str:
    """The source without comments, docstrings and blank lines.

    The rest of the text is unchanged, so that all versions of Python find the same digest.
    """
    lines = source.splitlines()
    for first, last in _strings_alone(source):
        lines[first - 1 : last] = [""] * (last - first + 1)
    if "#" in source:
        for line, column in _comments(source):
            lines[line - 1] = lines[line - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def _strings_alone(source: str) -> list[tuple[int, int]]:
    """First and last line of every statement that is only a string."""
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def _comments(source: str) -> list[tuple[int, int]]:
    """Line and column of every comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.start for token in tokens if token.type == tokenize.COMMENT]
