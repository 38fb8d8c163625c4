"""Percentiles of a time that is one of several, each uniform, with waits that decay."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel.operators.cost import Scalar

BISECTIONS = 28
"""Halvings of an interval that contains a root: to 4e-9 of it, since the root may be a hundredth of
the interval. 32 bits resolve 6e-8."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """A time that is uniform in one of several intervals, and longer by waits that decay.

    Attributes:
        start: Least times. [s]
        width: Widths of the intervals. [s]
        weight: Shares of the intervals. [1]
        more: Means of exponential waits of each; none if not given. [s]
        waits: Share that also waits for something else. [1]
        wait: Mean of those waits, which are exponential. [s]
    """

    start: Float[Array, "part"]
    width: Float[Array, "part"]
    weight: Float[Array, "part"]
    more: Float[Array, "part"] | None
    waits: Scalar
    wait: Scalar

    def share_later(self, time: Scalar) -> Scalar:
        """Share of the times that are longer. [1]"""
        since = time - self.start
        wait = jnp.broadcast_to(self.wait, self.start.shape)
        if self.more is None:
            waiting, others = self._later(since, wait), self._later(since, None)
        else:
            waiting, others = self._later(since, wait + self.more), self._later(since, self.more)
        return jnp.sum(self.weight * (self.waits * waiting + (1 - self.waits) * others))

    def _later(
        self, since: Float[Array, "part"], mean: Float[Array, "part"] | None
    ) -> Float[Array, "part"]:
        """Share of each part that is longer than `since` after its start."""
        passed = jnp.clip(since, 0.0, self.width)
        within = 1 - passed / self.width
        if mean is None:
            return within
        decayed = jnp.exp(-jnp.maximum(since - self.width, 0.0) / mean)
        return within + decayed * -jnp.expm1(-passed / mean) * mean / self.width

    def quantile(self, share: float) -> Scalar:
        """Time that a share of the times stays below. [s]

        Args:
            share: Share of the times. [1]
        """

        def halve(_: Array | int, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            middle = (ends[0] + ends[1]) / 2
            later = self.share_later(middle) > 1 - share
            return jnp.where(later, middle, ends[0]), jnp.where(later, ends[1], middle)

        longest = self.wait if self.more is None else self.wait + self.more.max()
        ends = jnp.zeros(()), (self.start + self.width).max() + 8 * longest
        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, ends)
        return jnp.asarray(low + high) / 2
