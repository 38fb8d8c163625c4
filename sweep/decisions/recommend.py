"""Ranks deployments of a model under limits: by throughput for a GPU, a dollar or a watt.

How the answer is told stands in `advice.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sweep.decisions.candidates import Candidates
from sweep.decisions.prices import price_of
from sweep.errors import SpecError
from sweep.queries.front_of_points import front
from sweep.specs.parsing import nearest

By = Literal["gpu", "dollar", "watt"]
TOKENS_PRICED = 1e6
"""Output tokens that a cost is told of. [count]"""


@dataclass(frozen=True)
class Limits:
    """What a deployment may not exceed; `None` is no limit.

    Attributes:
        max_ttft: Time to first token. [s]
        max_tpot: Time per output token. [s]
        max_price_per_hour: Of all its accelerators. [USD]
        max_gpus: Of all its replicas. [count]
    """

    max_ttft: float | None = None
    max_tpot: float | None = None
    max_price_per_hour: float | None = None
    max_gpus: int | None = None


LIMITED = {
    "max_ttft": ("ttft", "s"),
    "max_tpot": ("tpot", "s"),
    "max_price_per_hour": ("price", "USD an hour"),
    "max_gpus": ("total_gpus", "GPUs"),
}
"""The column that each limit holds for, and its unit."""


@dataclass(frozen=True)
class Demand:
    """What is asked of the deployments.

    Attributes:
        limits: What none may exceed.
        by: What they are ranked by.
        concurrency: Requests that a replica must hold at once. [count]
        requests_per_s: Requests that all replicas serve together; one replica if not given. [s-1]
    """

    limits: Limits = Limits()
    by: By = "gpu"
    concurrency: int | None = None
    requests_per_s: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """The answer.

    Attributes:
        candidates: What there was to choose from.
        demand: What was asked.
        ranked: The best deployment of each accelerator and precision, best first, with the columns
            of `Candidates.frame` and those of `judged`.
        front: Deployments of which no other serves a user faster without serving fewer tokens on
            a GPU, the fastest for a user last.
        allowed: All deployments within the limits, in the order of the candidates.
        judged: All deployments, with what they exceed the limits by in `over_` columns.
    """

    candidates: Candidates
    demand: Demand
    ranked: pd.DataFrame
    front: pd.DataFrame
    allowed: pd.DataFrame
    judged: pd.DataFrame


def recommend(
    candidates: Candidates,
    demand: Demand,
    *,
    prices: Mapping[str, float] | None = None,
    every_layout: bool = False,
) -> Recommendation:
    """Rank what there is to choose from.

    Args:
        candidates: Deployments.
        demand: Limits, load and what counts.
        prices: Dollars for an hour of one accelerator, before those of specifications. [USD]
        every_layout: Whether each layout has its own rank.

    Raises:
        SpecError: No price or rated power is known where one is needed, or a price is of
            something else.
    """
    frame = judged(candidates, demand, prices or {})
    _check_known(frame, demand)
    excess = excess_of(frame, demand)
    allowed = frame[frame["runs"] & (excess.max(axis=1) <= 1) & frame["score"].notna()]
    best = ["hardware", "precision"]
    if every_layout:
        best += list(dict.fromkeys(("tp", "pp", "dp_attention", *_present(frame))))
    ranked = in_order(allowed).drop_duplicates(best).reset_index(drop=True)
    return Recommendation(
        candidates,
        demand,
        ranked,
        pareto_front(allowed),
        allowed,
        frame.join(excess.add_prefix("over_")),
    )


def _present(frame: pd.DataFrame) -> list[str]:
    return [axis for axis in ("ep", "dp") if axis in frame]


def judged(candidates: Candidates, demand: Demand, prices: Mapping[str, float]) -> pd.DataFrame:
    """The candidates with replicas, prices and scores.

    Adds `replicas` with `fewest_replicas` and `most_replicas` at the ends of the interval,
    `total_gpus`, `price` in dollars an hour, `power` in watts, `per_gpu` and `per_user` in output
    tokens per second, `cost` in dollars for a million output tokens, `energy` in joules for one,
    and `score` with `score_lower` and `score_upper`.
    """
    frame, osl = candidates.frame.copy(), candidates.osl
    known = candidates.known.hardware
    dollars = {**prices, **{name: price_of(spec, prices) for name, spec in known.items()}}
    watts = {name: spec.tdp_w for name, spec in known.items()}
    rate = demand.requests_per_s
    for name, throughput in (
        ("replicas", "throughput"),
        ("fewest_replicas", "upper"),
        ("most_replicas", "lower"),
    ):
        frame[name] = 1.0 if rate is None else np.ceil(rate * osl / frame[throughput])
    frame["total_gpus"] = frame["replicas"] * frame["gpus"]
    frame["price"] = frame["total_gpus"] * frame["hardware"].map(dollars).astype(float)
    frame["power"] = frame["total_gpus"] * frame["hardware"].map(watts).astype(float)
    frame["per_gpu"] = frame["throughput"] / frame["gpus"]
    frame["per_user"] = 1 / frame["tpot"]
    for end, throughput, replicas in (
        ("", "throughput", "replicas"),
        ("_lower", "lower", "most_replicas"),
        ("_upper", "upper", "fewest_replicas"),
    ):
        delivered = frame[throughput] if rate is None else rate * osl
        frame[f"score{end}"] = delivered / (
            _unit_cost(frame, demand.by) * frame[replicas] / frame["replicas"]
        )
    delivered = frame["throughput"] if rate is None else rate * osl
    frame["cost"] = frame["price"] / 3600 / delivered * TOKENS_PRICED
    frame["energy"] = frame["power"] / delivered
    return frame


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Best first; of equals that with more throughput to spare, fewer GPUs, the first."""
    keys = np.arange(len(frame)), frame["total_gpus"], -frame["per_gpu"], -frame["score"]
    return frame.iloc[np.lexsort(keys)]


def pareto_front(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats in tokens per second of a user and of a GPU at once."""
    known = frame[frame["per_user"].notna()]
    costs = -known[["per_gpu", "per_user"]].to_numpy().T
    zeros = np.zeros(len(known), np.int64)
    places = front(costs, zeros, np.arange(len(known)))
    return known.iloc[places].reset_index(drop=True)


def _unit_cost(frame: pd.DataFrame, by: By) -> pd.Series:
    """What a score is divided by: GPUs, dollars a second or watts."""
    column: pd.Series = frame[{"gpu": "total_gpus", "dollar": "price", "watt": "power"}[by]]
    return column / 3600 if by == "dollar" else column


def check_prices(prices: Mapping[str, float], candidates: Candidates) -> None:
    """See that every price is of a candidate.

    Raises:
        SpecError: One is not.
    """
    known = candidates.frame["hardware"].unique().tolist()
    for name in prices:
        if name not in known:
            guess = nearest(name, known) or f"; candidates: {', '.join(known)}"
            raise SpecError(f"--price {name}: no candidate of that name{guess}")


def _check_known(frame: pd.DataFrame, demand: Demand) -> None:
    priced = demand.by == "dollar" or demand.limits.max_price_per_hour is not None
    if priced and frame["price"].isna().all():
        raise SpecError(
            "no price of any candidate is known: give --price NAME=USD for an hour of one "
            "accelerator, --prices FILE, or price_usd_per_hour in its specification"
        )
    if demand.by == "watt" and frame["power"].isna().all():
        raise SpecError("no rated power of any candidate is known; add tdp_w with its source")


def excess_of(frame: pd.DataFrame, demand: Demand) -> pd.DataFrame:
    """Each limited figure over its limit, over 1 where it is too high; unknown is too high."""
    over = {}
    for limit, (column, _) in LIMITED.items():
        most = getattr(demand.limits, limit)
        if most is not None:
            over[limit] = frame[column] / most
    if "max_tpot" in over:
        # A single output token has no time per output token.
        over["max_tpot"] = over["max_tpot"].where(frame["tpot"].notna() | ~frame["runs"], 0.0)
    if demand.concurrency is not None:
        over["concurrency"] = demand.concurrency / frame["held"]
    return pd.DataFrame(over or {"none": 0.0}, frame.index).fillna(np.inf)
