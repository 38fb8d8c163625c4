"""Text that labels an axis or names a calibration in a result."""

LONGEST_LABEL = 1000
"""Longest label of an axis. [character]"""


def printable(text: str) -> str:
    """The text with signs that a terminal would interpret, such as escapes, written out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def fault_of_label(text: str) -> str:
    """Fault that keeps a text from being a label, in words; empty if there is none."""
    if not text.isprintable():
        return "is not printable text"
    if len(text) > LONGEST_LABEL:
        return f"has {len(text):,} characters, and {LONGEST_LABEL:,} are allowed"
    return ""
