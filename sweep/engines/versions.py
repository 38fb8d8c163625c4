"""Versions of engines as numbers."""

import re

UNSTATED_VERSION = "unstated"
"""Version in rows of a source that does not state it."""


LONGEST_PART = 100
"""Digits of a part that count; Python refuses to read numbers of some thousand. [count]"""
RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)", re.ASCII)
"""Numbers that a version begins with."""


def version_of(text: str) -> tuple[int, ...]:
    """The release of a version as numbers to compare by: (0, 19, 0) for `v0.19.0rc1`.

    Suffixes of candidates, revisions, developers and builds (`a`, `b`, `rc`, `post`, `dev`, `-rev`,
    `+local`) do not count, whatever digits they have.
    """
    found = RELEASE.match(text)
    return tuple(int(part[:LONGEST_PART]) for part in found[1].split(".")) if found else ()


def version_order(text: str) -> tuple[tuple[int, ...], str]:
    """Key that sorts versions by release, and those of one release by their text."""
    return version_of(text), text
