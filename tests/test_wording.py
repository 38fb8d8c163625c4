"""Plain English in docstrings, messages, help texts and pages: no banned wording, no clauses.

Tests and comments are not checked, nor code in pages and docstrings.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("sweep", "calibration", "benchmarks", "docs")
"""Folders of Python files."""
PAGES = ("*.md", "docs/*.md", "benchmarks/*.md")
TABLE = "sweep/schema/variables.py"
"""Its texts are attributes in files that exist already; only its docstrings are checked."""


class Banned(NamedTuple):
    """A wording that a reader stumbles over.

    Attributes:
        pattern: Regular expression of whole words, in any case.
        wrong: Example with the wording.
        right: The same in plain English.
        reason: Why it is banned, or what to say instead.
    """

    pattern: str
    wrong: str
    right: str
    reason: str


BANNED = (
    Banned("noughts?", "pulled towards nought", "pulled towards 0", "archaic"),
    Banned("anew", "are computed anew", "are recomputed", "archaic"),
    Banned("mend(s|ed|ing)?", "an error one can mend", "an error the user can fix", "archaic"),
    Banned(
        "the very",
        "into the very arrays that are given out",
        "directly into the returned arrays",
        "stresses a noun and adds nothing",
    ),
    Banned(
        "(come|comes|came|coming) by",
        "how the interval is come by",
        "how the interval is derived",
        "an idiom; say who computes it",
    ),
    Banned(
        "(lay|lays|laid|laying) (out|down)",
        "once the grid is laid out",
        "once the grid's arrays exist",
        "vague; say what is created, allocated, arranged or parallelised",
    ),
    Banned(
        "what of",
        "what of each axis a shard holds",
        "the index range of each axis in a shard",
        "a clause where a noun is meant",
    ),
    Banned("(hold|holds|held) good", "while the bound holds good", "while it is valid", "archaic"),
    Banned(
        "whole or not at all",
        "written whole or not at all",
        "written atomically",
        "a riddle; the field says 'atomically'",
    ),
    Banned(
        r"(tells?(?!:)|told|telling)",
        "the rows tell nothing of it",
        "the data do not constrain it",
        "data does not speak; it says, shows, lists, reports, or people distinguish",
    ),
    Banned(
        "as has been",
        "as has been said",
        "as described in the tutorial",
        "refers back without saying where",
    ),
    Banned(
        "(stand|stands|stood|standing) (alone|among|at|behind|beside|here|in(?! for)|there|under|"
        "where|without)",
        "all columns stand under this heading",
        "this heading lists all columns",
        "data does not stand; it is somewhere, or a file contains it",
    ),
    Banned(
        "(lie|lies|lying) (at|in|over|there|under)",
        "variables that lie over isl",
        "variables with the dimension isl",
        "data does not lie; it is somewhere, or something has it",
    ),
)
ALLOWED = (
    "lambda stands for the share of iterations",
    "the median lies between the ends",
    "what most users need",
    "tell: Called with each line of progress.",
    "in short, over a range",
)
"""Plain English that resembles a banned wording."""
CLAUSE = re.compile(r"(What|How|Where|When|Why|Which|Who|Whose|That|If)\b")
"""Start of a docstring that is a clause, where a noun phrase or an imperative is wanted."""
PREDICATE = re.compile(r"[Bb]ool|Array")
"""Return types of functions whose docstring may start with "Whether"."""


class Prose(NamedTuple):
    """A piece of text with the file and line where it starts."""

    path: str
    line: int
    text: str


def wordings(prose: Prose) -> Iterator[str]:
    """One line for each banned wording in `prose`: where, what, why, and a better form."""
    for banned in BANNED:
        for found in re.finditer(_whole_words(banned.pattern), prose.text, re.IGNORECASE):
            line = prose.line + prose.text.count("\n", 0, found.start())
            words = " ".join(found.group().split())
            yield (
                f"{prose.path}:{line}: {words!r}: {banned.reason}. "
                f"Not {banned.wrong!r} but, say, {banned.right!r}."
            )


def _whole_words(pattern: str) -> str:
    return rf"\b(?:{pattern})".replace(" ", r"\s+") + r"(?!\w)"


def python_files(folder: str) -> list[Path]:
    """Python files of a folder, without those that the site's builder copies there."""
    return [
        path for path in sorted((ROOT / folder).rglob("*.py")) if "auto_gallery" not in path.parts
    ]


def strings(path: Path) -> Iterator[Prose]:
    """Docstrings and messages of a Python file, without identifiers and inline code."""
    tree, name = ast.parse(path.read_text("utf-8")), path.relative_to(ROOT).as_posix()
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        is_prose = " " in node.value if name != TABLE else id(node) in documentation
        if is_prose:
            yield Prose(name, node.lineno, without_code(node.value))


def without_code(text: str) -> str:
    """The text with blanks for fenced blocks and inline code, its lines kept."""
    text = re.sub(r"^```.*?^```", _blank, text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^`]+\1", _blank, text)


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found.group())


def docstrings(path: Path) -> Iterator[tuple[Prose, str]]:
    """Docstrings of modules, classes, functions and attributes, with a function's return type."""
    tree, name = ast.parse(path.read_text("utf-8")), path.relative_to(ROOT).as_posix()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for place, statement in enumerate(body):
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                continue
            is_own = place == 0
            if not is_own and not isinstance(body[place - 1], ast.Assign | ast.AnnAssign):
                continue
            returns = getattr(node, "returns", None) if is_own else None
            kind = ast.unparse(returns) if returns else "" if is_own else "bool"
            if isinstance(statement.value.value, str):
                yield Prose(name, statement.lineno, statement.value.value.strip()), kind


def is_clause(docstring: str, returns: str = "") -> bool:
    """Whether a docstring starts with a clause; "Whether" may start that of a predicate."""
    if docstring.startswith("Whether "):
        return not PREDICATE.search(returns)
    return bool(CLAUSE.match(docstring))


@pytest.mark.parametrize("folder", CODE)
def test_docstrings_and_messages_are_plain_english(folder: str) -> None:
    files = python_files(folder)
    assert files
    found = [line for path in files for prose in strings(path) for line in wordings(prose)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("pattern", PAGES)
def test_pages_are_plain_english(pattern: str) -> None:
    pages = sorted(ROOT.glob(pattern))
    assert pages
    found = []
    for page in pages:
        text = without_code(page.read_text("utf-8"))
        found += wordings(Prose(page.relative_to(ROOT).as_posix(), 1, text))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("folder", CODE)
def test_docstrings_start_with_a_noun_phrase_or_an_imperative(folder: str) -> None:
    found = [
        f"{prose.path}:{prose.line}: a clause: {prose.text.splitlines()[0]!r}"
        for path in python_files(folder)
        for prose, returns in docstrings(path)
        if is_clause(prose.text, returns)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("banned", BANNED, ids=lambda banned: banned.wrong)
def test_each_banned_wording_is_found_and_its_better_form_passes(banned: Banned) -> None:
    assert re.search(_whole_words(banned.pattern), banned.wrong, re.IGNORECASE)
    assert re.search(_whole_words(banned.pattern), banned.wrong.replace(" ", "\n"), re.IGNORECASE)
    assert not list(wordings(Prose("", 1, banned.right)))


@pytest.mark.parametrize("text", ALLOWED)
def test_plain_english_that_resembles_a_banned_wording_passes(text: str) -> None:
    assert not list(wordings(Prose("", 1, text)))


def test_a_wording_is_reported_with_its_line() -> None:
    text = without_code("`told`\n```sh\nanew\n```\nall is computed\nanew")
    (line,) = wordings(Prose("page.md", 1, text))
    assert line.startswith("page.md:6: 'anew': archaic.")


@pytest.mark.parametrize(
    ("docstring", "returns", "clause"),
    [
        ("Index range of each axis in a shard.", "", False),
        ("What each axis holds.", "", True),
        ("How many GPUs it takes.", "int", True),
        ("Whether the model fits.", "bool", False),
        ("Whether the model fits.", "str", True),
        ("Whatever the grid holds.", "", False),
    ],
)
def test_a_clause_is_recognised(docstring: str, returns: str, clause: bool) -> None:
    assert is_clause(docstring, returns) == clause


def test_strings_of_a_file_are_its_docstrings_and_messages(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("test_wording.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text('"""A module."""\nNAME = "told"\n\nTEXT = f"a message of {NAME}"\n')
    assert [prose.text for prose in strings(path)] == ["A module.", "a message of "]
    (tmp_path / "sweep/schema").mkdir(parents=True)
    table = path.rename(tmp_path / TABLE)
    assert [prose.text for prose in strings(table)] == ["A module."]
