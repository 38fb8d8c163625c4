"""Counts as people write them: `16k`, `1M` and `16Ki`."""

import re

MULTIPLES = {
    "": 1,
    **{"k": 10**3, "m": 10**6, "g": 10**9},
    **{"ki": 2**10, "mi": 2**20, "gi": 2**30},
}
"""Factor that each suffix stands for, in any case."""
COUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([kmg]i?)?", re.IGNORECASE)
LONGEST_COUNT = 40
"""Longest text of a count. [character]"""


def count_of(text: str) -> int | float | None:
    """The number that a text is: `16k` is 16,000, `1M` is 1,000,000 and `16Ki` is 16,384.

    Returns:
        An integer where the value is whole; `None` if the text is no number.
    """
    found = COUNT.fullmatch(text.strip()) if len(text) <= LONGEST_COUNT else None
    if found is None:
        return None
    digits, suffix = found[1], (found[2] or "").lower()
    if re.fullmatch(r"[+-]?\d+", digits):
        return int(digits) * MULTIPLES[suffix]
    # 1.1 · 1,000,000 is 1,100,000.0000000001 in binary.
    value = round(float(digits) * MULTIPLES[suffix], 6) if suffix else float(digits)
    return int(value) if suffix and value.is_integer() else value


def has_suffix(text: str) -> bool:
    """Whether a text is a count with a suffix, such as `16k`."""
    found = COUNT.fullmatch(text.strip()) if len(text) <= LONGEST_COUNT else None
    return found is not None and found[2] is not None
