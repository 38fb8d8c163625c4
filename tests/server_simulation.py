"""A server simulated iteration by iteration: the oracle of its closed form."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from sweep.kernel import phases
from sweep.kernel.params import Point

Seconds = Callable[[int, float, int, int], float]
"""Time of an iteration, from the sequences that decode, the tokens they attend to together, the
prompt tokens, and the prompts that end."""


@dataclass
class Record:
    """Times of one request in a simulated run. [s]

    Attributes:
        sent: When its client sent it.
        admitted: When it got a slot.
        first: When its first token came.
        last: When its last token came.
    """

    sent: float
    admitted: float = np.nan
    first: float = np.nan
    last: float = np.nan


@dataclass
class Run:
    """A simulated run.

    Attributes:
        records: Its requests in the order they were sent.
        gaps: Seconds between tokens, and how many gaps are so long.
    """

    records: list[Record] = field(default_factory=list)
    gaps: dict[float, int] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """When the last token of all came. [s]"""
        return max(each.last for each in self.records)

    def ttft(self, skip: int = 0, until: int | None = None) -> np.ndarray:
        """Times to first token of requests from `skip` to `until`. [s]"""
        return np.asarray([each.first - each.sent for each in self.records[skip:until]])


def simulate(
    arrivals: list[float],
    *,
    clients: int | None = None,
    slots: int,
    isl: int,
    osl: int,
    max_num_tokens: int,
    seconds: Seconds,
    prefill_first: bool = False,
) -> Run:
    """Serve requests first come, first served.

    Sequences that decode go before prompts, or after them with `prefill_first`; the last chunk of
    a prompt yields a token.

    Args:
        arrivals: When requests are sent, in order. [s]
        clients: Requests kept open: later ones are sent as earlier ones end. [count]
        slots: Requests that the server holds. [count]
        isl: Input tokens of each.
        osl: Output tokens of each.
        max_num_tokens: Tokens of an iteration.
        seconds: Time of an iteration.
        prefill_first: Whether iterations with prompts decode nothing.
    """
    run, clock, iteration = Run(), 0.0, 0
    coming = deque(arrivals if clients is None else arrivals[:clients])
    unsent = 0 if clients is None else len(arrivals) - len(coming)
    waiting: deque[Record] = deque()
    prompts: deque[list] = deque()
    ends: list[tuple[int, int, Record]] = []
    decoding, attended, order, steps = 0, 0.0, 0, 0
    while coming or waiting or prompts or decoding or unsent:
        if not (waiting or prompts or decoding) and coming:
            clock = max(clock, coming[0])
        while coming and coming[0] <= clock:
            run.records.append(Record(coming.popleft()))
            waiting.append(run.records[-1])
        while waiting and decoding + len(prompts) < slots:
            waiting[0].admitted = clock
            prompts.append([waiting.popleft(), isl])
        running = 0 if prefill_first and prompts else min(decoding, max_num_tokens)
        left, prefilled, ended = max_num_tokens - running, 0, []
        while prompts and left:
            taken = min(prompts[0][1], left)
            prompts[0][1] -= taken
            left, prefilled = left - taken, prefilled + taken
            if not prompts[0][1]:
                ended.append(prompts.popleft()[0])
        spent = seconds(running, attended + running if running else 0.0, prefilled, len(ended))
        clock, iteration = clock + spent, iteration + 1
        if running:
            steps += 1
            attended += running
            run.gaps[spent] = run.gaps.get(spent, 0) + running
        for record in ended:
            record.first, order = clock, order + 1
            heapq.heappush(ends, (steps + osl - 1, order, record))
        decoding, attended = decoding + len(ended), attended + isl * len(ended)
        while ends and ends[0][0] <= steps:
            record = heapq.heappop(ends)[2]
            record.last = clock
            decoding, attended = decoding - 1, attended - (isl + osl - 1)
            if unsent:
                run.records.append(Record(clock))
                waiting.append(run.records[-1])
                unsent -= 1
    return run


# Compiled once for each structure of model, and not for each load.


@jax.jit
def _mixed(where: Point, decoding: jax.Array, prompts: jax.Array, ended: jax.Array) -> jax.Array:
    return jnp.asarray(
        phases.mixed_latency(where, decoding, prompt_tokens=prompts, prompts_ended=ended)
    )


@jax.jit
def _decode_attention(where: Point) -> jax.Array:
    return jnp.asarray(phases.decode_pass(where, 1.0).attention)


@jax.jit
def _prompt_attention(where: Point) -> jax.Array:
    isl = where.length("isl")
    chunks = jnp.ceil(isl / where.server.max_num_tokens)
    one = phases.prefill_attention_latency(where, sequences=1.0, chunk=isl / chunks, chunks=chunks)
    return jnp.asarray(chunks * one)


def iteration_seconds(where: Point) -> Seconds:
    """Time of any iteration by the rooflines of `where`'s model and machine."""
    # The mean over the contexts of one request; attention is proportional to what is attended.
    attention = float(_decode_attention(where))
    isl, osl = float(where.length("isl")), float(where.length("osl"))
    mean_context = isl + osl / 2
    whole = float(_prompt_attention(where))
    known: dict[tuple[int, int, int], float] = {}

    def seconds(decoding: int, attended: float, prefilled: int, ended: int) -> float:
        key = decoding, prefilled, ended
        if key not in known:
            known[key] = float(_mixed(where, *(jnp.asarray(float(value)) for value in key)))
        return known[key] + attended / mean_context * attention + prefilled / isl * whole

    return seconds
