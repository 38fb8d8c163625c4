"""Rank deployments of a model under limits: by throughput per GPU, dollar or watt.

The words and tables of the answer are in `recommend_text.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sweep.decisions.deployments import Deployments
from sweep.decisions.prices import price_of
from sweep.decisions.replicas import split
from sweep.errors import SpecError
from sweep.grid.axis_forms import LARGEST_VALUE, check_rate
from sweep.queries.front_of_points import front
from sweep.schema.axes import LATENCY_LIMITS, REPLICA_GPUS
from sweep.specs.parsing import nearest, short

By = Literal["gpu", "dollar", "watt"]
TOKENS_PRICED = 1e6
"""Output tokens that `cost` is the price of. [count]"""


@dataclass(frozen=True)
class Limits:
    """Largest allowed figures of a deployment; `None` is no limit.

    Attributes:
        max_ttft: Time to first token. [s]
        max_tpot: Time per output token. [s]
        max_price_per_hour: Price of all its accelerators. [USD]
        max_gpus: GPUs of all its replicas. [count]
        max_ttft_p99: Time to first token that 99 % of the requests stay below. [s]
        max_tpot_p99: Time between output tokens that 99 % of them stay below. [s]
    """

    max_ttft: float | None = None
    max_tpot: float | None = None
    max_price_per_hour: float | None = None
    max_gpus: int | None = None
    max_ttft_p99: float | None = None
    max_tpot_p99: float | None = None

    @property
    def latencies(self) -> dict[str, float]:
        """Limits on latency that are given, by axis of a sweep. [s]"""
        given = {axis: getattr(self, axis) for axis in LATENCY_LIMITS}
        return {axis: most for axis, most in given.items() if most is not None}


LIMITED = {
    "max_ttft": ("ttft", "s"),
    "max_tpot": ("tpot", "s"),
    "max_price_per_hour": ("price", "USD an hour"),
    "max_gpus": ("total_gpus", "GPUs"),
    "max_ttft_p99": ("ttft_p99", "s"),
    "max_tpot_p99": ("tpot_p99", "s"),
}
"""The column that each limit applies to, and its unit."""


@dataclass(frozen=True)
class Demand:
    """Requirements on a deployment, and the criterion of the ranking.

    Attributes:
        limits: Largest allowed figures.
        by: What throughput is divided by.
        concurrency: Requests that all replicas must hold together; as many at one replica as is
            best if not given. [count]
        requests_per_s: Requests that all replicas must serve together. [s-1]
        replicas: Replicas that share the load. If not given, as many as are best for
            `concurrency`, or as are necessary for `requests_per_s` or `request_rate`, or one.
            [count]
        request_rate: Requests that arrive at all replicas together, at random times, so that they
            wait for one another. The throughput of a deployment is then its highest within the
            limits on latency. [s-1]
        burstiness: Shape of the gamma distribution of gaps between them; 1, that of Poisson
            arrivals, if not given. [1]
        num_requests: Requests of a run that are all sent at once, to all replicas together.
            [count]

    Raises:
        SpecError: Arrivals or requests are beyond those of a sweep.
    """

    limits: Limits = Limits()
    by: By = "gpu"
    concurrency: int | None = None
    requests_per_s: float | None = None
    replicas: int | None = None
    request_rate: float | None = None
    burstiness: float | None = None
    num_requests: int | None = None

    def __post_init__(self) -> None:
        """Check loads as a sweep does."""
        for name in ("request_rate", "burstiness"):
            value = getattr(self, name)
            try:
                check_rate(1.0 if value is None else value)
            except ValueError as error:
                raise SpecError(f"{name}: {error}") from None
        if (self.shared or 0) > LARGEST_VALUE:
            name = "num_requests" if self.concurrency is None else "concurrency"
            raise SpecError(f"{name}: at most {LARGEST_VALUE:,}, not {short(self.shared)}")

    @property
    def shared(self) -> int | None:
        """Requests that all replicas get together: kept open, or of a run. [count]"""
        return self.num_requests if self.concurrency is None else self.concurrency

    @property
    def shape(self) -> float | None:
        """Shape of the gaps between arrivals; none of a closed loop. [1]"""
        return None if self.request_rate is None else self.burstiness or 1.0

    @property
    def rate(self) -> float | None:
        """Requests that all replicas serve together, if it is given. [s-1]"""
        return self.requests_per_s if self.request_rate is None else self.request_rate


@dataclass(frozen=True)
class Recommendation:
    """A ranking of deployments.

    Attributes:
        deployments: The deployments to choose from.
        demand: The requirements.
        ranked: The best deployment of each accelerator and precision, best first, with the columns
            of `Deployments.frame` and those of `scored`.
        front: Pareto front of output tokens per second of one user and of one GPU, the fastest for
            a user last.
        allowed: All deployments within the limits, in the order of `deployments`.
        scored: All deployments; the columns `over_…` divide a limited figure by its limit.
    """

    deployments: Deployments
    demand: Demand
    ranked: pd.DataFrame
    front: pd.DataFrame
    allowed: pd.DataFrame
    scored: pd.DataFrame


def recommend(
    deployments: Deployments,
    demand: Demand,
    *,
    prices: Mapping[str, float] | None = None,
    every_layout: bool = False,
) -> Recommendation:
    """Rank deployments.

    Args:
        deployments: What to choose from.
        demand: Limits, load and criterion.
        prices: Hourly prices of one accelerator, which replace those of specifications. [USD]
        every_layout: Whether to rank each layout, not only the best of each accelerator.

    Raises:
        SpecError: A price or rated power is required and none is known.
    """
    frame = scored(deployments, demand, prices or {})
    _check_known(frame, demand)
    excess = excess_of(frame, demand, deployments.osl)
    allowed = frame[frame["runs"] & (excess.max(axis=1) <= 1) & frame["score"].notna()]
    best = ["hardware", "precision"]
    if every_layout:
        best += [*REPLICA_GPUS, *(axis for axis in ("ep", "dp", "draft_tokens") if axis in frame)]
    ranked = in_order(allowed).drop_duplicates(best).reset_index(drop=True)
    return Recommendation(
        deployments,
        demand,
        ranked,
        pareto_front(allowed),
        allowed,
        frame.join(excess.add_prefix("over_")),
    )


def scored(deployments: Deployments, demand: Demand, prices: Mapping[str, float]) -> pd.DataFrame:
    """The deployments with replicas, prices and scores.

    Adds `replicas` with `fewest_replicas` and `most_replicas` at the ends of the interval,
    `total_gpus`, `price` in dollars an hour, `power` in watts, `per_gpu` and `per_user` in output
    tokens per second, `cost` in dollars per million output tokens, with `input_cost` and
    `output_cost` per million input and output tokens apart, `energy` in joules per output token at
    rated power and `drawn_energy` at the power drawn, and `score`. Costs, `drawn_energy` and
    `score` have ends of intervals in columns with `_lower` and `_upper`.
    """
    frame, osl = _with_replicas(deployments, demand), deployments.osl
    known = deployments.specs.hardware
    dollars = {**prices, **{name: price_of(spec, prices) for name, spec in known.items()}}
    watts = {name: spec.tdp_w for name, spec in known.items()}
    rate = demand.rate
    frame["total_gpus"] = frame["replicas"] * frame["gpus"]
    frame["price"] = frame["total_gpus"] * frame["hardware"].map(dollars).astype(float)
    frame["power"] = frame["total_gpus"] * frame["hardware"].map(watts).astype(float)
    frame["per_gpu"] = frame["throughput"] / frame["gpus"]
    for end, throughput, replicas in (
        ("", "throughput", "replicas"),
        ("_lower", "lower", "most_replicas"),
        ("_upper", "upper", "fewest_replicas"),
    ):
        delivered = frame[throughput] * frame[replicas] if rate is None else rate * osl
        frame[f"score{end}"] = delivered / (
            unit_cost(frame, demand.by) * frame[replicas] / frame["replicas"]
        )
    return with_costs(frame, deployments, demand)


def with_costs(frame: pd.DataFrame, deployments: Deployments, demand: Demand) -> pd.DataFrame:
    """Rows with `per_user`, and with costs and energy of the tokens that they deliver."""
    frame, osl, rate = frame.copy(), deployments.osl, demand.rate
    unknown = pd.Series(np.nan, frame.index)
    prompts, drawn = frame.get("prompts", unknown), frame.get("drawn", unknown)
    delivered = frame["throughput"] * frame["replicas"] if rate is None else rate * osl
    frame["per_user"] = 1 / frame["tpot"]
    if demand.num_requests is not None:
        frame["duration"] = demand.num_requests * osl / delivered
    frame["cost"] = frame["price"] / 3600 / delivered * TOKENS_PRICED
    frame["energy"] = frame["power"] / delivered
    frame["input_cost"] = frame["cost"] * prompts * osl / deployments.isl
    frame["output_cost"] = frame["cost"] * (1 - prompts)
    served = frame["throughput"]
    if demand.request_rate is not None:
        served = demand.request_rate * osl / frame["replicas"]
    frame["drawn_energy"] = drawn * frame["gpus"] / served
    return _with_ends(frame, rate=rate)


COSTS = ("cost", "input_cost", "output_cost")
"""Columns of costs, which have the interval of the throughput."""


def _with_ends(frame: pd.DataFrame, *, rate: float | None) -> pd.DataFrame:
    """Rows with the ends of the intervals of costs and of the energy drawn.

    A throughput at the upper end costs less; at a given rate, the fewest replicas do. Errors of the
    power and of the time for which it is drawn add up in squares; a given rate is served in any
    case, and draws more only as far as power is uncertain.
    """
    ratios = {
        "lower": frame["throughput"] / frame["upper"],
        "upper": frame["throughput"] / frame["lower"],
    }
    if rate is not None:
        ratios = {
            "lower": frame["fewest_replicas"] / frame["replicas"],
            "upper": frame["most_replicas"] / frame["replicas"],
        }
    for end, ratio in ratios.items():
        # Without an interval of the throughput costs have none.
        known = ratio.where(frame["lower"].notna())
        for name in COSTS:
            frame[f"{name}_{end}"] = frame[name] * known
        power = frame.get(f"drawn_{end}", pd.Series(np.nan, frame.index)) / frame.get("drawn", 1.0)
        width = np.log(power) if rate is not None else np.hypot(np.log(power), np.log(known))
        frame[f"drawn_energy_{end}"] = frame["drawn_energy"] * np.exp(
            -abs(width) if end == "lower" else abs(width)
        )
    return frame


def _with_replicas(deployments: Deployments, demand: Demand) -> pd.DataFrame:
    """The deployments with `replicas`, and how many the ends of the interval take.

    A number that is given, or that a load is split over, does not depend on the throughput.
    """
    frame, rate = deployments.frame.copy(), demand.rate
    if demand.shared is not None:
        frame = split(frame, deployments.axes, demand.shared, demand.replicas)
    elif rate is None or demand.replicas is not None:
        frame["replicas"] = float(demand.replicas or 1)
    else:
        for name, throughput in (
            ("replicas", "throughput"),
            ("fewest_replicas", "upper"),
            ("most_replicas", "lower"),
        ):
            frame[name] = np.ceil(rate * deployments.osl / frame[throughput])
        return frame
    return frame.assign(fewest_replicas=frame["replicas"], most_replicas=frame["replicas"])


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort by score, best first; ties by throughput per GPU, then by fewer GPUs."""
    keys = np.arange(len(frame)), frame["total_gpus"], -frame["per_gpu"], -frame["score"]
    return frame.iloc[np.lexsort(keys)]


def pareto_front(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows on the Pareto front of tokens per second of one user and of one GPU."""
    known = frame[frame["per_user"].notna()]
    costs = -known[["per_gpu", "per_user"]].to_numpy().T
    one_group = np.zeros(len(known), np.int64)
    rows = front(costs, one_group, np.arange(len(known)))
    return known.iloc[rows].reset_index(drop=True)


def unit_cost(row: Any, by: By) -> Any:
    """Divisor of the score of a row or table: GPUs, dollars a second or watts."""
    column = row[{"gpu": "total_gpus", "dollar": "price", "watt": "power"}[by]]
    return column / 3600 if by == "dollar" else column


def check_prices(prices: Mapping[str, float], deployments: Deployments) -> None:
    """Check that every price is of an accelerator of some deployment.

    Raises:
        SpecError: One is not.
    """
    known = deployments.frame["hardware"].unique().tolist()
    for name in prices:
        if name not in known:
            guess = nearest(name, known) or f"; they use {', '.join(known)}"
            raise SpecError(f"--price {name}: no deployment uses this accelerator{guess}")


def _check_known(frame: pd.DataFrame, demand: Demand) -> None:
    priced = demand.by == "dollar" or demand.limits.max_price_per_hour is not None
    if priced and frame["price"].isna().all():
        raise SpecError(
            "no accelerator on offer has a known price: give --price NAME=USD for an hour of one "
            "accelerator, --prices FILE, or price_usd_per_hour in its specification"
        )
    if demand.by == "watt" and frame["power"].isna().all():
        raise SpecError(
            "no accelerator on offer has a known rated power; add tdp_w with its source to its "
            "specification"
        )


def excess_of(frame: pd.DataFrame, demand: Demand, osl: int) -> pd.DataFrame:
    """Each limited figure divided by its limit: above 1 where it fails, infinite if unknown.

    Args:
        frame: Rows of `scored`.
        demand: The limits.
        osl: Output tokens of each request. [count]
    """
    over = {}
    for limit, (column, _) in LIMITED.items():
        most = getattr(demand.limits, limit)
        # The highest rate within limits on latency meets these.
        if most is not None and (demand.request_rate is None or limit not in LATENCY_LIMITS):
            over[limit] = frame.get(column, pd.Series(np.nan, frame.index)) / most
    # A single output token has no time per output token.
    if "max_tpot" in over:
        over["max_tpot"] = over["max_tpot"].where(frame["tpot"].notna() | ~frame["runs"], 0.0)
    if "max_tpot_p99" in over and osl == 1:
        over["max_tpot_p99"] = over["max_tpot_p99"].where(~frame["runs"], 0.0)
    if demand.concurrency is not None:
        over["concurrency"] = frame["asked"] / frame["held"]
    chosen = demand.concurrency is None and demand.replicas is None
    if demand.requests_per_s is not None and not chosen:
        served = frame["replicas"] * frame["throughput"] / osl
        over["requests_per_s"] = demand.requests_per_s / served
    if demand.request_rate is not None:
        most_served = frame["replicas"] * frame["throughput"] / osl
        over["request_rate"] = (demand.request_rate / most_served).where(
            frame["throughput"] > 0, np.inf
        )
    return pd.DataFrame(over or {"none": 0.0}, frame.index).fillna(np.inf)
