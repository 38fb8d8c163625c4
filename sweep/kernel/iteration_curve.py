"""Times of the iterations of a server, over the sequences and prompts in them."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import lgamma

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel.gates import Gates, Round
from sweep.kernel.operators.cost import Scalar

ROUNDS = 4
"""Rounds of a fixed point: prompts from the time in which they come, and that from the prompts."""

MOST_FOLLOWING = 64
"""Most prompts that are counted to follow one another. [count]"""
LOG_FACTORIALS = tuple(lgamma(number + 1) for number in range(1, MOST_FOLLOWING + 1))
"""Logarithms of the factorials of all numbers up to that. [1]"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curve:
    """Times of iterations over the sequences that decode and the prompts in them.

    Attributes:
        nodes: Sequences of some iterations. [count]
        times: Their times without prompts. [s]
        prompts: Prompts in an iteration with any, from the fewest to the most; less than 1 for a
            chunk. [count]
        extras: Time that each of these adds beside so many sequences. [s]
        fill: Prompts for which `max_num_tokens` has room. [count]
        chunks: Iterations that the prefill of a prompt takes. [count]
        prefill_first: Whether iterations with prompts decode nothing; no if not given.
        gates: Times at which prompts may start; always if not given.
    """

    nodes: Float[Array, "nodes"]
    times: Float[Array, "nodes"]
    prompts: Float[Array, "prompts"]
    extras: Float[Array, "prompts nodes"]
    fill: Scalar
    chunks: Scalar
    prefill_first: Array | None = None
    gates: Gates | None = None

    @cached_property
    def lines(self) -> tuple[list[list[Scalar]], list[tuple[Scalar, Scalar]]]:
        """Lines between nodes, which do not vary with what is between them.

        Returns:
            Between two numbers of sequences the lower one, the distance and slopes of the times,
            and between two numbers of prompts the lower one and the distance.
        """
        apart = jnp.diff(self.nodes)
        slopes = (jnp.diff(each) / jnp.maximum(apart, 1e-6) for each in (self.times, *self.extras))
        rows = self.nodes[:-1], apart, *slopes
        pieces: list[list[Scalar]]
        pieces = [[row[piece] for row in rows] for piece in range(self.nodes.size - 1)]
        wide = jnp.maximum(jnp.diff(self.prompts), 1e-6)
        return pieces, [(self.prompts[each], wide[each]) for each in range(wide.size)]

    def _beside(self, sequences: Scalar) -> list[Scalar]:
        """Time without prompts, and what each of the numbers of prompts adds, between nodes."""
        found: list[Scalar] = [self.times[0], *self.extras[:, 0]]
        for node, apart, *slopes in self.lines[0]:
            beyond = jnp.clip(sequences - node, 0.0, apart)
            found = [value + slope * beyond for value, slope in zip(found, slopes, strict=True)]
        return found

    def alone(self, sequences: Scalar) -> Scalar:
        """Time of an iteration that decodes only. [s]"""
        return self._beside(sequences)[0]

    def extra(self, sequences: Scalar, prompts: Scalar) -> Scalar:
        """Time that `prompts` add to an iteration, on lines through those known. [s]"""
        _, *added = self._beside(sequences)
        found = added[0]
        for (node, apart), (one, other) in zip(self.lines[1], pairwise(added), strict=True):
            found = found + (other - one) * jnp.clip((prompts - node) / apart, 0.0, 1.0)
        return found

    def filled(self, sequences: Scalar) -> Scalar:
        """Time that as many prompts as there is room for add to an iteration. [s]"""
        return self._beside(sequences)[-1]

    def carried(self, iteration: Scalar, rate: Scalar) -> Scalar:
        """Prompts in an iteration that has any, after one of this time. [count]"""
        fewest, most = self.prompts[0], self.prompts[-1]
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
        served = self.filled(sequences) + alone
        busy = jnp.minimum(rate * served / self.fill, 0.99)
        first = jnp.where(self.fill < 1, busy, -jnp.expm1(-rate * longer))
        goes_on = jnp.where(self.fill < 1, 1 - (1 - busy) / self.chunks, first)
        long_run = begins / (1 - goes_on + begins)
        memory = jnp.clip(goes_on - begins, 0.0, 1 - 1e-4)
        steps = jnp.maximum(steps, 1.0)
        share = long_run + (first - long_run) * (1 - jnp.exp(steps * jnp.log(memory))) / (
            steps * (1 - memory)
        )
        mean = alone + share * (longer - alone)
        if self.prefill_first is not None:
            mean = jnp.where(self.prefill_first, alone + self._stall(sequences, rate, steps), mean)
            share = jnp.where(self.prefill_first, begins, share)
        if self.gates is not None:
            behind, met = self._behind_gates(self.gates, sequences, rate, steps)
            # Prompts of several iterations follow one another whenever they come.
            other = self.gates.shut & (self.fill >= 1)
            mean, share = jnp.where(other, behind, mean), jnp.where(other, met, share)
        return mean, alone, share

    def round(self, gates: Gates, sequences: Scalar, rate: Scalar) -> Round:
        """Mean times of a round behind gates: looks, a wait for others, and prompts.

        After the last prompt the scheduler looks at once. If none has come, it looks again after
        some iterations, until one has.

        Args:
            gates: Times at which prompts may start.
            sequences: Sequences that decode. [count]
            rate: Prompts that start in a second. [s-1]
        """
        alone, most = self.alone(sequences), self.prompts[-1]
        between = alone * gates.apart
        held = alone * gates.wait(rate, alone, sequences)
        found = -jnp.expm1(-rate * between)
        closed = between / jnp.maximum(found, 1e-12)
        prompts = rate * (closed + held)
        for _ in range(ROUNDS):
            lump = alone + self.extra(sequences, jnp.minimum(prompts, most))
            lumps = jnp.maximum(prompts / most, 1.0)
            none = jnp.exp(-rate * lump)
            prompts = rate * (none * closed + held + lumps * lump)
            prompts = jnp.maximum(prompts, self.prompts[0])
        return Round(between, none * closed, held, prompts, lumps, lump)

    def _behind_gates(
        self, gates: Gates, sequences: Scalar, rate: Scalar, steps: Scalar
    ) -> tuple[Scalar, Scalar]:
        """Mean time of the iterations of a sequence, and the share of them with prompts.

        As many prompts start as come, whenever they do. A sequence begins to decode after some,
        beside others of the same round, and meets later ones once a gate opens.
        """
        alone, steps = self.alone(sequences), jnp.maximum(steps, 1.0)
        found = self.round(gates, sequences, rate)
        longer, ahead = found.lump - alone, self._following(found, alone, rate, steps)
        whole: Scalar = 1.0
        if self.prefill_first is not None:
            longer = jnp.where(self.prefill_first, found.lump, longer)
            whole = jnp.where(self.prefill_first, 0.0, 1.0)
        carried = jnp.minimum(found.prompts, self.prompts[-1])
        long_run = rate * alone / jnp.maximum(carried - rate * longer, 1e-3 * carried)
        # None until the first look, after which one is as likely as any other time.
        left, apart = jnp.maximum(steps - whole * ahead, 0.0), gates.apart
        looked = jnp.minimum(left - apart / 2, 1.5 * (left - apart))
        polled = ahead + long_run * jnp.maximum(looked, 0.0)
        # A wait, and a geometric number of iterations until a prompt comes.
        waited, begins = found.held / alone, -jnp.expm1(-rate * alone)
        late = long_run * waited * (waited + 2 / jnp.maximum(begins, 1e-12) - 1) / 2
        waiting = long_run * jnp.maximum(steps - late, 0.0) + (found.lumps - 1) / 2
        met = jnp.where(gates.apart > 1, polled, waiting)
        # Iterations that only prefill come between those in which it decodes.
        met = jnp.minimum(met, jnp.where(jnp.asarray(whole) > 0, steps, jnp.inf))
        return alone + met / steps * longer, met / steps

    def _following(self, found: Round, alone: Scalar, rate: Scalar, steps: Scalar) -> Scalar:
        """Iterations with prompts that follow the prompt of a request at once. [count]

        Half of the others of its round do, and those that came meanwhile: about geometric in
        number, of which no more than `steps` count.
        """
        come = -jnp.expm1(-rate * found.lump)
        next_lump = found.lump * jnp.minimum(1.0, self.carried(found.lump, rate) / found.prompts)
        later = 1 / jnp.maximum(jnp.exp(-rate * jnp.maximum(next_lump, alone)), 0.01)
        return (found.lumps - 1) / 2 - come * later * jnp.expm1(-steps / later)

    def _stall(self, sequences: Scalar, rate: Scalar, steps: Scalar) -> Scalar:
        """Mean time between two decode steps in iterations that only prefill. [s]

        They go on for as long as prompts have arrived in the last one. Before its first step a
        sequence waits for those that came while its own prompt waited and was prefilled.

        Args:
            sequences: Sequences that decode, itself included. [count]
            rate: Prompts that others start in a second. [s-1]
            steps: Iterations that it decodes in. [count]
        """
        alone = self.alone(sequences)
        first = alone + self.extra(sequences, self.carried(alone, rate))
        later = alone + self.extra(sequences, self.carried(first, rate))
        any_then = -jnp.expm1(-rate * first)
        goes_on = jnp.minimum(-jnp.expm1(-rate * later), 0.999)
        behind = any_then * later / (1 - goes_on)
        several = -jnp.expm1(-rate * alone) * (first + behind)
        # A prompt that fills iterations leaves the rest of the time for decode.
        each = (alone + self.filled(sequences)) / self.fill
        used = jnp.minimum(rate * each, 0.99)
        sojourn = each + used * each / (2 * (1 - used))
        behind = jnp.where(self.fill < 1, used * sojourn / (1 - used), behind)
        usual = jnp.where(self.fill < 1, alone * used / (1 - used), several)
        return usual + (behind - usual) / jnp.maximum(steps, 1.0)

    def stalled(
        self, sequences: Scalar, rate: Scalar, steps: Scalar, rare: float, free: Scalar = 1.0
    ) -> Scalar:
        """Time between two decode steps that few exceed, with iterations that only prefill. [s]

        Prompts come in a step, or while the sequence's own prompt is prefilled, and others while
        they are prefilled, so that iterations follow in geometric numbers. Prompts of which no two
        fit in one follow one another as customers of a busy period of M/D/1 do, in numbers of
        Borel's distribution [1].

        Args:
            sequences: Sequences that decode, itself included. [count]
            rate: Prompts that others start in a second. [s-1]
            steps: Iterations that it decodes in. [count]
            rare: Share of the times that are longer. [1]
            free: Share of the time in which slots are free: only then do prompts follow. [1]

        References:
            [1] Tanner, "A derivation of the Borel distribution", Biometrika 48, 1961.
        """
        alone, of_first = self.alone(sequences), 1 / jnp.maximum(steps, 1.0)
        first = alone + self.extra(sequences, self.carried(alone, rate))
        later = alone + self.extra(sequences, self.carried(first, rate))
        begins, then = -jnp.expm1(-rate * alone), -free * jnp.expm1(-rate * first)
        goes_on = jnp.clip(-free * jnp.expm1(-rate * later), 1e-12, 0.999)
        one = begins + of_first * (then - begins)
        two = begins * then + of_first * then * (goes_on - begins)
        further = jnp.ceil(jnp.log(rare / jnp.maximum(two, 1e-12)) / jnp.log(goes_on))
        several = first + jnp.maximum(further, 0.0) * later
        each = (alone + self.filled(sequences)) / self.fill
        used = jnp.clip(rate * each, 1e-12, 0.99)
        one = jnp.where(self.fill < 2, begins + of_first * (used - begins), one)
        numbers, factorials = jnp.arange(1.0, MOST_FOLLOWING + 1), jnp.asarray(LOG_FACTORIALS)
        so_many = (numbers - 1) * jnp.log(used * numbers) - used * numbers - factorials
        longer = 1 - jnp.cumsum(jnp.exp(so_many))
        follow = 1.0 + jnp.sum(jnp.where(one * longer > rare, 1.0, 0.0))
        stall = jnp.where(self.fill < 2, follow * each, several)
        return alone + jnp.where(one > rare, stall, 0.0)
