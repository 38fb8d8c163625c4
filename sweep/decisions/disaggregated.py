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
from dataclasses import dataclass, field
from itertools import product
from math import ceil, inf, isfinite

import numpy as np

from sweep.decisions.pool_figures import (
    Figures,
    Instance,
    Pools,
    first_token_seconds,
    transfer_seconds,
)
from sweep.decisions.recommend import Limits

MOST_INSTANCES = 32
"""Largest number of instances of a pool that is tried. [count]"""
NEAR = 0.02
"""Share of the best score that a pair of fewer GPUs may be behind. [1]"""


@dataclass(frozen=True)
class Pair:
    """Two pools that work at one rate.

    Attributes:
        pools: The pools and their requests.
        figures: Their rate and times.
        throughput: Output tokens per second of all GPUs. [s-1]
        score: Throughput over the cost of all GPUs.
        lower: Lower ends of the 90 % intervals of `rate`, `ttft`, `tpot`, `throughput` and `score`;
            empty without a calibration.
        upper: Upper ends.
        beyond: In what ways the calibration extrapolates, in either pool.
    """

    pools: Pools
    figures: Figures
    throughput: float
    score: float
    lower: Mapping[str, float] = field(default_factory=dict)
    upper: Mapping[str, float] = field(default_factory=dict)
    beyond: int = 0


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
    return -pair.score, pair.pools.gpus, pair.figures.ttft


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
        (load / ((osl - 1) * seconds), load)
        for load, seconds in zip(decode.loads, decode.seconds, strict=True)
        if seconds <= most_tpot
    ]
    if not rates:
        return None
    out_of, most = max(rates)
    for into, batch, _ in sorted(first, reverse=True):
        numbers = _matched(prefill, decode, into, out_of, limits, requests_per_s)
        if numbers is None:
            continue
        pair = _pair(Pools(prefill, decode, *numbers, batch, most, osl, requests_per_s))
        if pair.figures.ttft <= (limits.max_ttft or inf):
            return pair
    return None


def _pair(pools: Pools) -> Pair:
    """The pair of two pools, with the intervals of a calibration."""
    prefill, decode, osl, found = pools.prefill, pools.decode, pools.osl, pools.figures()
    cost = pools.total(prefill.unit_cost, decode.unit_cost)
    ends: list[dict[str, float]] = [{}, {}]
    beyond = 0
    if prefill.slower and decode.slower:
        # The pools may be off in different ways, so that each figure is furthest at its own corner.
        corners = [found] + [
            pools.at_ends(one, other).figures() for one, other in product((-1, 1), repeat=2)
        ]
        for end, furthest in zip(ends, (np.min, np.max), strict=True):
            rate, _, ttft, tpot = (float(furthest(values)) for values in zip(*corners, strict=True))
            end |= {"rate": rate, "ttft": ttft, "tpot": tpot}
            end |= {"throughput": rate * osl, "score": rate * osl / cost}
        beyond = prefill.beyond_at(pools.batch) | decode.beyond_at(pools.most)
    throughput = found.rate * osl
    return Pair(pools, found, throughput, throughput / cost, ends[0], ends[1], beyond)


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
