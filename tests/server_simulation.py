"""A server simulated iteration by iteration: the oracle of its closed form."""

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from factories import compiled, point, shipped, shipped_model
from scipy.special import ndtri

from sweep.kernel import phases
from sweep.kernel.open_loop import OpenLoop
from sweep.kernel.params import Point

Seconds = Callable[[int, float, int, int, float], float]
"""Time of an iteration, from the sequences that decode, the tokens they attend to together, the
prompt tokens, the prompts that end, and their attention in that of prompts of mean length."""


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
    lengths: Sequence[tuple[int, int]] | None = None,
    pass_tokens: int = 1,
    batch_wait: int = 0,
    poll_interval: int = 1,
    stream_interval: int = 1,
    front_end: int = 0,
    pause: Callable[[], float] | None = None,
    starts: float = np.inf,
) -> Run:
    """Serve requests first come, first served.

    Sequences that decode go before prompts, or after them with `prefill_first`; the last chunk of
    a prompt yields a token. The attention of a prompt grows with the square of its length.
    Requests are taken in where nothing runs, after an iteration with prompts, and after
    `poll_interval` others. New prompts wait for `batch_wait` iterations of decode, or until they
    fill one.

    Args:
        arrivals: When requests are sent, in order. [s]
        clients: Requests kept open: later ones are sent as earlier ones end. [count]
        slots: Requests that the server holds. [count]
        isl: Input tokens of each.
        osl: Output tokens of each.
        max_num_tokens: Tokens of an iteration.
        seconds: Time of an iteration.
        prefill_first: Whether iterations with prompts decode nothing.
        lengths: Input tokens of each request and the iterations that it decodes in; alike if not
            given.
        pass_tokens: Tokens that a sequence takes while it decodes.
        batch_wait: Iterations for which the first of several prompts waits.
        poll_interval: Iterations without prompts between two looks for new requests.
        stream_interval: Tokens of a request after which the first are sent.
        front_end: Iterations from sending a request to its arrival at the server, but for the
            first of each client.
        pause: Time from the end of a request until its client sends the next one; none if not
            given. [s]
        starts: Prompts that start in an iteration at most.
    """
    each_of = iter(lengths or [(isl, osl - 1)] * len(arrivals))
    run, clock, iteration = Run(), 0.0, 0
    coming = deque(arrivals if clients is None else arrivals[:clients])
    unsent = 0 if clients is None else len(arrivals) - len(coming)
    waiting: deque[Record] = deque()
    prompts: deque[list] = deque()
    ends: list[tuple[int, int, Record, int]] = []
    shown: list[tuple[int, int, Record]] = []
    decoding, attended, order, steps = 0, 0.0, 0, 0
    since, held = 0, 0
    stepped, begun = 0.0, []
    outside: deque[tuple[int, float]] = deque()
    while coming or waiting or prompts or decoding or unsent or outside:
        while outside and (outside[0][0] <= iteration or not (waiting or prompts or decoding)):
            coming.append(outside.popleft()[1])
        if not (waiting or prompts or decoding) and coming:
            clock = max(clock, coming[0])
        looks = since >= poll_interval or not (waiting or prompts or decoding)
        since = 0 if looks else since
        while looks and coming and coming[0] <= clock:
            run.records.append(Record(coming.popleft()))
            waiting.append(run.records[-1])
        begins = 0
        while waiting and decoding + len(prompts) < slots and begins < starts:
            begins += 1
            waiting[0].admitted = clock
            own, decodes = next(each_of)
            prompts.append([waiting.popleft(), own, own, decodes])
        fresh = all(each[1] == each[2] for each in prompts)
        enough = sum(each[1] for each in prompts) >= max_num_tokens
        holds = bool(prompts and decoding) and fresh and held < batch_wait and not enough
        held = held + 1 if holds else 0
        running = min(decoding, max_num_tokens // pass_tokens)
        running = 0 if prefill_first and prompts and not holds else running
        left, prefilled, ended, work = max_num_tokens - running * pass_tokens, 0, [], 0.0
        while prompts and left > 0 and not holds:
            taken = min(prompts[0][1], left)
            prompts[0][1] -= taken
            left, prefilled = left - taken, prefilled + taken
            work += taken * prompts[0][2] / isl**2
            if not prompts[0][1]:
                record, _, own, decodes = prompts.popleft()
                ended.append((record, own, decodes))
        seen = attended + running if running else 0.0
        spent = seconds(running, seen, prefilled, len(ended), work)
        clock, iteration = clock + spent, iteration + 1
        since = poll_interval if prefilled else since + 1
        if running:
            steps += 1
            attended += running
            # Those that began since the last step of decode have waited for less.
            for time in begun[:running]:
                run.gaps[clock - time] = run.gaps.get(clock - time, 0) + 1
            older = max(running - len(begun), 0)
            run.gaps[clock - stepped] = run.gaps.get(clock - stepped, 0) + older
            stepped, begun = clock, []
        for record, own, decodes in ended:
            order += 1
            begun.append(clock)
            heapq.heappush(shown, (steps + min(stream_interval - 1, decodes), order, record))
            heapq.heappush(ends, (steps + decodes, order, record, own + decodes))
            decoding, attended = decoding + 1, attended + own
        while shown and shown[0][0] <= steps:
            heapq.heappop(shown)[2].first = clock
        while ends and ends[0][0] <= steps:
            _, _, record, whole = heapq.heappop(ends)
            record.last = clock
            decoding, attended = decoding - 1, attended - whole
            if unsent and pause is not None:
                insort(coming, clock + pause())
            elif unsent:
                outside.append((iteration + front_end, clock))
            unsent = max(unsent - 1, 0)
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
    """Time of any iteration by the rooflines of `where`'s model and machine.

    Lengths that vary do so in what an iteration carries, and not in the time of a given one.
    """
    where = replace(where, isl_cv=None, osl_cv=None)
    # The mean over the contexts of one request; attention is proportional to what is attended.
    attention = float(_decode_attention(where))
    isl, osl = float(where.length("isl")), float(where.length("osl"))
    mean_context = isl + osl / 2
    whole = float(_prompt_attention(where))
    known: dict[tuple[int, int, int], float] = {}

    def seconds(decoding: int, attended: float, prefilled: int, ended: int, work: float) -> float:
        key = decoding, prefilled, ended
        if key not in known:
            known[key] = float(_mixed(where, *(jnp.asarray(float(value)) for value in key)))
        return known[key] + attended / mean_context * attention + work * whole

    return seconds


# Random servers.

MODELS = ("llama-3.1-8b", "mixtral-8x7b")
MACHINES = ("h100-sxm-80gb", "h200-sxm-141gb", "l20", "b200-sxm")
BUDGETS = (512, 1024, 2048, 4096, 8192, 16_384)


@dataclass(frozen=True)
class Setting:
    """A random server: `fit` requests fit, and `load` is relative to its capacity."""

    name: str
    machine: str
    recipe: str
    tp: int
    isl: int
    osl: int
    max_num_tokens: int
    fit: int
    load: float

    def point(self, **numbers: Any) -> Point:
        # Memory for any number of requests: max_batch_size limits them.
        machine = shipped().hardware(self.machine)
        roomy = machine.model_copy(update={"memory_bytes": 1e13, "usable_memory_bytes": None})
        return point(
            shipped_model(self.name),
            roomy,
            shipped().precision(self.recipe),
            tp=self.tp,
            isl=self.isl,
            osl=self.osl,
            max_num_tokens=self.max_num_tokens,
            max_batch_size=self.fit,
            **numbers,
        )

    def simulate(self, arrivals: list[float], *, seconds: Seconds, **more: Any) -> Run:
        """A simulated run of the server: `more` are further arguments of `simulate`."""
        return simulate(
            arrivals,
            slots=self.fit,
            isl=self.isl,
            osl=self.osl,
            max_num_tokens=self.max_num_tokens,
            seconds=seconds,
            **more,
        )


def settings(count: int, seed: int = 0, longest: int = 512) -> list[Setting]:
    """Random servers, the same in each run."""
    random, found = np.random.default_rng(seed), []
    for _ in range(count):
        fit = int(2 ** random.uniform(0, 8.5))
        found.append(
            Setting(
                name=MODELS[random.integers(2)],
                machine=MACHINES[random.integers(4)],
                recipe=("fp16", "fp8")[random.integers(2)],
                tp=int(2 ** random.integers(0, 4)),
                isl=int(2 ** random.uniform(4, 13)),
                osl=int(2 ** random.uniform(3, np.log2(longest))),
                max_num_tokens=max(int(random.choice(BUDGETS)), fit),
                fit=fit,
                load=float(random.uniform(0.05, 1)),
            )
        )
    return found


def dense(count: int, seed: int) -> list[Setting]:
    """Random servers of one model, so that one structure is compiled."""
    return [each for each in settings(3 * count, seed) if each.name == "llama-3.1-8b"][:count]


def spread(errors: list[float]) -> tuple[float, float]:
    """Median and 90th percentile of the absolute values."""
    return float(np.median(np.abs(errors))), float(np.quantile(np.abs(errors), 0.9))


BLOCK = 200
"""Lengths that have their mean and deviation together. [count]"""


def varied_lengths(
    random: np.random.Generator, mean: int, variation: float, count: int, least: int = 1
) -> list[int]:
    """Lognormal lengths in random order: quantiles of the distribution in each block of them."""
    deviation = np.sqrt(np.log1p(variation**2))
    ranks = ndtri((np.arange(BLOCK) + 0.5) / BLOCK)
    lengths = np.exp(deviation * ranks - deviation**2 / 2)
    lengths = lengths / lengths.mean()
    if variation:
        lengths = 1 + (lengths - 1) * variation / lengths.std()
    blocks = [random.permutation(lengths) for _ in range(count // BLOCK + 1)]
    whole = np.rint(mean * np.concatenate(blocks)[:count])
    return np.maximum(whole, least).astype(int).tolist()


def varied_requests(
    setting: Setting, variations: tuple[float, float], count: int, seed: int
) -> list[tuple[int, int]]:
    """Input tokens of requests, and the iterations that each decodes in."""
    random = np.random.default_rng(seed)
    inputs = varied_lengths(random, setting.isl, variations[0], count)
    outputs = varied_lengths(random, setting.osl, variations[1], count, least=2)
    return [(i, o - 1) for i, o in zip(inputs, outputs, strict=True)]


def coarse(seconds: Seconds, steps: int = 60) -> Seconds:
    """The same times for prompt tokens rounded to one of `steps` values in each power of two."""

    def rounded(decoding: int, attended: float, prefilled: int, ended: int, work: float) -> float:
        if prefilled > steps:
            prefilled = round(2 ** (round(np.log2(prefilled) * steps) / steps))
        return seconds(decoding, attended, prefilled, ended, work)

    return rounded


@compiled
def open_figures(where: Point) -> dict[str, jax.Array]:
    """Figures of a server that requests arrive at, which simulations are compared with."""
    found = OpenLoop(where)
    return {
        "mean": jnp.asarray(found.ttft),
        "p50": jnp.asarray(found.ttft_quantile(0.5)),
        "p99": jnp.asarray(found.ttft_quantile(0.99)),
        "tpot": jnp.asarray(found.tpot),
        "gap_p99": jnp.asarray(found.tpot_p99),
        "latency": jnp.asarray(found.request_latency),
        "capacity": jnp.asarray(found.max_request_rate),
    }
