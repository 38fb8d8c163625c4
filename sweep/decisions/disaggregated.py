"""Prefill and decode on pools of their own: rates matched, and the pair that serves most.

A prefill instance takes prompts in batches, computes them and their first token, and sends their
cache to a decode instance, which adds the other tokens [1, 2]. Requests arrive evenly, and decoding
lasts longer than a batch of prompts, so that a decode instance holds about as many at any time.

References:
    [1] Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting",
        ISCA 2024.
    [2] Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large
        Language Model Serving", OSDI 2024.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np

from sweep.decisions.recommend import Limits

MOST_INSTANCES = 32
"""Largest number of instances of a pool that is tried. [count]"""
NEAR = 0.02
"""Share of the best score that a pair of fewer GPUs may be behind. [1]"""
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


@dataclass(frozen=True)
class Pair:
    """Two pools that work at one rate.

    Attributes:
        prefill: A prefill instance.
        decode: A decode instance.
        prefills: Prefill instances. [count]
        decodes: Decode instances. [count]
        batch: Prompts of a full batch. [count]
        held: Sequences that a decode instance holds on average. [count]
        rate: Requests that all complete in a second. [s-1]
        transfer: Time to send the cache of a prompt. [s]
        ttft: Time to first token at that rate. [s]
        tpot: Time per output token after the first, the transfer included. [s]
        throughput: Output tokens per second of all GPUs. [s-1]
        score: Throughput over the cost of all GPUs.
        price: Hourly price of all GPUs. [USD]
    """

    prefill: Instance
    decode: Instance
    prefills: int
    decodes: int
    batch: int
    held: float
    rate: float
    transfer: float
    ttft: float
    tpot: float
    throughput: float
    score: float
    price: float

    @property
    def gpus(self) -> int:
        """GPUs of both pools. [count]"""
        return self.prefills * self.prefill.gpus + self.decodes * self.decode.gpus


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

    def seconds(batch: int) -> float:
        return float(np.interp(batch, prefill.loads, prefill.seconds))

    sizes = np.arange(1, int(prefill.loads[-1]) + 1)
    spare = sizes * gap - np.interp(sizes, prefill.loads, prefill.seconds)
    enough = np.flatnonzero(spare >= -ALIKE * gap)
    more = int(sizes[enough[0]]) if len(enough) else int(sizes[-1])
    early = float(spare[more - 1])
    if more == 1 or early <= ALIKE * gap:
        return first_token_seconds(more, seconds(more))
    fewer = more - 1
    late = -float(spare[fewer - 1])
    often = np.asarray([early, late]) / (early + late)
    each = np.asarray([fewer, more])
    before = gap * fewer * more / 2 + each * np.asarray([-early, late]) / 2
    within = each * np.asarray([seconds(fewer), seconds(more)])
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


def pairs(
    prefills: Sequence[Instance],
    decodes: Sequence[Instance],
    *,
    osl: int,
    limits: Limits,
    requests_per_s: float | None = None,
) -> list[Pair]:
    """The best pair of each accelerator and recipe of both pools, best first.

    Args:
        prefills: Prefill instances on offer.
        decodes: Decode instances on offer.
        osl: Output tokens of each request, two at least. [count]
        limits: Largest allowed figures.
        requests_per_s: Requests that the pools must complete; as many as they can if not
            given. [s-1]
    """
    best: dict[tuple[str, ...], Pair] = {}
    for prefill in prefills:
        for decode in decodes:
            found = _best_pair(prefill, decode, osl, limits, requests_per_s)
            if found is None:
                continue
            key = prefill.hardware, prefill.precision, decode.hardware, decode.precision
            if key not in best or _rank(found) < _rank(best[key]):
                best[key] = found
    return sorted(best.values(), key=_rank)


def _rank(pair: Pair) -> tuple[float, int, float]:
    return -pair.score, pair.gpus, pair.ttft


def _best_pair(
    prefill: Instance,
    decode: Instance,
    osl: int,
    limits: Limits,
    requests_per_s: float | None,
) -> Pair | None:
    """The best numbers of instances and loads of two instances, if any are within the limits."""
    if prefill.kv_dtype != decode.kv_dtype:
        return None
    sent = transfer_seconds(prefill, decode)
    if not isfinite(sent):
        return None
    first = [
        (batch / seconds, batch, seconds)
        for batch, seconds in zip(prefill.loads, prefill.seconds, strict=True)
        if first_token_seconds(batch, seconds) <= (limits.max_ttft or inf)
    ]
    # The cache is on its way between the first and the second token.
    most_tpot = (limits.max_tpot or inf) - sent / (osl - 1)
    rates = [
        load / ((osl - 1) * seconds)
        for load, seconds in zip(decode.loads, decode.seconds, strict=True)
        if seconds <= most_tpot
    ]
    if not rates:
        return None
    for into, batch, _ in sorted(first, reverse=True):
        numbers = _matched(prefill, decode, into, max(rates), limits, requests_per_s)
        if numbers is None:
            continue
        pair = _pair(prefill, decode, osl, sent, batch, numbers, (into, max(rates)), requests_per_s)
        if pair.ttft <= (limits.max_ttft or inf):
            return pair
    return None


def _pair(
    prefill: Instance,
    decode: Instance,
    osl: int,
    sent: float,
    batch: int,
    numbers: tuple[int, int],
    rates: tuple[float, float],
    requests_per_s: float | None,
) -> Pair:
    """So many instances of both pools at the highest rate that both have, or the one asked for.

    Args:
        prefill: A prefill instance.
        decode: A decode instance.
        osl: Output tokens of each request. [count]
        sent: Time to send the cache of a prompt. [s]
        batch: Prompts of a full batch. [count]
        numbers: Instances of each pool. [count]
        rates: Requests that one instance of each completes in a second at most. [s-1]
        requests_per_s: Requests that the pools must complete. [s-1]
    """
    (count, decoding), (into, out_of) = numbers, rates
    rate = min(count * into, decoding * out_of)
    if requests_per_s is not None:
        rate = min(rate, requests_per_s)
    held, tpot = held_at(decode, rate / decoding, osl)
    cost = count * prefill.gpus * prefill.unit_cost + decoding * decode.gpus * decode.unit_cost
    return Pair(
        prefill=prefill,
        decode=decode,
        prefills=count,
        decodes=decoding,
        batch=batch,
        held=held,
        rate=rate,
        transfer=sent,
        ttft=first_token_at(prefill, rate / count),
        tpot=tpot + sent / (osl - 1),
        throughput=rate * osl,
        score=rate * osl / cost,
        price=count * prefill.gpus * prefill.price + decoding * decode.gpus * decode.price,
    )


def _matched(
    prefill: Instance,
    decode: Instance,
    into: float,
    out_of: float,
    limits: Limits,
    requests_per_s: float | None,
) -> tuple[int, int] | None:
    """Numbers of instances whose rates match best: the most requests for the cost of all GPUs.

    Args:
        prefill: A prefill instance.
        decode: A decode instance.
        into: Requests that one prefill instance computes in a second. [s-1]
        out_of: Requests that one decode instance completes in a second. [s-1]
        limits: Largest allowed figures.
        requests_per_s: Requests that the pools must complete. [s-1]
    """
    counts = np.arange(1, MOST_INSTANCES + 1)
    first, second = np.meshgrid(counts, counts, indexing="ij")
    if requests_per_s is not None:
        fewest = ceil(requests_per_s / into - 1e-9), ceil(requests_per_s / out_of - 1e-9)
        first, second = np.asarray([[fewest[0]]]), np.asarray([[fewest[1]]])
    gpus = first * prefill.gpus + second * decode.gpus
    price = first * prefill.gpus * prefill.price + second * decode.gpus * decode.price
    allowed = gpus <= (limits.max_gpus or inf)
    if limits.max_price_per_hour is not None:
        allowed &= price <= limits.max_price_per_hour
    if not allowed.any():
        return None
    cost = (
        first * prefill.gpus * prefill.unit_cost + second * decode.gpus * decode.unit_cost
    ).astype(float)
    score = np.where(allowed, np.minimum(first * into, second * out_of) / cost, -inf)
    if not np.isfinite(score).any():
        return None
    near = np.where(score >= score.max() * (1 - NEAR), gpus, np.iinfo(np.int64).max)
    row, column = np.unravel_index(int(np.argmin(near)), near.shape)
    return int(first[row, column]), int(second[row, column])
