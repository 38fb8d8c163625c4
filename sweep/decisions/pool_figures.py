"""Instances of pools for prompts and for decoding, and the rate and times of two pools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

ALIKE = 1e-6
"""Difference of two times over the gap between arrivals that rounding may make. [1]"""


@dataclass(frozen=True)
class Instance:
    """One server of a pool: its accelerator, recipe and layout, at each load.

    Attributes:
        hardware: Name of the accelerator.
        precision: Name of the recipe.
        kv_dtype: Type of the KV cache, which both pools must share.
        layout: GPUs along each axis of the layout. [count]
        gpus: GPUs of one instance. [count]
        unit_cost: Cost of one GPU, by the criterion of the ranking.
        price: Hourly price of one GPU, NaN where unknown. [USD]
        loads: Prompts of a batch, or sequences that decode together, increasing. [count]
        seconds: Time of a batch of prompts, or per output token, at each load. [s]
        sent_bytes: KV cache of one prompt on each GPU. [byte]
        bandwidth: Bandwidth over which it is sent, per GPU and direction. [byte/s]
        hop: Time of one hop over it. [s]
        slower: Upper end of the interval of the time over it, at each load; empty without a
            calibration, NaN without measurements. [1]
        beyond: In what ways the calibration extrapolates at each load; empty without one.
    """

    hardware: str
    precision: str
    kv_dtype: str
    layout: Mapping[str, int]
    gpus: int
    unit_cost: float
    price: float
    loads: Sequence[int]
    seconds: Sequence[float]
    sent_bytes: float
    bandwidth: float
    hop: float
    slower: Sequence[float] = ()
    beyond: Sequence[int] = ()

    def at(self, load: float) -> float:
        """Time at a load, on straight lines between those that were swept. [s]"""
        return float(np.interp(load, self.loads, self.seconds))

    def at_end(self, sign: int, load: int) -> "Instance":
        """The instance at an end of the interval, by its error at one of the loads.

        Args:
            sign: 1 if everything takes longer, -1 if everything takes less.
            load: The largest load that it gets. [count]
        """
        multiple = self.slower[self.loads.index(load)] ** sign
        return replace(self, seconds=[multiple * each for each in self.seconds])

    def beyond_at(self, load: int) -> int:
        """In what ways the calibration extrapolates at one of the loads."""
        return int(self.beyond[self.loads.index(load)])


class Figures(NamedTuple):
    """Rate and times of two pools together.

    Attributes:
        rate: Requests that all complete in a second. [s-1]
        held: Sequences that a decode instance holds on average. [count]
        ttft: Time to first token. [s]
        tpot: Time per output token after the first, the transfer included. [s]
    """

    rate: float
    held: float
    ttft: float
    tpot: float


def transfer_seconds(prefill: Instance, decode: Instance) -> float:
    """Time to send the cache of one prompt: the slower of sending and receiving, and a hop. [s]

    Every GPU of an instance sends or receives its share at the same time. 1 GB in four shares over
    50 GB/s each takes 5 ms.
    """
    sides = [each.sent_bytes / each.bandwidth for each in (prefill, decode)]
    return max(sides) + max(prefill.hop, decode.hop)


def first_token_seconds(batch: int, seconds: float) -> float:
    """Time from arrival to first token of a prompt in full batches that follow one another. [s]

    Prompts of the next batch arrive while one is computed, and wait half of its time on average. A
    prompt that is computed alone does not wait.

    Args:
        batch: Prompts of a batch. [count]
        seconds: Time of a batch. [s]
    """
    return seconds if batch == 1 else 1.5 * seconds


def first_token_at(prefill: Instance, rate: float) -> float:
    """Time from arrival to first token of the prompts of one prefill instance. [s]

    Prompts arrive evenly, one every Δ, and a batch takes those that arrived during the one before
    it. Where n take longer than nΔ, by α, and n + 1 less than (n + 1)Δ, by β, batches of n and of
    n + 1 alternate: a batch begins α later after an arrival than the one before if that has n, and
    β earlier if it has n + 1. That is an exchange of two intervals, a rotation of [−β, α), so that
    beginnings are uniform on it [1]. Prompts so seldom that each is computed alone do not wait. If
    a batch takes exactly as long as its prompts take to arrive, or is as large as can be, it may
    begin at any time between arrivals: prompts wait for half of it.

    Args:
        prefill: The instance.
        rate: Prompts that arrive at it in a second. [s-1]

    References:
        [1] Keane, "Interval exchange transformations", Mathematische Zeitschrift 141, 1975.
    """
    gap = 1 / rate
    sizes = np.arange(1, int(prefill.loads[-1]) + 1)
    spare = sizes * gap - np.interp(sizes, prefill.loads, prefill.seconds)
    enough = np.flatnonzero(spare >= -ALIKE * gap)
    more = int(sizes[enough[0]]) if len(enough) else int(sizes[-1])
    early = float(spare[more - 1])
    if more == 1 or early <= ALIKE * gap:
        return first_token_seconds(more, prefill.at(more))
    fewer = more - 1
    late = -float(spare[fewer - 1])
    often = np.asarray([early, late]) / (early + late)
    each = np.asarray([fewer, more])
    before = gap * fewer * more / 2 + each * np.asarray([-early, late]) / 2
    within = each * np.asarray([prefill.at(fewer), prefill.at(more)])
    return float(often @ (before + within) / (often @ each))


def held_at(decode: Instance, rate: float, osl: int) -> tuple[float, float]:
    """Sequences that one decode instance holds at a rate, and its time per output token. [s]

    By Little's law it holds rate · (osl − 1) · tpot, and tpot depends on what it holds: the
    straight line between the loads that were swept.
    """
    least = decode.loads[0] / decode.seconds[0]
    tokens = rate * (osl - 1)
    if tokens <= least:
        return tokens * decode.seconds[0], decode.seconds[0]
    return _load_at(tokens, decode.loads, decode.seconds)


def _load_at(rate: float, loads: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The load that is done at a rate, `load / seconds`, and its time; at most the last load.

    Times are straight lines between the loads.
    """
    for index in range(1, len(loads)):
        if loads[index] / seconds[index] >= rate:
            slope = (seconds[index] - seconds[index - 1]) / (loads[index] - loads[index - 1])
            start = seconds[index - 1] - slope * loads[index - 1]
            # load = rate · (start + slope · load), and the rate of the segment's end is no less.
            load = rate * start / (1 - rate * slope)
            return load, start + slope * load
    return float(loads[-1]), float(seconds[-1])


@dataclass(frozen=True)
class Pools:
    """Two pools and their requests.

    Attributes:
        prefill: A prefill instance.
        decode: A decode instance.
        prefills: Prefill instances. [count]
        decodes: Decode instances. [count]
        batch: Prompts of a full batch. [count]
        most: Sequences that a decode instance holds at most. [count]
        osl: Output tokens of each request. [count]
        requests_per_s: Requests that the pools must complete; `None` for all they can. [s-1]
    """

    prefill: Instance
    decode: Instance
    prefills: int
    decodes: int
    batch: int
    most: int
    osl: int
    requests_per_s: float | None

    @property
    def gpus(self) -> int:
        """GPUs of both pools. [count]"""
        return self.prefills * self.prefill.gpus + self.decodes * self.decode.gpus

    @property
    def price(self) -> float:
        """Hourly price of all GPUs. [USD]"""
        return self.total(self.prefill.price, self.decode.price)

    @property
    def transfer(self) -> float:
        """Time to send the cache of a prompt. [s]"""
        return transfer_seconds(self.prefill, self.decode)

    def total(self, first: float, second: float) -> float:
        """Sum over all GPUs of what one of the first pool costs and one of the second."""
        prefills, decodes = self.prefills * self.prefill.gpus, self.decodes * self.decode.gpus
        return prefills * first + decodes * second

    def figures(self) -> Figures:
        """Figures at the highest rate that both pools have, or at the one asked for.

        Times of a pool that does not keep up with a rate asked for grow without end.
        """
        into = self.prefills * self.batch / self.prefill.at(self.batch)
        out_of = self.decodes * self.most / ((self.osl - 1) * self.decode.at(self.most))
        asked = inf if self.requests_per_s is None else self.requests_per_s
        rate = min(into, out_of, asked)
        if not rate > 0:
            return Figures(*[float("nan")] * 4)
        held, tpot = held_at(self.decode, rate / self.decodes, self.osl)
        tpot += self.transfer / (self.osl - 1)
        least = asked * (1 - ALIKE) if isfinite(asked) else 0.0
        return Figures(
            rate,
            held,
            first_token_at(self.prefill, rate / self.prefills) if into >= least else inf,
            tpot if out_of >= least else inf,
        )

    def at_ends(self, one: int, other: int) -> "Pools":
        """The pools at an end of the interval of each, as of `Instance.at_end`."""
        return replace(
            self,
            prefill=self.prefill.at_end(one, self.batch),
            decode=self.decode.at_end(other, self.most),
        )
