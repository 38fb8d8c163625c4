"""A run of `num_requests` on a server with in-flight batching: its times to first token.

Clients send as many requests at once as they keep open, and one more whenever one ends. Those sent
at once are prefilled one after another: with c of them, each of which fills an iteration, the last
waits c times as long as one alone and the mean (c + 1) / 2 times. What does not fit in the server
waits for complete cycles of it. Requests sent later find the steady state. Tests compare with a
simulation of the same server, iteration by iteration.
"""

from functools import cached_property

import jax.numpy as jnp

from sweep.kernel.inflight import Inflight
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.run_ends import LastWaves
from sweep.kernel.staggered import one_prompt

ROUNDED = 1e-6
"""Share of a number of requests that rounding may make of it. [1]"""
NONE_OF_ONE = 1e-4
"""Part of a request or a lump that rounding leaves. [count]"""


class FiniteRun(Inflight):
    """A run with a beginning and an end; throughput and time per token are those of `Inflight`.

    Attributes:
        requests: Requests of the run. [count]
    """

    def __init__(self, point: Point, *, side_by_side: bool = False) -> None:
        """Compute each quantity when it is first read."""
        super().__init__(point, side_by_side=side_by_side)
        self.requests = point.length("num_requests")
        if point.concurrency is None:
            self.clients = jnp.maximum(self.requests, self.concurrency)

    @cached_property
    def _parts(self) -> Scalar:
        return self.point.layout.dp_attention * self.microbatches

    @cached_property
    def _room(self) -> Scalar:
        """Prompts that an iteration has room for. [count]"""
        return self.point.server.max_num_tokens / self.isl

    def _lump_of(self, prompts: Scalar) -> Scalar:
        """Time of an iteration with so many prompts, on a line through known ones. [s]"""
        carried = self.cycle.lump / self.isl
        each = jnp.maximum(self.lump_latency - self._alone.latency, 0.0) / carried
        return self.lump_latency + each * (prompts - carried)

    def _first_tokens(self, sent: Scalar, of: Scalar) -> Scalar:
        """Mean time to first token of the first requests of a wave. [s]

        Args:
            sent: How many of them. [count]
            of: Requests of the wave. [count]
        """
        room, full = self._room, self._lump_of(self._room)
        lumps = jnp.ceil(sent / room - NONE_OF_ONE)
        # A lump completes `room` prompts, or a prompt takes several lumps.
        by_lump = room * lumps * (lumps - 1) / 2 + (sent - room * (lumps - 1)) * lumps
        split = jnp.abs(1 / room - jnp.round(1 / room)) > NONE_OF_ONE
        by_prompt = (sent + 1) / (2 * room) + jnp.where(split, 0.5, 0.0)
        by_prompt = jnp.where(sent > 1, jnp.minimum(by_prompt, lumps), lumps)
        passed = jnp.where(room >= 1, by_lump / sent, by_prompt)
        last = jnp.where(room >= 1, (sent - room * (lumps - 1)) / sent, 1 / sent)
        missing = full - self._lump_of(sent - room * (lumps - 1))
        spread = passed * full - jnp.where(sent >= of, last * missing, 0.0)
        together = jnp.where(of <= room, self._lump_of(jnp.minimum(of, room)), spread)
        return self._one_by_one((sent + 1) / 2, together)

    def _one_by_one(self, prompts: Scalar, together: Scalar) -> Scalar:
        """Time of so many prompts in turn where requests are staggered, else `together`. [s]"""
        if self.order.staggered is None:
            return together
        each = one_prompt(self.cycle, self._alone.latency, self.lump_latency)
        return jnp.where(self.order.staggered, prompts * each, together)

    @cached_property
    def _cycle_time(self) -> Scalar:
        """Time in which the server completes as many requests as it holds. [s]"""
        return self.concurrency / self.steady_rate

    @cached_property
    def _burst(self) -> Scalar:
        """Mean time to first token of the requests sent at once, without the front end. [s]"""
        held, sent = self.concurrency, self.clients
        waves = jnp.floor(sent / held + NONE_OF_ONE)
        rest = jnp.maximum(sent - waves * held, 0.0)
        part = held / self._parts
        total = held * waves * ((waves - 1) / 2 * self._cycle_time)
        total = total + held * waves * self._first_tokens(part, part)
        late = waves * self._cycle_time + self._first_tokens(
            jnp.maximum(rest / self._parts, 1.0), part
        )
        return (total + rest * late) / sent

    @cached_property
    def _later(self) -> Scalar:
        """Requests sent when earlier ones have ended. [count]"""
        return jnp.maximum(self.requests - self.clients, 0.0)

    @cached_property
    def _steady_ttft(self) -> Scalar:
        return self.slot_wait + self.start_wait + self.prefill_time

    @cached_property
    def ttft(self) -> Scalar:
        """Time from sending to first token, on average over the run. [s]"""
        return self._mean(self._burst + self.front_end, self._steady_ttft) + self.streaming

    def _mean(self, at_once: Scalar, later: Scalar) -> Scalar:
        """Mean over the run of a time of requests sent at once and of those sent later. [s]"""
        total = self.clients * at_once + self._later * later
        return total / jnp.maximum(self.clients + self._later, 1.0)

    @cached_property
    def queue_time(self) -> Scalar:
        """Time from sending to the first iteration with tokens of the prompt. [s]"""
        # Subtracted where it is not known apart, so that the other waits keep their digits.
        at_once = self._burst - self.prefill_time + self.front_end
        found = self._mean(at_once, self.slot_wait + self.start_wait)
        return jnp.maximum(found + self.streaming, 0.0)

    @cached_property
    def _pace(self) -> Scalar:
        """Time per output token after the first in the server, on average over the run. [s]"""
        alone, steps = self._alone.latency, jnp.maximum(self.osl - 1, 1.0)
        first, apart = self.order.prefill_first, self.order.apart
        in_step = first if first is None or apart is None else first & ~apart
        ends = LastWaves(self.cycle, self._waves, in_step)
        beside = jnp.maximum(self.lump_latency - alone, 0.0)
        # Where prompts go first, their iterations are beyond those that decode.
        longer = beside if first is None else jnp.where(first, self.lump_latency, beside)
        slower = (alone - jnp.minimum(self._empty, alone)) * steps * ends.absent
        least = jnp.minimum(self._steady_pace, self._empty)
        less = longer * ends.lumps + slower
        return jnp.maximum(self._steady_pace - less / steps, least)

    @cached_property
    def request_latency(self) -> Scalar:
        """Time from sending to last token, on average over the run. [s]"""
        steps = self.osl - 1
        return self.ttft + jnp.where(steps > 0, steps * self.tpot, 0.0)

    def ttft_quantile(self, share: float) -> Scalar:
        """Time to first token that a share of the requests of the run stays below. [s]

        Times of requests sent at once grow one after another; those sent later are alike.

        Args:
            share: Share of the requests. [1]
        """
        requests = self.clients + self._later
        before = jnp.minimum(self._first_token(share * requests), self._steady_ttft)
        # The rank without those sent later, of which a long run would leave few digits.
        at_once = self.clients - (1 - share) * requests
        # Where a share is exactly that of those sent later, rounding adds none of the others.
        at_once = jnp.where(at_once > ROUNDED * requests, at_once, 0.0)
        return jnp.maximum(self._first_token(at_once), before)

    def _first_token(self, rank: Scalar) -> Scalar:
        """Time to first token of a request by its rank among those sent at once. [s]"""
        held = self.concurrency
        number = jnp.maximum(rank, 0.0)
        waves = jnp.ceil(number / held - NONE_OF_ONE) - 1
        waves = jnp.maximum(waves, 0.0)
        within = jnp.maximum((number - waves * held) / self._parts, NONE_OF_ONE)
        part = held / self._parts
        lumps = jnp.maximum(jnp.ceil(within / self._room - NONE_OF_ONE), 1.0)
        # The last lump of a wave has the prompts, or part of one, that are left.
        left = jnp.clip(part - (lumps - 1) * self._room, 0.0, self._room)
        one = (lumps - 1) * self._lump_of(self._room) + self._lump_of(left)
        found = waves * self._cycle_time + self._one_by_one(within, one) + self.front_end
        return jnp.where(rank > 0, found, 0.0)
