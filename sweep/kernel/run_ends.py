"""Iterations at the ends of a run of a number of requests, beyond its share of steady ones."""

import jax.numpy as jnp

from sweep.kernel.cycle import Cycle
from sweep.kernel.operators.cost import Scalar

ALL = 1 - 1e-6
"""Share of the iterations from which on it counts as all: rounding may leave no difference. [1]"""
LONGEST = 3**0.5
"""Longest of uniform lengths beyond the mean, over their standard deviation. [1]"""


def iterations_at_the_ends(
    cycle: Cycle, steps: Scalar, waves: Scalar, variation: Scalar | None
) -> Scalar:
    """Compute the iterations in which a run has fewer requests than its server holds. [count]

    At the end groups finish one after another, and the last wave may not fill the server. Of
    requests that are all sent at once, the longest output ends after the mean one.

    Args:
        cycle: Its mean iterations.
        steps: Iterations in which a request decodes. [count]
        waves: Requests of the run over those that the server holds. [count]
        variation: Coefficient of variation of the outputs, of uniform lengths; 0 if not given. [1]
    """
    missing = jnp.ceil(waves) - waves
    lumps = cycle.lumps * cycle.stay * (1 - missing) - cycle.chunks
    staggered = jnp.maximum(lumps, 0.0)
    found = jnp.where(cycle.lumps < ALL, missing * cycle.stay + staggered, steps)
    if variation is None:
        return found
    return found + jnp.where(waves <= 1, LONGEST * variation * steps, 0.0)
