"""Times of the iterations of a server, over the sequences and prompts in them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel.operators.cost import Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curve:
    """Times of iterations over the sequences that decode and the prompts in them.

    Attributes:
        nodes: Sequences of some iterations that decode only. [count]
        times: Their times. [s]
        prompts: Fewest and most prompts in an iteration with any; less than 1 for a chunk. [count]
        extras: Time that these add beside so many sequences. [s]
        fill: Prompts for which `max_num_tokens` has room. [count]
        chunks: Iterations that the prefill of a prompt takes. [count]
        prefill_first: Whether iterations with prompts decode nothing; no if not given.
    """

    nodes: Float[Array, "nodes"]
    times: Float[Array, "nodes"]
    prompts: Float[Array, "2"]
    extras: Float[Array, "2 nodes"]
    fill: Scalar
    chunks: Scalar
    prefill_first: Array | None = None

    def alone(self, sequences: Scalar) -> Scalar:
        """Time of an iteration that decodes only, between nodes. [s]"""
        return jnp.interp(sequences, self.nodes, self.times)

    def extra(self, sequences: Scalar, prompts: Scalar) -> Scalar:
        """Time that `prompts` add to an iteration, on a line through the two known. [s]"""
        fewest, most = self.prompts
        one, filled = (jnp.interp(sequences, self.nodes, each) for each in self.extras)
        slope = (filled - one) / jnp.maximum(most - fewest, 1e-6)
        return one + slope * jnp.clip(prompts - fewest, 0.0, most - fewest)

    def carried(self, iteration: Scalar, rate: Scalar) -> Scalar:
        """Prompts in an iteration that has any, after one of this time. [count]"""
        fewest, most = self.prompts
        arrived = rate * iteration
        some = arrived / jnp.maximum(-jnp.expm1(-arrived), 1e-12)
        return jnp.where(self.fill < 1, most, jnp.clip(some, fewest, most))

    def decode_iteration(
        self, sequences: Scalar, rate: Scalar, steps: Scalar
    ) -> tuple[Scalar, Scalar, Scalar]:
        """Iterations that a sequence decodes in.

        Iterations with and without prompts alternate as a chain of two states; a sequence begins
        to decode after one with prompts.

        Args:
            sequences: Sequences that decode, itself included. [count]
            rate: Prompts that others start in a second. [s-1]
            steps: Iterations that it decodes in. [count]

        Returns:
            Mean time, time without prompts, and share of the iterations with prompts.
        """
        alone = self.alone(sequences)
        longer = alone + self.extra(sequences, self.carried(alone, rate))
        begins = -jnp.expm1(-rate * alone)
        served = self.extra(sequences, self.prompts[1]) + alone
        busy = jnp.minimum(rate * served / self.fill, 0.99)
        first = jnp.where(self.fill < 1, busy, -jnp.expm1(-rate * longer))
        goes_on = jnp.where(self.fill < 1, 1 - (1 - busy) / self.chunks, first)
        long_run = begins / (1 - goes_on + begins)
        memory = jnp.clip(goes_on - begins, 0.0, 1 - 1e-4)
        steps = jnp.maximum(steps, 1.0)
        share = long_run + (first - long_run) * (1 - memory**steps) / (steps * (1 - memory))
        mean = alone + share * (longer - alone)
        if self.prefill_first is not None:
            mean = jnp.where(self.prefill_first, alone + self._stall(sequences, rate), mean)
            share = jnp.where(self.prefill_first, begins, share)
        return mean, alone, share

    def _stall(self, sequences: Scalar, rate: Scalar) -> Scalar:
        """Time between two decode steps in iterations that only prefill. [s]

        They go on for as long as prompts have arrived in the last one.
        """
        alone = self.alone(sequences)
        first = alone + self.extra(sequences, self.carried(alone, rate))
        later = alone + self.extra(sequences, self.carried(first, rate))
        any_then = -jnp.expm1(-rate * first)
        goes_on = jnp.minimum(-jnp.expm1(-rate * later), 0.999)
        several = -jnp.expm1(-rate * alone) * (first + any_then * later / (1 - goes_on))
        # A prompt that fills iterations leaves the rest of the time for decode.
        filled = alone + self.extra(sequences, self.prompts[1])
        used = jnp.minimum(rate * filled / self.fill, 0.99)
        return jnp.where(self.fill < 1, alone * used / (1 - used), several)
