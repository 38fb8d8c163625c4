"""A doubt of servers that prefill first: whether so many clients keep step."""

from sweep.kernel.keeps_step import KEEPS_STEP, MEASURED, may_lose_step
from sweep.kernel.params import Point


def step_unknown(point: Point) -> str:
    """A sentence where nobody measured if requests keep step; empty elsewhere.

    Args:
        point: A server with clients.
    """
    if not bool(may_lose_step(point)):
        return ""
    kept = float(point.length("concurrency")) <= KEEPS_STEP
    taken, other, slower = ("keep", "lose", "shorter") if kept else ("lose", "keep", "longer")
    return (
        "requests of a server that prefills first keep step with up to "
        f"{MEASURED[0]} clients and lose it with {MEASURED[1]}, as measured; these figures are of "
        f"requests that {taken} it, and if they {other} it, times to first token are several times "
        f"{slower}"
    )
