"""Every error this package raises on purpose; nothing here knows what caused it."""


class SweepError(Exception):
    """Something the user can mend; the message says what was given, what is allowed, what to do."""


class SpecWarning(UserWarning):
    """A specification was read in a way that its author may not have meant."""


class SpecError(SweepError):
    """A hardware, model or precision specification is missing, malformed or unsupported."""


class GridError(SweepError):
    """A grid asks for something that cannot be evaluated."""


class ResultError(SweepError):
    """A result file cannot be read or written, or is not one of ours."""
