"""Tokens that a pass of speculative decoding can yield."""

from collections.abc import Iterable


def fault_of_length(length: float, drafted: Iterable[int]) -> str:
    """Fault of passes that draft so many tokens and never yield `length`; empty if there is none.

    Args:
        length: Tokens that a pass yields. [count]
        drafted: Tokens drafted for each pass; those of 0 draft nothing. [count]
    """
    least = min((count for count in drafted if count > 0), default=0)
    if not least or length <= least + 1:
        return ""
    return f"a pass with {least} drafted tokens yields from 1 to {least + 1}, not {length:g}"
