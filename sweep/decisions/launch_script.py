"""A shell script of one command, with one option and its comment on each line."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweep.schema.labels import printable

COLUMN = 46
"""Column at which comments start."""
PLACEHOLDER = "MODEL"
"""Variable that names a checkpoint which the catalog does not know."""


@dataclass
class Script:
    """Lines of a script: options of one command, each with a comment.

    Attributes:
        head: Comments before it.
        command: Words that start the command.
        options: Options in shell syntax, each with its comment.
        files: Lines before the command, such as those that write a file.
        tail: Comments after it.
    """

    head: list[str] = field(default_factory=list)
    command: Sequence[str] = ()
    options: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def add(self, option: str, value: object, comment: str) -> None:
        """Add an option with its value, quoted for a shell."""
        text = option if value is None else f"{option} {shlex.quote(str(value))}"
        self.options.append((text, comment))

    def text(self) -> str:
        """The script; comments never reach beyond their line."""
        lines = ["#!/usr/bin/env bash", *(f"# {one_line(line)}" for line in self.head)]
        lines += ["set -eu", *self.files, "options=("]
        lines += [
            f"  {text}".ljust(COLUMN) + f"  # {one_line(comment)}" for text, comment in self.options
        ]
        lines += [")", f'exec {shlex.join(self.command)} "${{options[@]}}"']
        lines += [f"# {one_line(line)}" for line in self.tail]
        return "\n".join(lines)


def one_line(text: str) -> str:
    """The words of a text on one line, printable."""
    return printable(" ".join(text.split()))


def required(meaning: str) -> list[str]:
    """Lines that stop a script where `PLACEHOLDER` is not set.

    Args:
        meaning: Its meaning in words.
    """
    message = shlex.quote(one_line(f"set {PLACEHOLDER} to {meaning}"))
    return [f'if [ -z "${{{PLACEHOLDER}:-}}" ]; then echo {message} >&2; exit 2; fi']
