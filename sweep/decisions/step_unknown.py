"""A doubt of servers that prefill first: whether so many clients keep step."""

from sweep.kernel.keeps_step import KEEPS_STEP, LOSES_STEP, may_lose_step
from sweep.kernel.params import Point


def step_unknown(point: Point) -> str:
    """A sentence where nobody measured if requests keep step; empty elsewhere.

    Args:
        point: A server with clients.
    """
    if not bool(may_lose_step(point)):
        return ""
    return (
        "requests of a server that prefills first keep step with up to "
        f"{KEEPS_STEP} clients and lose it with {LOSES_STEP}, as measured; these figures are of "
        "requests that lose it, and if they keep it, times to first token are up to twice as long"
    )
