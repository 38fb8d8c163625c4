"""Deployments for requests that arrive at random times: what requests wait, and how busy it is.

The highest rate of a replica within limits on latency is the variable `max_request_rate` of a
sweep. This module computes the figures of the replicas that a rate needs, each at its share of it.
"""

from dataclasses import replace

import jax
import numpy as np

from sweep.decisions.deployment_cells import point_of
from sweep.decisions.recommend import Recommendation, pareto_front, with_costs
from sweep.decisions.rivals import Row, recorded_calibration, records
from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import beside_halfwidths
from sweep.evaluation.intervals import Drawn, within_rated
from sweep.evaluation.listed_cells import variables_of
from sweep.kernel.params import Point
from sweep.schema.intervals import ENDS, POWER

FIGURES = {
    "inflight_ttft": "ttft",
    "inflight_ttft_p50": "ttft_p50",
    "inflight_ttft_p90": "ttft_p90",
    "inflight_ttft_p99": "ttft_p99",
    "inflight_tpot": "tpot",
    "inflight_tpot_p99": "tpot_p99",
    "inflight_queue_time": "wait",
    "inflight_utilisation": "utilisation",
    "inflight_concurrency": "held",
    "inflight_power": "drawn",
    "inflight_prompt_share": "prompts",
}
"""Columns of a ranking by the variable of a replica at its share of the rate."""


def with_waits(found: Recommendation) -> Recommendation:
    """The answer with the figures of each ranked deployment at its share of the rate.

    Requests go to replicas at random, so that each of them arrives at a replica at a random time
    too, with the burstiness of all. The power drawn has the interval of power, as a rate is served
    whatever the server's speed. The Pareto front is that of the ranked deployments. Rows keep
    unknown figures where a specification is missing or the calibration is not installed.

    Args:
        found: A ranking for `Demand.request_rate`.
    """
    demand = found.demand
    if demand.request_rate is None or not len(found.ranked):
        return found
    points: dict[str, list[Point]] = {}
    known: dict[str, list[int]] = {}
    for number, row in enumerate(records(found.ranked)):
        recorded = found.deployments.calibration_of(row)
        calibration = recorded_calibration(recorded)
        if isinstance(calibration, str):
            continue
        load = {"request_rate": demand.request_rate / row["replicas"]}
        if demand.burstiness is not None:
            load["burstiness"] = demand.burstiness
        point = point_of(found.deployments, row, load, calibration)
        if point is not None:
            points.setdefault(recorded, []).append(point)
            known.setdefault(recorded, []).append(number)
    ranked = found.ranked.copy()
    # Schedulers of two engines are two kernels.
    for recorded, numbers in known.items():
        rows = ranked.index[numbers]
        for name, values in variables_of(points[recorded], tuple(FIGURES)).items():
            ranked.loc[rows, FIGURES[name]] = values.astype(float)
        calibration = recorded_calibration(recorded)
        if isinstance(calibration, Calibration):
            widths = beside_halfwidths(calibration.halfwidths, [POWER])[POWER]
            width = widths[ranked.loc[rows, "beyond"].astype(int)]
            drawn = ranked.loc[rows, "drawn"].to_numpy(float)
            rated = (ranked["power"] / ranked["total_gpus"])[rows].to_numpy(float)
            for end, sign in zip(ENDS, (-1, 1), strict=True):
                with jax.enable_x64(True):
                    more = within_rated(np.exp(sign * width), Drawn(drawn, rated))
                ranked.loc[rows, f"drawn_{end}"] = drawn * np.asarray(more)
    ranked = with_costs(ranked, found.deployments, demand)
    return replace(found, ranked=ranked, front=pareto_front(ranked))


def highest_rate(row: Row, osl: int) -> float:
    """Highest rate of all replicas of a ranked deployment within the limits. [s-1]"""
    return float(row["throughput"] * row["replicas"] / osl)
