"""A server with in-flight batching: how many requests it holds, and what an iteration does.

All requests ask for `isl` tokens and return `osl`. An iteration adds one token to every sequence
that decodes, and prefills as many prompt tokens with them as `max_num_tokens` leaves room for,
as continuous batching [1] with chunked prefill [2] does. Requests that were admitted together end
together, since all return as many tokens; so prompts arrive in lumps, not evenly mixed, and the
server runs in cycles: some iterations carry a lump, the others decode only. With room for all
prompts in one lump a cycle is a static batch.

A server that prefills first [3] lets sequences decode only when no prompt waits. All requests then
start to decode together and end together: a cycle is all lumps, and then decoding only.

Sizes are means over a cycle, so that prompts need not fill iterations exactly.

References:
    [1] Yu et al., "Orca", OSDI 2022.
    [2] Agrawal et al., "Sarathi-Serve", OSDI 2024.
    [3] Zheng et al., "SGLang", NeurIPS 2024.
"""

import dataclasses
from functools import cached_property

import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel import phases
from sweep.kernel.gates import looks_apart
from sweep.kernel.held_back import HeldBack, held_back, tokens_until_sent
from sweep.kernel.keeps_step import KEEPS_STEP, Order, order_of
from sweep.kernel.operators.cost import Scalar, is_nothing, is_one
from sweep.kernel.params import Point
from sweep.kernel.queueing import slot_wait
from sweep.kernel.residents import held_requests
from sweep.kernel.run_ends import iterations_at_the_ends
from sweep.kernel.server_cycle import server_cycle
from sweep.kernel.spread import seen_by_a_prompt
from sweep.kernel.staggered import first_token_delay, neighbours, rest_of_iteration

LUMP, MORE, ALONE, HALF = range(4)
"""Passes that are computed side by side: with a lump of prompts, with one prompt more, of sequences
that only decode, and of half of these."""


class Inflight:
    """Steady state of the server at one point, and a run of `num_requests`.

    Attributes:
        point: Model, machine, precision, layout, server and lengths.
        concurrency: Requests that one replica holds. [count]
        clients: Requests that clients keep open at it, those it cannot hold included. [count]
        order: The order in which its requests start and end.
        cycle: Mean iterations of one microbatch of one attention group.
        side_by_side: Whether passes are computed side by side: half of the time to compile, for
            few points.
    """

    def __init__(
        self, point: Point, *, side_by_side: bool = False, order: Order | None = None
    ) -> None:
        """Compute each quantity when it is first read.

        Args:
            point: Model, machine, precision, layout, server and lengths.
            side_by_side: Whether passes are computed side by side.
            order: The order in which its requests start and end; that of clients if not given.
        """
        self.point = point
        self.side_by_side = side_by_side and point.draft_tokens is None
        self.isl, self.osl = point.new_tokens, point.length("osl")
        self.steps = point.decode_passes
        self.concurrency = held_requests(point)
        self.clients = self.concurrency
        if point.concurrency is not None:
            sent = point.concurrency
            if point.num_requests is not None:
                sent = jnp.minimum(sent, point.num_requests)
            fill = jnp.isinf(jnp.asarray(point.concurrency))
            self.clients = jnp.where(fill, self.concurrency, jnp.maximum(self.concurrency, sent))
        groups = point.layout.dp_attention
        held = jnp.maximum(self.concurrency / groups, 1.0)
        stages = point.layout.pp
        self.microbatches = stages if is_one(stages) else jnp.minimum(stages, held)
        self.order = order_of(point) if order is None else order
        self.cycle = server_cycle(point, self.order, held / self.microbatches)

    @cached_property
    def _alone(self) -> phases.Pass:
        """An iteration that decodes only."""
        decoding = self.cycle.decoding_alone
        if self.side_by_side:
            attention = phases.decode_attention(self.point, decoding)
            return phases.Pass(self._passes[ALONE], attention)
        return phases.decode_pass(self.point, decoding)

    @cached_property
    def _passes(self) -> Float[Array, "passes"]:
        """Times without attention, in the order of `LUMP`, `MORE`, `ALONE` and `HALF`. [s]"""
        c, none = self.cycle, 0.0
        lumps = c.lump, c.lump + self.isl
        return phases.mixed_latencies(
            self.point,
            sequences=[*[c.decoding_beside] * 2, c.decoding_alone, c.decoding_alone / 2],
            prompt_tokens=[*lumps, none, none],
            prompts_ended=[*(lump / self.isl for lump in lumps), none, none],
            prompts_cached=[*(self._cached(lump / c.chunk) for lump in lumps), none, none],
        )

    @cached_property
    def lump_latency(self) -> Scalar:
        """Time of an iteration that carries prompt tokens. [s]"""
        return self._carrying(self.cycle.lump, LUMP)

    def _carrying(self, lump: Scalar, which: int) -> Scalar:
        """Time of an iteration that carries so many prompt tokens. [s]

        Args:
            lump: Prompt tokens. [count]
            which: Its index in `_passes`.
        """
        c = self.cycle
        # Prompts, or chunks of one: lump / chunk, without a quotient at every point.
        carried = lump / self.isl * c.chunks
        if self.side_by_side:
            others: Scalar = self._passes[which]
        else:
            others = phases.mixed_latency(
                self.point,
                c.decoding_beside,
                prompt_tokens=lump,
                prompts_ended=lump / self.isl,
                prompts_cached=self._cached(carried),
            )
        prefill = phases.prefill_attention_latency(
            self.point, sequences=carried, chunk=c.chunk, chunks=c.chunks
        )
        beside = self._alone.attention * c.decoding_beside / c.decoding_alone
        return others + prefill + beside

    @cached_property
    def _one_more(self) -> Scalar:
        """Time that another prompt adds to an iteration with some. [s]"""
        return self._carrying(self.cycle.lump + self.isl, MORE) - self.lump_latency

    @cached_property
    def _uneven(self) -> Scalar:
        """Time of prompts beyond those of mean lumps, until that of a request is through. [s]"""
        carried = self.cycle.lump / self.isl
        return self.cycle.uneven * (self.lump_latency - self._alone.latency) / carried

    def _cached(self, prompts: Scalar) -> Scalar:
        """Tokens of so many prompts that were found in the cache. [count]"""
        found = self.point.cached_tokens
        return 0.0 if is_nothing(found) else prompts * found

    @cached_property
    def iteration_latency(self) -> Scalar:
        """Time of an iteration, on average over a cycle. [s]"""
        lumps = self.cycle.lumps
        return lumps * self.lump_latency + (1 - lumps) * self._alone.latency

    @cached_property
    def slot_wait(self) -> Scalar:
        """Time from sending to admission where clients keep more open than fit. [s]"""
        return self._waits[0]

    @cached_property
    def _waits(self) -> tuple[Scalar, Scalar]:
        """Wait for a slot, and the part of `_passed` that it does not take the place of. [s]"""
        inside, passed = self.clients, self._passed
        if not is_nothing(self._away):
            inside = inside - self.steady_rate * self._away
        wait = slot_wait(inside, self.concurrency, self.steady_rate)
        if is_nothing(passed):
            return wait, 0.0
        # One that waits for a slot finds those prompts when it decodes.
        return jnp.maximum(wait - passed, 0.0), jnp.maximum(passed - wait, 0.0)

    @cached_property
    def request_latency(self) -> Scalar:
        """Time from sending to last token, by Little's law. [s]"""
        slot_wait, passed = self._waits
        return slot_wait + self._served - passed + self._before_server

    @cached_property
    def _served(self) -> Scalar:
        """Time from admission to last token, by Little's law. [s]"""
        return self.cycle.residents * self.iteration_latency / self.cycle.started

    @cached_property
    def front_end(self) -> Scalar:
        """Time outside the iterations until the first token is sent. [s]"""
        alone, factors = self._alone.latency, self.point.factors
        steps = factors.first_token_steps
        if self.order.staggered is None or is_nothing(steps):
            return first_token_delay(factors, alone)
        beside = neighbours(self.cycle, alone, self.lump_latency, steps)
        return factors.front_end_s + jnp.where(self.order.staggered, beside, steps * alone)

    @cached_property
    def _neighbour(self) -> Scalar:
        """Time of the iterations that a request sees before and after its own. [s]"""
        alone = self._alone.latency
        if self.order.staggered is None:
            return alone
        beside = neighbours(self.cycle, alone, self.lump_latency)
        return jnp.where(self.order.staggered, beside, alone)

    @property
    def _passed(self) -> Scalar:
        """Time of prompts of others while a request waits: it does not decode beside these. [s]"""
        return self._until_its_end(self._neighbour) - self._until_its_end(self._alone.latency)

    @cached_property
    def _held(self) -> HeldBack | None:
        parts = self.point.layout.dp_attention * self.microbatches
        return held_back(self.point, self.cycle, parts)

    @cached_property
    def held_back(self) -> Scalar:
        """Time for which the scheduler holds a prompt back for others. [s]"""
        return 0.0 if self._held is None else self._held.iterations * self._alone.latency

    @cached_property
    def start_wait(self) -> Scalar:
        """Time of the front end, of the running iteration and of prompts before its own. [s]"""
        return self._before_server + self._room_wait

    @cached_property
    def _room_wait(self) -> Scalar:
        """Time of prompts before its own for which an iteration has no room. [s]"""
        waits = self.cycle.waited * self.lump_latency
        if self.order.apart is None:
            return waits
        own = self.cycle.chunks * self.lump_latency + self.steps * self._alone.latency / 2
        return jnp.where(self.order.apart, jnp.clip(self._served - own, 0.0, waits), waits)

    def _until_its_end(self, in_turn: Scalar) -> Scalar:
        """Time until the iteration ends that runs when a request is sent. [s]

        Args:
            in_turn: That where requests start one at a time and others are in the server. [s]
        """
        order, cycle = self.order, self.cycle
        if order.out_of_step is None or order.staggered is None:
            return 0.0
        in_turn = jnp.clip(cycle.residents - 1, 0.0, 1.0) * in_turn
        if order.apart is None:
            return jnp.where(order.staggered, in_turn, 0.0)
        # Prompts of varied lengths that start together are in the time of the prefill.
        running = rest_of_iteration(cycle, self._alone.latency, self.lump_latency)
        return jnp.where(order.out_of_step, jnp.where(order.staggered, in_turn, running), 0.0)

    @cached_property
    def queue_time(self) -> Scalar:
        """Time from sending to the first iteration with tokens of the prompt. [s]"""
        return self.slot_wait + self.start_wait

    @cached_property
    def prefill_time(self) -> Scalar:
        """Time of the iterations that prefill a prompt, beside what others do in them. [s]"""
        spent = self.cycle.chunks * self.lump_latency + self._uneven
        if self._held is not None:
            spent = spent + self._held.others * self._one_more
        if self.order.apart is None:
            return spent
        limit, first = self.point.server.max_num_tokens, self.order.prefill_first
        more = seen_by_a_prompt(self.cycle, self.isl, limit, first, looks_apart(self.point))
        longer = spent + more * self._one_more
        if self.order.lost is not None:
            few = self._few
            together = few.start_wait + few.prefill_time - self.start_wait
            longer = jnp.where(self.order.lost, jnp.maximum(longer, together), longer)
        # No token takes less than half of an iteration that decodes only.
        most = self._served - self._room_wait - self.steps * self._alone.latency / 2
        return jnp.where(self.order.apart, jnp.minimum(longer, most), spent)

    @cached_property
    def _few(self) -> "Inflight":
        """The server with no more clients than keep step."""
        clients = jnp.minimum(self.point.length("concurrency"), KEEPS_STEP)
        order = Order(self.order.prefill_first, None, None, None, None)
        point = dataclasses.replace(self.point, concurrency=clients)
        return Inflight(point, side_by_side=self.side_by_side, order=order)

    @cached_property
    def ttft(self) -> Scalar:
        """Time from sending to first token. [s]"""
        return self.queue_time + self.prefill_time + self.streaming

    @cached_property
    def streaming(self) -> Scalar:
        """Time from the first token to its sending, where several are sent at once. [s]"""
        late = tokens_until_sent(self.point)
        return 0.0 if late is None else late * self._pace

    @cached_property
    def tpot(self) -> Scalar:
        """Time per output token after the first, as the client sees them. [s]"""
        late = tokens_until_sent(self.point)
        if late is None:
            return self._pace
        return self._pace * (1 - late / jnp.maximum(self.osl - 1, 1.0))

    @property
    def _pace(self) -> Scalar:
        """Time per output token after the first in the server. [s]"""
        return self._steady_pace

    @cached_property
    def _steady_pace(self) -> Scalar:
        """The same in the steady state. [s]"""
        steps, lumps = self.osl - 1, self.cycle.interrupted
        spent = lumps * self.lump_latency + self.cycle.undisturbed * self._alone.latency
        spent = jnp.maximum(spent - self._uneven - self._waits[1], 0.0)
        if self.order.apart is not None:
            first = self._room_wait + self.prefill_time
            spent = jnp.where(self.order.apart, jnp.maximum(self._served - first, 0.0), spent)
        return jnp.where(steps > 0, spent / jnp.maximum(steps, 1.0), jnp.nan)

    @cached_property
    def tpot_p99(self) -> Scalar:
        """Time between output tokens that 99 % of them stay below. [s]"""
        steps = self.steps
        seldom = self.cycle.interrupted <= (1 - 0.99) * steps
        longer = jnp.maximum(self.lump_latency, self._alone.latency)
        if self.order.prefill_first is not None:
            # One token in osl - 1 waits for all lumps behind its own.
            stalled = self._alone.latency + self.cycle.interrupted * self.lump_latency
            seldom = jnp.where(self.order.prefill_first, seldom | (steps > 100), seldom)
            longer = jnp.where(self.order.prefill_first, stalled, longer)
        spent = jnp.where(seldom, self._alone.latency, longer)
        return jnp.where(steps > 0, spent, jnp.nan)

    def ttft_quantile(self, share: float) -> Scalar:
        """Time to first token that a share of the requests stays below: all are alike. [s]"""
        del share
        return self.ttft

    @cached_property
    def steady_rate(self) -> Scalar:
        """Requests that one replica completes in a second of the steady state. [s-1]"""
        groups = self.point.layout.dp_attention
        started = groups * self.microbatches * self.cycle.started
        return started / self.iteration_latency * self._in_server

    @cached_property
    def _in_server(self) -> Scalar:
        """Mean share of its slots that are taken, while other requests are on their way. [1]"""
        if is_nothing(self._away) or self.point.concurrency is None:
            return 1.0
        always = jnp.isinf(jnp.asarray(self.point.concurrency))
        inside = self._served / (self._served + self._away)
        # Clients beyond the slots take those of requests on their way.
        taken = jnp.minimum(self.clients / self.concurrency * inside, 1.0)
        return jnp.where(always, 1.0, taken)

    @cached_property
    def _before_server(self) -> Scalar:
        """Time from sending until a request takes or awaits a slot. [s]"""
        return self.front_end + self.held_back + self._until_its_end(self._neighbour)

    @cached_property
    def _away(self) -> Scalar:
        """The same without prompts of others, beside which it would decode in its slot. [s]"""
        return self.front_end + self.held_back + self._until_its_end(self._alone.latency)

    @cached_property
    def request_rate(self) -> Scalar:
        """Requests that one replica completes in a second, of the run if it has an end. [s-1]"""
        if self.point.num_requests is None:
            return self.steady_rate
        requests = self.point.num_requests
        return requests / (requests / self.steady_rate + self._ramp_and_drain)

    @cached_property
    def _ramp_and_drain(self) -> Scalar:
        """Time that the ends of a run cost beyond its share of steady iterations. [s]

        Steady iterations count the work of its requests, except for the time that an iteration
        takes however few sequences it has: a straight line through the times of half the
        sequences and of all, continued to none.
        """
        iterations = iterations_at_the_ends(self.cycle, self.steps, self._waves, self.point.osl_cv)
        return self.point.factors.ramp * self._empty * iterations

    @property
    def _waves(self) -> Scalar:
        """Requests of the run over those that the server holds. [count]"""
        return self.point.length("num_requests") / jnp.maximum(self.concurrency, 1.0)

    @cached_property
    def _empty(self) -> Scalar:
        """Time of an iteration that does not depend on its sequences. [s]"""
        half: Scalar
        if self.side_by_side:
            half = self._passes[HALF]
        else:
            half = phases.mixed_latency(self.point, self.cycle.decoding_alone / 2)
        return jnp.maximum(2 * half - self._alone.others, 0.0)
