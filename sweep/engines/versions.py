"""Versions of engines as numbers."""

from string import digits

UNSTATED_VERSION = "unstated"
"""Version in rows of a source that does not state it."""


LONGEST_PART = 100
"""Digits of a part that count; Python refuses to read numbers of some thousand. [count]"""


def version_of(text: str) -> tuple[int, ...]:
    """A version as numbers to compare by: (0, 19, 1) for `v0.19.0rc1`.

    Only the digits of each part count, and the first part without one ends the version.
    """
    parts = []
    for part in text.removeprefix("v").split("."):
        number = "".join(character for character in part if character in digits)
        if not number:
            break
        parts.append(int(number[:LONGEST_PART]))
    return tuple(parts)
