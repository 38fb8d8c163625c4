"""A server with in-flight batching whose requests arrive at a rate, whether or not it keeps up.

Arrivals are those of a renewal process: exponential gaps, or gamma-distributed ones where
`burstiness` is given. An arriving request waits for a slot, for the iteration that is running, and
for prompts before it; its own iterations then carry prompts that arrived beside it.

- Sequences that decode: the mean λ · (osl − 1) · t, for the time t of an iteration with one more of
  them, as an arrival sees the mean of the others (PASTA [1]); a fixed point on the service curve.
- Iteration: a server whose vacations are decode steps and whose gate opens between iterations, so
  that residual and companions follow from the first two moments of an iteration [2].
- Prompts that do not fit in one iteration: M/D/1 with batches, by the approximation of [3].
- Slots: requests held while slots are free are those of a processor-sharing queue [4] whose
  sojourn grows linearly with their number, a negative binomial; beyond, M/D/c by
  Allen and Cunneen [5] with its probability of a wait. The sojourn line goes through the fixed
  point and the closed loop with every slot taken.
- Percentiles: a mixture of uniform distributions for the running iteration and companions, and an
  exponential tail for waits.
- Bursts: waits as in GI/D/1; the renewal function of the gaps says how many others of the same
  burst come before a request, in its own iterations, and while it decodes.

References:
    [1] Wolff, "Poisson Arrivals See Time Averages", Operations Research 30(2), 1982.
    [2] Takagi, Queueing Analysis, volume 1: Vacation and Priority Systems, 1991.
    [3] Sakasegawa, "An approximation formula L_q ≈ α·ρ^β/(1−ρ)", Annals of the Institute of
        Statistical Mathematics 29, 1977.
    [4] Cohen, "The multiple phase service network with generalized processor sharing", Acta
        Informatica 12, 1979.
    [5] Allen, Probability, Statistics, and Queueing Theory, 2nd edition, 1990.
"""

import dataclasses
from functools import cached_property

import jax.numpy as jnp

from sweep.kernel.held_back import tokens_until_sent
from sweep.kernel.inflight import Inflight
from sweep.kernel.mixture import Mixture
from sweep.kernel.open_iterations import Iterations
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.queueing import (
    FLATTEST,
    NEARLY,
    Slots,
    likely_most,
    others_near,
    slots,
)
from sweep.kernel.residents import at_capacity
from sweep.kernel.root import root
from sweep.kernel.spread import likely_lengths
from sweep.kernel.staggered import first_token_delay
from sweep.kernel.visit import Stream, Visit, visit_of

ROUNDS = 5
"""Rounds in which the sequences that decode are found. [count]"""
RARE = 1 - 0.99
"""Share of the gaps between tokens that are longer than the 99th percentile. [1]"""


class OpenLoop:
    """Steady state of the server at `request_rate`.

    Attributes:
        point: Model, machine, precision, layout, server, lengths and arrivals.
        iterations: Times of the server's iterations, which hold at any rate.
        full: The closed loop with every slot taken.
        max_request_rate: Rate that the server can sustain, of one replica. [s-1]
        utilisation: `request_rate` over it. [1]
        stable: Whether the server keeps up.
    """

    def __init__(self, point: Point, iterations: Iterations | None = None) -> None:
        """Compute each quantity when it is first read.

        Args:
            point: Model, machine, precision, layout, server, lengths and arrivals.
            iterations: Times of the same server's iterations, if they are known.
        """
        self.point = point
        self.iterations = Iterations(point) if iterations is None else iterations
        self.full = self.iterations.full
        self.max_request_rate = self.full.steady_rate
        arrivals = point.length("request_rate")
        self.utilisation = arrivals / self.max_request_rate
        self.stable = self.utilisation < 1
        self._parts = self.iterations.parts
        # Beyond the capacity the figures of a stable server are replaced.
        self._rate = jnp.minimum(arrivals, NEARLY * self.max_request_rate) / self._parts
        self._held, self._steps = self.iterations.held, self.iterations.steps
        self._fill, self._gates = self.iterations.fill, self.iterations.gates
        self._stream = Stream(
            self._rate,
            point.burstiness,
            self.utilisation,
            0.0 if point.isl_cv is None else point.isl_cv**2,
        )
        self._varied_osl = 0.0 if point.osl_cv is None else point.osl_cv**2

    @cached_property
    def _interrupting(self) -> Scalar:
        """Arrivals that can start while a sequence decodes: not those that wait for its slot."""
        held, used = self._held, jnp.minimum(self.utilisation, NEARLY)
        return self._rate * (1 - used ** (held - 1) / held)

    @cached_property
    def _decoding(self) -> Scalar:
        """Sequences that decode, on average: a fixed point. [count]"""
        curve = self.iterations.curve
        # Computed here, once, and not in the loop.
        _ = self._interrupting, curve.lines

        def more(middle: Scalar) -> Scalar:
            beside, rate = self._seen_decoding(middle)
            spent = self._steps * curve.decode_iteration(beside, rate, self._steps)[0]
            return self._rate * spent - middle

        whole = jnp.asarray(self._held, float)
        return root(more, jnp.zeros_like(whole), whole, ROUNDS)

    def _clustered(self, decoding: Scalar) -> Scalar:
        """Others beyond the mean that decode beside a request: those of the same burst. [count]

        As many arrive while one decodes as decode at any time, by Little's law.
        """
        if self.point.burstiness is None:
            return 0.0
        return others_near(decoding, self.point.burstiness) - decoding

    def _seen_decoding(self, decoding: Scalar) -> tuple[Scalar, Scalar]:
        """Sequences that decode with a request, itself included, and prompts that interrupt it.

        Half of the others of its burst come after it.

        Args:
            decoding: Sequences that decode on average. [count]

        Returns:
            Their number and the rate of the prompts. [count, s-1]
        """
        near = self._clustered(decoding)
        beside = jnp.clip(1 + decoding + near, 1.0, self._held)
        if self.point.burstiness is None:
            return beside, self._interrupting
        later = 1 + near / 2 / jnp.maximum(decoding, 1e-9)
        return beside, self._interrupting * jnp.maximum(later, 0.0)

    @cached_property
    def _decode(self) -> tuple[Scalar, Scalar, Scalar]:
        beside, interrupting = self._seen_decoding(self._decoding)
        mean, alone, share = self.iterations.curve.decode_iteration(
            beside, interrupting, self._steps
        )
        # By Little's law no more than the slots hold can decode.
        longest = self._held / (self._rate * jnp.maximum(self._steps, 1.0))
        return jnp.minimum(mean, longest), alone, share

    @cached_property
    def tpot(self) -> Scalar:
        """Time per output token after the first; that of full slots if unstable. [s]"""
        tokens = self.point.length("osl") - 1
        spent = self._decode[0] * (self._steps / jnp.maximum(tokens, 1.0))
        late = tokens_until_sent(self.point)
        if late is not None:
            spent = spent * jnp.maximum(1 - late / jnp.maximum(tokens, 1.0), 0.0)
        return jnp.where(self.stable, jnp.where(tokens > 0, spent, jnp.nan), self.full.tpot)

    @cached_property
    def _streaming(self) -> Scalar:
        """Time from the first token to its sending, where several are sent at once. [s]"""
        late = tokens_until_sent(self.point)
        if late is None:
            return 0.0
        each = self._steps / jnp.maximum(self.point.length("osl") - 1, 1.0)
        return late * each * self._decode[0]

    @cached_property
    def tpot_p99(self) -> Scalar:
        """Time between output tokens that 99 % of them stay below. [s]

        It is that of many sequences, or of prompts: of those that arrive in an iteration that
        decodes only or in one with prompts. Beyond one lump there is no more room.
        """
        curve, (mean, alone, share) = self.iterations.curve, self._decode
        beside, interrupting = self._seen_decoding(self._decoding)
        busiest = curve.alone(jnp.minimum(1 + likely_most(beside - 1, RARE), self._held))
        longer = alone + curve.extra(beside, curve.carried(alone, interrupting))
        often = RARE / jnp.maximum(share, RARE)
        arrived = jnp.maximum(
            likely_most(interrupting * alone, RARE), likely_most(interrupting * longer, often)
        )
        if self._gates is not None:
            started = curve.round(self._gates, beside, interrupting).prompts
            arrived = jnp.where(self._gates.shut, likely_most(started, RARE), arrived)
        carried = jnp.where(self._fill < 1, curve.prompts[-1], jnp.maximum(arrived, 1.0))
        longer = alone + curve.extra(beside, carried)
        spent = jnp.where(share > RARE, jnp.maximum(longer, busiest), busiest)
        if curve.prefill_first is not None:
            free = 1 - self.slots.waits
            stalled = curve.stalled(beside, interrupting, self._steps, RARE, free)
            if self._gates is not None:
                stalled = jnp.where(self._gates.shut, spent, stalled)
            stalled = jnp.maximum(stalled, jnp.maximum(mean, busiest))
            spent = jnp.where(curve.prefill_first, stalled, spent)
        spent = jnp.where(self._steps > 0, spent, jnp.nan)
        return jnp.where(self.stable, spent, self.full.tpot_p99)

    # An arriving request.

    @cached_property
    def visit(self) -> Visit:
        """The iterations that an arriving request finds, once it has a slot."""
        # Half of those of the same burst came before it.
        met = self._decoding + self._clustered(self._decoding) / 2
        return visit_of(self.iterations, self._stream, jnp.clip(met, 0.0, self._held))

    @cached_property
    def slots(self) -> Slots:
        """Waiting for a slot."""
        visit, held, rate = self.visit, self._held, self._rate
        waits = visit.start.wait + visit.backlog * visit.backlog_wait
        sojourn = waits + visit.prefill + self._steps * self._decode[0]
        now = jnp.minimum(rate * sojourn, 0.97 * held)
        full = held * self._parts / self.max_request_rate
        growth = jnp.clip((full - sojourn) / (held - now), 0.0, sojourn / jnp.maximum(now, 1e-6))
        alone = jnp.maximum(sojourn - growth * now, FLATTEST * sojourn)
        capacity = self.max_request_rate / self._parts
        varied = self._varied_osl
        return slots(rate, alone, growth, held, capacity, self._stream.dispersion, varied)

    @cached_property
    def _meets_running(self) -> Scalar:
        """Share of the requests that start behind a running iteration: not after a wait. [1]"""
        return jnp.maximum(self.slots.busy - self.slots.waits, 0.0)

    @property
    def _held_in_slot(self) -> Scalar:
        """Wait for others to start with of one that waited for a slot, beside others. [s]"""
        return self.visit.start.held_back * jnp.clip(self._held - 1, 0.0, 1.0)

    @property
    def _front_end(self) -> Scalar:
        return first_token_delay(self.point.factors, self.visit.alone)

    @property
    def _sent_after(self) -> Scalar:
        """Time of a request outside the iterations until its first token is sent. [s]"""
        return self._front_end + self._streaming

    def _if_stable(self, value: Scalar) -> Scalar:
        return jnp.where(self.stable, value, jnp.nan)

    @cached_property
    def queue_time(self) -> Scalar:
        """Time from arrival to the first iteration with the prompt; NaN if unstable. [s]"""
        visit, slot = self.visit, self.slots
        running = self._meets_running * visit.start.wait
        if self._gates is not None:
            running = running + slot.waits * self._held_in_slot
        waits = slot.waits * slot.wait + running + visit.backlog * visit.backlog_wait
        return self._if_stable(waits + self._front_end)

    @cached_property
    def prefill_time(self) -> Scalar:
        """Time of the iterations that prefill a prompt; NaN if unstable. [s]"""
        return self._if_stable(self.visit.prefill)

    @cached_property
    def ttft(self) -> Scalar:
        """Time from arrival to first token; NaN if unstable. [s]"""
        return self._computed + self._streaming

    @cached_property
    def _computed(self) -> Scalar:
        return self.queue_time + self.prefill_time

    @cached_property
    def request_latency(self) -> Scalar:
        """Time from arrival to last token; NaN if unstable. [s]"""
        return self._computed + self._steps * self._decode[0]

    @cached_property
    def concurrency(self) -> Scalar:
        """Requests that one replica holds on average, without those that wait. [count]"""
        waiting = self.slots.waits * self.slots.wait + self._front_end
        held = self._rate * self._parts * (self.request_latency - waiting)
        capacity = self.full.concurrency
        return jnp.where(self.stable, jnp.minimum(held, capacity), capacity)

    @cached_property
    def busy(self) -> Scalar:
        """Share of the time in which the server has requests. [1]"""
        return jnp.where(self.stable, self.slots.busy, 1.0)

    @cached_property
    def while_busy(self) -> Inflight:
        """The closed loop of as many clients as requests are held while there are any."""
        held = jnp.clip(self.concurrency / self.busy, 1.0, self.full.concurrency)
        return Inflight(dataclasses.replace(at_capacity(self.point), concurrency=held))

    @cached_property
    def request_rate(self) -> Scalar:
        """Requests that one replica completes in a second. [s-1]"""
        return jnp.minimum(self.point.length("request_rate"), self.max_request_rate)

    @cached_property
    def iteration_latency(self) -> Scalar:
        """Time of an iteration while the server works, on average. [s]"""
        return jnp.where(self.stable, self.visit.start.iteration, self.full.iteration_latency)

    def ttft_quantile(self, share: float) -> Scalar:
        """Time to first token that a share of the requests stays below; NaN if unstable. [s]

        Args:
            share: Share of the requests. [1]
        """
        return self._if_stable(self._mixture.quantile(share) + self._sent_after)

    def share_later(self, time: Scalar) -> Scalar:
        """Share of the requests whose time to first token is longer; 1 if unstable. [1]

        Args:
            time: A time to first token. [s]
        """
        longer = self._mixture.share_later(time - self._sent_after)
        return jnp.where(self.stable, longer, 1.0)

    @cached_property
    def _mixture(self) -> Mixture:
        """Times to first token: uniform distributions, and waits for a slot or for prompts.

        An arriving request finds no iteration running, one that decodes only, or one with prompts;
        and has companions in its own or not. Bursts have companions without a usual number, more or
        less as a geometric distribution. Prompts of varied length differ by their own work.
        """
        visit, slot = self.visit, self.slots
        batched, shape = self._fill >= 1, self.point.burstiness
        room = jnp.maximum(self._fill - 1, 0.0)
        starts, widths, weights, further = [], [], [], []
        for running, part, later, beside, some in self._found:
            company = jnp.minimum(beside / jnp.maximum(some, 1e-9), room)
            uneven = 0.0 if shape is None else jnp.maximum(1 - shape, 0.0)
            uneven = uneven * jnp.maximum(company - 1, 0.0)
            alone = later + visit.prefill_alone
            starts += [alone, alone + visit.each * (company - uneven)]
            widths += [jnp.maximum(running, 1e-6 * visit.prefill_alone)] * 2
            weights += [part * (1 - some), part * some]
            further += [jnp.zeros_like(company), visit.each * uneven]
        start, width, weight = (jnp.stack(each) for each in (starts, widths, weights))
        least = 1e-9 * visit.prefill_alone
        more = None if shape is None else jnp.maximum(jnp.stack(further), least)
        if self.point.isl_cv is not None:
            longer = likely_lengths(self.point.isl_cv)[:, None]
            own = jnp.where(batched, visit.each, visit.prefill_alone) * (longer - 1)
            start = jnp.maximum(start[None] + own, 1e-3 * visit.prefill_alone).ravel()
            width, weight = (jnp.tile(each, longer.size) for each in (width, weight))
            weight = weight / longer.size
            more = None if more is None else jnp.tile(more, longer.size)
        waits = slot.waits + visit.backlog - slot.waits * visit.backlog
        mean = (slot.waits * slot.wait + visit.backlog * visit.backlog_wait) / jnp.maximum(
            slot.waits + visit.backlog, 1e-12
        )
        return Mixture(start, width, weight, more, waits, jnp.maximum(mean, 1e-9 * start.max()))

    @cached_property
    def _found(self) -> list[tuple[Scalar, ...]]:
        """Iterations and prompts that an arriving request finds.

        Returns:
            For no iteration running, for those that decode only, for one with prompts and for
            prompts that wait for others: the time of it, the share of the requests, the wait after
            it, companions, and the share of those with any. [s, 1, s, count, 1]
        """
        meets, start = self._meets_running, self.visit.start
        first = meets
        late: Scalar = 0.0
        meanwhile: Scalar = 0.0
        alone: Scalar = 0.0
        wider: Scalar = 0.0
        if self._gates is not None:
            late, meanwhile, wider = start.hold, self._rate * start.hold, start.before
            first = meets * (1 - start.joins)
            # Of those that find none, some waited for a slot beside others.
            alone = self.slots.waits * self._held_in_slot / jnp.maximum(1 - meets, 1e-12)
        found: list[tuple[Scalar, ...]] = []
        for running, part, later, further in (
            (jnp.zeros(()), 1 - meets, alone, 0.0),
            (start.between, first * start.decode_only, late, meanwhile),
            (start.lumps, first * (1 - start.decode_only), late, meanwhile),
        ):
            beside = self._stream.beside(self._rate * running) + further
            beside = jnp.where(self._fill >= 1, beside, 0.0)
            found.append((running + wider, part, later, beside, -jnp.expm1(-beside)))
        if self._gates is not None:
            share, one = meets * start.joins, jnp.ones(())
            found.append((start.hold + wider, share, 0.0, start.waiting, one))
        return found
