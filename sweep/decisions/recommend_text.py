"""A recommendation in words, tables and JSON, with the resource that binds each deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
import pandas as pd

from sweep.decisions.arrivals import highest_rate
from sweep.decisions.deployments import extrapolations, in_words, settings
from sweep.decisions.ratio_interval import SUREST, Ratio
from sweep.decisions.recommend import LIMITED, By, Demand, Recommendation
from sweep.decisions.recommend_notes import notes, percent
from sweep.decisions.reserves import reserves_in_words
from sweep.decisions.rivals import Row, compared, records, rival
from sweep.engines.calibration_file import IDEAL_NAME
from sweep.schema.terms import INFEASIBLE_REASONS

SCORES: dict[By, str] = {
    "gpu": "output tokens per second per GPU",
    "dollar": "output tokens per dollar",
    "watt": "output tokens per joule of rated power",
}
COLUMNS: dict[By, str] = {
    "gpu": "tokens/s per GPU",
    "dollar": "tokens per dollar",
    "watt": "tokens per rated joule",
}
"""Headings of the same."""
MOST_OF_FRONT = 12
"""Largest number of points of a front that are printed. [count]"""
LEVEL = 0.5
"""Distance of two deployments below which neither is called behind. [%]"""


def refusal(found: Recommendation) -> str:
    """The limits that the nearest deployment fails, and by how much; empty if one meets them."""
    if len(found.ranked):
        return ""
    able = found.scored[found.scored["runs"]]
    if not len(able):
        return _why_none_runs(found)
    excess = able.filter(like="over_").rename(columns=lambda name: name.removeprefix("over_"))
    index = int(np.argmin(excess.max(axis=1).to_numpy()))
    row, over, demand = records(able.iloc[[index]])[0], excess.iloc[index], found.demand
    failed = [
        _failure(str(limit), row, float(over[limit]), demand)
        for limit in over.index
        if over[limit] > 1
    ]
    # The replicas for an absurd rate are no number, which exceeds no limit.
    reasons = "; ".join(failed) or "it would need more replicas than can be counted"
    return f"nothing meets the limits; nearest is {described(row)}: {reasons}"


def _failure(limit: str, row: Row, over: float, demand: Demand) -> str:
    if limit == "concurrency":
        each = " each" if row["replicas"] > 1 else ""
        return f"it holds {row['held']:.0f} of {row['asked']:.0f} requests{each}"
    if limit == "requests_per_s":
        served = float(demand.requests_per_s or 0) / over
        return f"it serves {served:.3g} of {demand.requests_per_s:g} requests a second"
    if limit == "request_rate":
        return _failed_rate(demand, over)
    column, unit = LIMITED[limit]
    option, most = limit.replace("_", "-"), getattr(demand.limits, limit)
    name = column.replace("total_gpus", "size")
    if not isfinite(row[column]):
        return f"its {name} is unknown, so it cannot meet --{option}"
    start = f"its {name} of {row[column]:.4g} {unit} is"
    if over >= 2:
        return f"{start} {over:.3g} times --{option} {most:g}"
    percent = f"{100 * (over - 1):.0f}" if over >= 1.01 else f"{100 * (over - 1):.2g}"
    return f"{start} {percent} % over --{option} {most:g}"


def _failed_rate(demand: Demand, over: float) -> str:
    options = " and ".join(
        f"--{axis.replace('_', '-')} {most:g}" for axis, most in demand.limits.latencies.items()
    )
    if not isfinite(over):
        return f"a single request exceeds {options.replace(' and ', ' or ')}"
    within = f" within {options}" if options else ""
    served = float(demand.request_rate or 0) / over
    return f"it serves {served:.3g} of {demand.request_rate:g} requests a second{within}"


def _why_none_runs(found: Recommendation) -> str:
    frame = found.scored
    counts = {
        why: int(((frame["reason"] & bit) > 0).sum()) for why, bit in INFEASIBLE_REASONS.items()
    }
    reasons = ", ".join(f"{why} {count}" for why, count in counts.items() if count)
    text = f"none of {len(frame):,} deployments can run" + (f": {reasons}" if reasons else "")
    kept = reserves_in_words(found.deployments, frame) if counts["exceeds_memory"] else ""
    return f"{text}; {kept}" if kept else text


def described(row: Row) -> str:
    """A deployment in words: `2 × l40s in fp8 (tp 1 each) at 96 requests each`."""
    layout = ", ".join(in_words(settings(row)))
    gpus = row["total_gpus"] if isfinite(row["total_gpus"]) else row["gpus"]
    plural = "s" if row["held"] > 1 else ""
    each = " each" if row["replicas"] > 1 else ""
    held = "" if np.isnan(row["held"]) else f" at {_count(row['held'])} request{plural}{each}"
    return f"{gpus:.0f} × {row['hardware']} in {row['precision']} ({layout}{each}){held}"


def _count(value: float) -> str:
    """A number of requests; a mean below 10 with one digit more."""
    whole = value >= 10 or float(value).is_integer()
    return f"{value:.0f}" if whole else f"{value:.2g}"


def sentence(found: Recommendation) -> str:
    """The answer in words."""
    if not len(found.ranked):
        return refusal(found)
    best, by = records(found.ranked)[0], SCORES[found.demand.by]
    given = found.deployments
    own = f" (checkpoint: {given.checkpoint})" if given.checkpoint else ""
    calibration = given.calibration_of(best).partition(" ")[0]
    kind = "bounds" if calibration == IDEAL_NAME else f"by {calibration}"
    text = (
        f"{given.model}{own}, {given.isl} in and {given.osl} out, {kind}: {described(best)} "
        f"{'give' if best['total_gpus'] > 1 else 'gives'} the most {by}, {_score(best)}"
    )
    text += _whole_replicas(best, found.demand)
    second = rival(found)
    if second is None:
        return f"{text}; {_alone(found, best)}.{_waits(found, best)}"
    behind = 100 * (1 - second["score"] / best["score"])
    verb = "are" if second["total_gpus"] > 1 else "is"
    other = given.calibration_of(second).partition(" ")[0]
    by_other = "" if other == calibration else f", by {other}"
    near = "level with it" if behind < LEVEL else f"{percent(behind)} behind"
    text += f"; next {verb} {described(second)}{by_other}, {near}"
    rounded = found.demand.rate is not None
    sure = certainty(compared(found, best, second), rounded=rounded)
    return f"{text}{sure}.{_waits(found, best)}"


def _waits(found: Recommendation, best: Row) -> str:
    """Waits of requests of a run or that arrive at a rate, in a sentence; else nothing."""
    rate, sent = found.demand.request_rate, found.demand.num_requests
    if sent is not None:
        plural = "s" if sent > 1 else ""
        return (
            f" All {sent:,} request{plural} are sent at once: the run takes "
            f"{best['duration']:.3g} s, and the first token {best['ttft']:.3g} s on average."
        )
    if rate is None or not isfinite(best["ttft"]):
        return ""
    most = highest_rate(best, found.deployments.osl)
    limited = " within the limits" if found.demand.limits.latencies else ""
    tails = ", ".join(f"p{p} {best[f'ttft_p{p}']:.3g} s" for p in (50, 90, 99))
    after = ""
    if isfinite(best["tpot"]):
        after = f", each further token {best['tpot']:.3g} s (p99 {best['tpot_p99']:.3g} s)"
    return (
        f" With {rate:g} requests a second the servers are {100 * best['utilisation']:.0f} % "
        f"utilised: requests wait {best['wait']:.3g} s on average, the first token takes "
        f"{best['ttft']:.3g} s ({tails}){after}. They serve up to {most:.3g} requests a second"
        f"{limited}."
    )


def _alone(found: Recommendation, best: Row) -> str:
    """The deployment of another accelerator that is nearest to the limits."""
    others = found.scored[found.scored["hardware"] != best["hardware"]]
    if not len(others):
        return "no other accelerator is considered"
    why = refusal(replace(found, ranked=found.ranked.head(0), scored=others))
    return f"no other accelerator does: {why.replace('nothing meets the limits; ', '')}"


def _whole_replicas(best: Row, demand: Demand) -> str:
    """The numbers of replicas at the ends of the interval, where the load decides on them."""
    if demand.rate is None or np.isnan(best["lower"]):
        return ""
    few, many = int(best["fewest_replicas"]), int(best["most_replicas"])
    if few == many:
        return f", rounded to whole replicas, {few} throughout the interval"
    return f", rounded to whole replicas, {few} to {many} replicas within the interval"


def certainty(found: Ratio | None, *, rounded: bool = False) -> str:
    """The ratio of the first two in words.

    Args:
        found: The ratio.
        rounded: Whether the scores count whole replicas, which the ratio does not.
    """
    if found is None:
        return ""
    of = "ratio without rounding" if rounded else "ratio"
    more = " or more" if found.chance >= SUREST else ""
    more = " or less" if found.chance <= 1 - SUREST else more
    return (
        f" ({of} {found.value:.2f}, 90 % interval {found.lower:.2f} to {found.upper:.2f}): the "
        f"first is ahead of it with a probability of {100 * found.chance:.0f} %{more}"
    )


def _score(row: Row) -> str:
    value, low, high = (_three(row[f"score{end}"]) for end in ("", "_lower", "_upper"))
    known = np.isfinite(row["score_lower"]) and not value == low == high
    return f"{value} ({low} to {high})" if known else value


def _three(value: float) -> str:
    """Three significant digits; no exponent for values of 1 or more."""
    if value < 1:
        return f"{value:.3g}"
    digits = 3 - len(f"{value:.0f}")
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def rows(
    found: Recommendation, frame: pd.DataFrame, elasticities: Sequence[Mapping[str, float]] = ()
) -> list[dict[str, Any]]:
    """Rows of the printed table; columns without any known value are left out.

    Args:
        found: The answer.
        frame: Its `ranked` or `front`.
        elasticities: Those that `throughput_elasticities` returns for the first rows.
    """
    shown = []
    for index, row in enumerate(records(frame)):
        # A name and its value must not be parted in a narrow table.
        layout = [word.replace(" ", "=") for word in in_words(settings(row))]
        is_split = _replicated(found.demand) and row["replicas"] > 1
        shown.append(
            {
                "rank": index + 1,
                "hardware": f"{row['total_gpus']:g} × {row['hardware']}",
                "precision and layout": " ".join([row["precision"], *layout]),
                "requests": f"{row['replicas']:g} × {_count(row['held'])}"
                if is_split
                else row["held"],
                COLUMNS[found.demand.by]: row["score"],
                "lower": row["score_lower"],
                "upper": row["score_upper"],
                "tokens/s per user": row["per_user"],
                "run (s)": row.get("duration", np.nan),
                "ttft (s)": row["ttft"],
                "tpot (s)": row["tpot"],
                "tpot p99 (s)": row.get("tpot_p99", np.nan),
                **_tails(row),
                "USD/hour": row["price"],
                "USD/M tokens": row["cost"],
                "USD/M input": row["input_cost"],
                "USD/M output": row["output_cost"],
                "J per token at rated power": row["energy"] if isnan(row["drawn_energy"]) else nan,
                "J per token": row["drawn_energy"],
                "J lower": row["drawn_energy_lower"],
                "J upper": row["drawn_energy_upper"],
                "calibration": str(row.get("calibration", "")).partition(" ")[0],
                "bound by": bound(row, elasticities[index]) if index < len(elasticities) else "",
            }
        )
    return known_columns(shown)


def known_columns(shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the columns of which no value is known."""
    known = [
        key for key in (shown[0] if shown else ()) if any(_is_known(row[key]) for row in shown)
    ]
    return [{key: _plain_value(row[key]) for key in known} for row in shown]


def extrapolation_lines(frame: pd.DataFrame) -> list[str]:
    """Sentences on the rows of a printed table that extrapolate, one for each set of flags."""
    ranks: dict[str, list[str]] = {}
    for rank, row in enumerate(records(frame), start=1):
        ranks.setdefault(", ".join(extrapolations(int(row["beyond"]))), []).append(str(rank))
    return [
        f"beyond the measurements at rank {', '.join(each)}: {flags}"
        for flags, each in ranks.items()
        if flags
    ]


def _tails(row: Row) -> dict[str, float]:
    """Columns of waits, where they are known."""
    columns = {"utilisation": "utilisation", "wait (s)": "wait"}
    columns |= {f"ttft p{p} (s)": f"ttft_p{p}" for p in (50, 90, 99)}
    return {title: row.get(name, np.nan) for title, name in columns.items()}


def front_shown(front: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The heading of a printed front, and its rows: a dozen at most.

    Args:
        front: All points, with `per_user` [tokens/s].

    Returns:
        The heading, with the number of points if some are left out, and the points nearest to
        equal steps of throughput per user, from the lowest to the highest, in the front's order.
    """
    heading = "Pareto front of output tokens per second per user and per GPU"
    if len(front) <= MOST_OF_FRONT:
        return f"{heading}:", front
    per_user = front["per_user"].to_numpy(float)
    steps = np.linspace(per_user.min(), per_user.max(), MOST_OF_FRONT)
    nearest = np.abs(per_user[:, None] - steps).argmin(axis=0)
    shown = front.iloc[np.unique(nearest)]
    return (
        f"{heading}, {len(shown)} of {len(front):,} points (--json has all, -o draws all):",
        shown,
    )


def _replicated(demand: Demand) -> bool:
    """Whether the load or the user decides on the number of replicas."""
    return any((demand.shared, demand.rate, demand.replicas))


def _is_known(value: Any) -> bool:
    return bool(value) if isinstance(value, str) else bool(np.isfinite(value))


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def bound(row: Row, elasticities: Mapping[str, float]) -> str:
    """The resource with the largest elasticity, and memory size where it limits the requests."""
    if not elasticities:
        return ""
    first = max(elasticities, key=lambda resource: abs(elasticities[resource]))
    full = " and memory size" if row["held"] + 1 > row["fit"] else ""
    by = f" ({elasticities[first]:+.2f} %/%)" if np.isfinite(elasticities[first]) else ""
    return f"{first.replace('_', ' ')}{by}{full}"


def as_json(found: Recommendation, each: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The whole recommendation for JSON; unknown values are null.

    Args:
        found: The answer.
        each: Those that `throughput_elasticities` returns for the first rows of `ranked`.
    """
    demand = {field.name: getattr(found.demand, field.name) for field in fields(found.demand)}
    demand["limits"] = vars(found.demand.limits)
    return {
        "model": found.deployments.model,
        "isl": found.deployments.isl,
        "osl": found.deployments.osl,
        "calibration": found.deployments.calibration,
        "efficiency": found.deployments.calibration,
        **({"checkpoint": found.deployments.checkpoint} if found.deployments.checkpoint else {}),
        "demand": demand,
        "answer": sentence(found),
        "ratio": _ratio_in_json(found),
        "notes": notes(found),
        "ranked": [
            {**_clean(row), "elasticities": dict(each[i]) if i < len(each) else {}}
            for i, row in enumerate(records(found.ranked))
        ],
        "front": [_clean(row) for row in records(found.front)],
    }


def _ratio_in_json(found: Recommendation) -> dict[str, float] | None:
    """The first deployment over the runner-up, with interval and probability."""
    second = rival(found) if len(found.ranked) else None
    if second is None:
        return None
    known = compared(found, records(found.ranked)[0], second)
    return None if known is None else vars(known)


def _clean(row: Row) -> dict[str, Any]:
    plain = {
        str(key): _plain_value(value) for key, value in row.items() if key not in ("feasible",)
    }
    return {**plain, "beyond": list(extrapolations(int(row["beyond"])))}
