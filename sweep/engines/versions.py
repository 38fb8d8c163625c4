"""Versions of engines as numbers."""

UNSTATED_VERSION = "unstated"
"""Version in rows of a source that does not state it."""


def version_of(text: str) -> tuple[int, ...]:
    """A version as numbers to compare by: (0, 19, 0) for `v0.19.0rc1`.

    Only the digits of each part count, and the first part without one ends the version.
    """
    parts = []
    for part in text.removeprefix("v").split("."):
        digits = "".join(character for character in part if character.isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)
