"""Iterations at the ends of a run of a number of requests, beyond its share of steady ones."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool

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


@dataclass(frozen=True)
class LastWaves:
    """Work that the requests of a run decode beside, less than in the steady state, on average.

    Those of the last wave that fills the server, and of one after it that does not, end without
    others in their place: a request decodes beside the prompts of those after it, and of those
    that took the place of earlier ones, which are missing. In a last wave of a share of what the
    server holds, others have ended too.

    Attributes:
        cycle: Mean iterations of the steady state.
        waves: Requests of the run over those that the server holds. [count]
        in_step: Whether a wave is prefilled before it decodes and ends together, if any does.
            Prompts of a wave are then those of the steady state.
    """

    cycle: Cycle
    waves: Scalar
    in_step: Bool[Array, ""] | None = None

    @property
    def _rest(self) -> Scalar:
        """Share of the server that the last wave fills, 0 if it does. [1]"""
        rest = self.waves - jnp.floor(self.waves + 1 - ALL)
        return jnp.maximum(rest, 0.0)

    @property
    def absent(self) -> Scalar:
        """Share of the server that is empty while a request decodes, on average. [1]"""
        return self._rest * (1 - self._rest) / self.waves

    @property
    def lumps(self) -> Scalar:
        """Iterations with prompts of others that a request misses, on average. [count]

        Each of the last requests, as many as the server holds, misses half of them: the first to
        end as good as all that follow it, the last none.
        """
        decoding = self.cycle.started * (self.cycle.stay - self.cycle.chunks)
        missed = jnp.minimum(decoding / self.cycle.residents, 1.0) / 2
        if self.in_step is not None:
            alone = self._rest * (1 - self._rest)
            missed = jnp.where(self.in_step, alone, missed)
        return self.cycle.interrupted * missed / self.waves
