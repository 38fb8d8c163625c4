"""Grammar of constraints: comparisons joined by `and`, `or`, `not` and parentheses.

Constraints that commas separate must all be satisfied; `or` binds more tightly than a comma.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sweep.errors import ResultError

LONGEST_TEXT = 10_000
"""Longest text of constraints. [character]"""
DEEPEST = 50
"""Most parentheses and `not` around a comparison. [count]"""
TOKEN = re.compile(
    r"\s*(?:(?P<bracket>[(),])|(?P<sign><=|>=|==|!=|<|>)"
    r"|(?P<quoted>\"[^\"]*\"|'[^']*')|(?P<word>[^\s'\"<>=!(),]+)|(?P<rest>\S))"
)
WORDS = ("and", "or", "not")
OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}


@dataclass(frozen=True)
class Comparison:
    """A name compared with a value, or a name alone, whose sign is `==` or `!=`."""

    name: str
    sign: str
    value: str | None = None

    @property
    def opposite(self) -> "Comparison":
        """The comparison that `not` makes of it."""
        return Comparison(self.name, OPPOSITE[self.sign], self.value)


@dataclass(frozen=True)
class Joined:
    """Constraints of which all or one must be satisfied."""

    word: Literal["and", "or"]
    parts: "tuple[Condition, ...]"

    @property
    def opposite(self) -> "Joined":
        """The constraints that `not` makes of these.

        Each comparison is reversed, so that a missing value satisfies neither.
        """
        word: Literal["and", "or"] = "or" if self.word == "and" else "and"
        return Joined(word, tuple(part.opposite for part in self.parts))


Condition = Comparison | Joined


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


class _Reader:
    """Tokens of a text, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [*_tokens(text), _Token("end", "")]
        self.index = 0
        self.depth = 0

    def next(self) -> _Token:
        token = self.tokens[self.index]
        self.index += 1
        return token

    def follows(self, word: str) -> bool:
        """Read a word if it is the next one."""
        token = self.tokens[self.index]
        found = token.kind in ("word", "bracket") and token.text == word
        self.index += found
        return found

    def refused(self, why: str) -> ResultError:
        return ResultError(
            f"--where {' '.join(self.text.split())!r:.200}: {why}; write comparisons such as "
            "'ttft < 0.5', joined by 'and', 'or', 'not' and parentheses"
        )

    def all(self) -> Condition:
        return self._joined("and", self.either, ",")

    def either(self) -> Condition:
        return self._joined("or", self.both, "or")

    def both(self) -> Condition:
        return self._joined("and", self.one, "and")

    def _joined(
        self, word: Literal["and", "or"], part: "Callable[[], Condition]", sign: str
    ) -> Condition:
        parts = [part()]
        while self.follows(sign):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def one(self) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.refused(f"nested deeper than {DEEPEST} levels")
        if self.follows("not"):
            found: Condition = self.one().opposite
        elif self.follows("("):
            found = self.either()
            if not self.follows(")"):
                raise self.refused("a parenthesis is not closed")
        else:
            found = self.comparison()
        self.depth -= 1
        return found

    def comparison(self) -> Comparison:
        name = self.next()
        if name.kind != "word" or name.text in WORDS:
            raise self.refused(f"{name.text or 'its end'!r:.80} is not a comparison")
        if self.tokens[self.index].kind != "sign":
            return Comparison(name.text, "==")
        sign, value = self.next(), self.next()
        joins = value.kind == "word" and value.text in WORDS
        if value.kind not in ("word", "quoted") or joins:
            raise self.refused(f"{name.text} {sign.text} is not a comparison without a value")
        text = value.text[1:-1] if value.kind == "quoted" else value.text
        return Comparison(name.text, sign.text, text)


def _tokens(text: str) -> Iterator[_Token]:
    for found in TOKEN.finditer(text):
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind])


def parse(text: str) -> Condition | None:
    """Read constraints; `and` binds more tightly than `or`. `None` for an empty text.

    Raises:
        ResultError: The text is too long or follows another grammar.
    """
    if len(text) > LONGEST_TEXT:
        raise ResultError(f"--where: longer than {LONGEST_TEXT:,} characters")
    if not text.strip():
        return None
    reader = _Reader(text)
    found = reader.all()
    left = reader.next()
    if left.kind != "end":
        raise reader.refused(f"{left.text!r:.80} after a whole comparison")
    return found
