"""Exceptions that this package raises deliberately, all of them subclasses of `SweepError`."""

LONGEST_MESSAGE = 1500
"""Longest message of an error, which may repeat names of any length. [character]"""


class SweepError(Exception):
    """An error the user can fix; the message says what was given, what is allowed, what to do."""

    def __str__(self) -> str:
        """The message in one line, cut where it repeats a name that is too long."""
        message = " ".join(super().__str__().split())
        return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"


class SpecWarning(UserWarning):
    """A specification was read in a way that its author may not have meant."""


class SpecError(SweepError):
    """A hardware, model or precision specification is missing, malformed or unsupported."""


class GridError(SweepError):
    """A grid asks for something that cannot be evaluated."""


class SchemaError(SweepError):
    """The table of variables contradicts what the kernel computes."""


class ResultError(SweepError):
    """A result file cannot be read or written, or was not written by this package."""
