"""Tells a recommendation: the answer in words, tables, and what binds each deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pandas as pd

from sweep.decisions.candidates import Candidates, beyond, settings
from sweep.decisions.recommend import LIMITED, By, Demand, Recommendation
from sweep.engines.calibration_file import IDEAL_NAME, FittedEfficiency, load_efficiency
from sweep.errors import SweepError
from sweep.evaluation.single_point import cell
from sweep.kernel.elasticity import RESOURCES, elasticities
from sweep.kernel.params import Point
from sweep.models.read import read_blocks
from sweep.schema.terms import INFEASIBLE_REASONS

Row = Mapping[str, Any]
"""One deployment, by the columns of `recommendation.judged`."""
SCORES: dict[By, str] = {
    "gpu": "output tokens per second and GPU",
    "dollar": "output tokens per dollar",
    "watt": "output tokens per joule of rated power",
}
ENERGY_CAVEAT = (
    "joules are those of rated power all the time, which a run that memory binds stays below; "
    "hosts and cooling are left out"
)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, columns by name."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def refusal(found: Recommendation) -> str:
    """Which limits the nearest deployment fails, and by how much; empty if there is an answer."""
    if len(found.ranked):
        return ""
    able = found.judged[found.judged["runs"]]
    if not len(able):
        return _why_none_runs(found.judged)
    excess = able.filter(like="over_").rename(columns=lambda name: name.removeprefix("over_"))
    place = int(np.argmin(excess.max(axis=1).to_numpy()))
    row, over, demand = _records(able.iloc[[place]])[0], excess.iloc[place], found.demand
    failed = [
        _failure(str(limit), row, float(over[limit]), demand)
        for limit in over.index
        if over[limit] > 1
    ]
    return f"nothing meets the limits; nearest is {placed(row)}: {'; '.join(failed)}"


def _failure(limit: str, row: Row, over: float, demand: Demand) -> str:
    if limit == "concurrency":
        return f"it holds {row['held']:.0f} of {demand.concurrency} requests"
    column, unit = LIMITED[limit]
    option, most = limit.replace("_", "-"), getattr(demand.limits, limit)
    name = column.replace("total_gpus", "size")
    if not isfinite(row[column]):
        return f"its {name} is unknown, so that --{option} cannot be met"
    told = f"its {name} of {row[column]:.4g} {unit} is"
    if over >= 2:
        return f"{told} {over:.3g} times --{option} {most:g}"
    percent = f"{100 * (over - 1):.0f}" if over >= 1.01 else f"{100 * (over - 1):.2g}"
    return f"{told} {percent} % over --{option} {most:g}"


def _why_none_runs(frame: pd.DataFrame) -> str:
    counts = {
        why: int(((frame["reason"] & bit) > 0).sum()) for why, bit in INFEASIBLE_REASONS.items()
    }
    told = ", ".join(f"{why} {count}" for why, count in counts.items() if count)
    return f"none of {len(frame):,} configurations can run" + (f": {told}" if told else "")


def placed(row: Row) -> str:
    """A deployment in words."""
    layout = ", ".join(f"{axis} {_plain(value)}" for axis, value in settings(row).items())
    gpus = row["total_gpus"] if isfinite(row["total_gpus"]) else row["gpus"]
    plural = "s" if row["held"] > 1 else ""
    held = "" if np.isnan(row["held"]) else f" at {row['held']:.0f} request{plural}"
    each = " each" if row["replicas"] > 1 else ""
    return f"{gpus:.0f} × {row['hardware']} in {row['precision']} ({layout}{each}){held}"


def _plain(value: float) -> str:
    return f"{value:g}"


def sentence(found: Recommendation) -> str:
    """The answer in words."""
    if not len(found.ranked):
        return refusal(found)
    best, by = _records(found.ranked)[0], SCORES[found.demand.by]
    given = found.candidates
    told = given.efficiency.partition(" ")[0]
    kind = "bounds" if told == IDEAL_NAME else f"by {told}"
    text = (
        f"{given.model}, {given.isl} in and {given.osl} out, {kind}: {placed(best)} "
        f"{'give' if best['total_gpus'] > 1 else 'gives'} the most {by}, {_score(best)}"
    )
    if len(found.ranked) == 1:
        return f"{text}; nothing else meets the limits."
    second = _records(found.ranked)[1]
    behind = 100 * (1 - second["score"] / best["score"])
    verb = "are" if second["total_gpus"] > 1 else "is"
    text += f"; next {verb} {placed(second)}, {_percent(behind)} behind"
    if np.isnan(best["score_lower"]):
        return f"{text}."
    apart = second["score_upper"] < best["score_lower"]
    return f"{text}, and their 90 % intervals {'do not overlap' if apart else 'overlap'}."


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 1 else f"{share:.1g} %"


def notes(found: Recommendation) -> list[str]:
    """What to know beside the answer: who was left out, and what energy stands for."""
    told = []
    column = {"dollar": "price", "watt": "power"}.get(found.demand.by)
    if column is None and found.demand.limits.max_price_per_hour is not None:
        column = "price"
    if column is not None:
        runs = found.judged[found.judged["runs"]]
        unknown = runs.loc[runs[column].isna(), "hardware"].unique()
        if len(unknown):
            told.append(f"left out, their {column} being unknown: {', '.join(unknown)}")
    if len(found.ranked) and found.ranked["energy"].notna().any():
        told.append(ENERGY_CAVEAT)
    return told


def _score(row: Row) -> str:
    value, low, high = (_three(row[f"score{end}"]) for end in ("", "_lower", "_upper"))
    return value if np.isnan(row["score_lower"]) else f"{value} ({low} to {high})"


def _three(value: float) -> str:
    """Three significant digits, without an exponent from 1 on."""
    if value < 1:
        return f"{value:.3g}"
    digits = 3 - len(f"{value:.0f}")
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def rows(
    found: Recommendation, frame: pd.DataFrame, moved: Sequence[Mapping[str, float]] = ()
) -> list[dict[str, Any]]:
    """The rows of a table; columns in which nothing is known are left out.

    Args:
        found: The answer.
        frame: Its `ranked` or `front`.
        moved: What `binding` says of each.
    """
    shown = []
    for place, row in enumerate(_records(frame)):
        layout = " ".join(f"{axis} {_plain(value)}" for axis, value in settings(row).items())
        shown.append(
            {
                "rank": place + 1,
                "hardware": row["hardware"],
                "precision": row["precision"],
                "layout": layout,
                "requests": row["held"],
                "replicas": row["replicas"] if found.demand.requests_per_s else np.nan,
                "GPUs": row["total_gpus"],
                SCORES[found.demand.by]: row["score"],
                "lower": row["score_lower"],
                "upper": row["score_upper"],
                "tokens/s/user": row["per_user"],
                "ttft (s)": row["ttft"],
                "tpot (s)": row["tpot"],
                "USD/hour": row["price"],
                "USD/M tokens": row["cost"],
                "rated J/token": row["energy"],
                "bound by": bound(row, moved[place]) if place < len(moved) else "",
                "beyond the data": " ".join(beyond(int(row["beyond"]))),
            }
        )
    known = [key for key in (shown[0] if shown else ()) if any(_there(row[key]) for row in shown)]
    return [{key: _whole(row[key]) for key in known} for row in shown]


def _there(value: Any) -> bool:
    return bool(value) if isinstance(value, str) else bool(np.isfinite(value))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def binding(found: Recommendation, frame: pd.DataFrame) -> list[dict[str, float]]:
    """Elasticities of the throughput of each row, empty where its parts are not known here. [1]

    Args:
        found: The answer.
        frame: Some rows of it.
    """
    fitted = _calibration(found.candidates.efficiency)
    told: list[dict[str, float]] = []
    for row in _records(frame):
        point = None if isinstance(fitted, str) else _point(found.candidates, row, fitted)
        if point is None:
            told.append({})
            continue
        moved = np.asarray(_moved(point, found.candidates.scheme.throughput))
        told.append(dict(zip(RESOURCES, moved.tolist(), strict=True)))
    return told


def bound(row: Row, moved: Mapping[str, float]) -> str:
    """In words, what binds a deployment: its first resource, and memory where requests are cut."""
    if not moved:
        return ""
    first = max(moved, key=lambda resource: abs(moved[resource]))
    full = " and memory size" if row["held"] < row["asked"] else ""
    return f"{first.replace('_', ' ')} ({moved[first]:+.2f} %/%){full}"


def _point(given: Candidates, row: Row, fitted: FittedEfficiency | None) -> Point | None:
    known = given.known
    spec = known.model
    machine = known.hardware.get(row["hardware"])
    recipe = known.precision.get(row["precision"])
    if spec is None or machine is None or recipe is None:
        return None
    numbers = {axis: float(value) for axis, value in settings(row).items()}
    return cell(
        read_blocks(spec.config, spec.where),
        machine,
        recipe,
        {
            **{axis: float(row[axis]) for axis in ("pp", "dp_attention")},
            **numbers,
            given.scheme.load: row["held"],
            "isl": given.isl,
            "osl": given.osl,
        },
        fitted,
    )


@eqx.filter_jit
def _moved(point: Point, throughput: str) -> jax.Array:
    return elasticities(point, lambda request: {"moved": getattr(request, throughput)})["moved"]


def _calibration(told: str) -> FittedEfficiency | str | None:
    """The calibration of a name and digest, or those where it is no longer to be had."""
    name, _, digest = told.partition(" ")
    try:
        fitted = load_efficiency(name)
    except SweepError:
        return told
    return told if fitted is not None and fitted.digest != digest else fitted


def as_json(found: Recommendation, moved: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Everything, for machines; what is unknown is null."""
    demand = {field.name: getattr(found.demand, field.name) for field in fields(found.demand)}
    demand["limits"] = vars(found.demand.limits)
    return {
        "model": found.candidates.model,
        "isl": found.candidates.isl,
        "osl": found.candidates.osl,
        "efficiency": found.candidates.efficiency,
        "demand": demand,
        "answer": sentence(found),
        "notes": notes(found),
        "ranked": [
            {**_clean(row), "elasticities": dict(moved[i]) if i < len(moved) else {}}
            for i, row in enumerate(_records(found.ranked))
        ],
        "front": [_clean(row) for row in _records(found.front)],
    }


def _clean(row: Row) -> dict[str, Any]:
    plain = {str(key): _whole(value) for key, value in row.items() if key not in ("feasible",)}
    return {**plain, "beyond": list(beyond(int(row["beyond"])))}
