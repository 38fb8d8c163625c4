"""Pairs of pools in words and tables, beside what one pool for both phases does."""

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any

from sweep.decisions.deployments import extrapolations
from sweep.decisions.disaggregated import Pair
from sweep.decisions.pool_figures import Instance
from sweep.decisions.ratio_interval import Ratio
from sweep.decisions.recommend import By, Recommendation
from sweep.decisions.recommend_notes import context_notes
from sweep.decisions.recommend_text import COLUMNS, SCORES, certainty, known_columns
from sweep.decisions.rivals import compared, recorded_calibration, records
from sweep.engines.calibration_file import IDEAL_NAME, Calibration


def rows(pairs: Sequence[Pair], by: By) -> list[dict[str, Any]]:
    """Rows of the printed table, the best pair first."""
    shown = [
        {
            "rank": rank,
            "prefill": _pool(pair.pools.prefill, pair.pools.prefills),
            "decode": _pool(pair.pools.decode, pair.pools.decodes),
            "GPUs": pair.pools.gpus,
            COLUMNS[by]: pair.score,
            "lower": pair.lower.get("score", nan),
            "upper": pair.upper.get("score", nan),
            "requests/s": pair.figures.rate,
            "prompts per batch": pair.pools.batch,
            "held": round(pair.figures.held, 1),
            "ttft (s)": pair.figures.ttft,
            "tpot (s)": pair.figures.tpot,
            "transfer (s)": pair.pools.transfer,
            "USD/hour": pair.pools.price,
            "extrapolation": " ".join(extrapolations(pair.beyond)),
        }
        for rank, pair in enumerate(pairs, start=1)
    ]
    return known_columns(shown)


def _pool(instance: Instance, count: int) -> str:
    layout = " ".join(f"{axis} {size}" for axis, size in instance.layout.items() if size > 1)
    each = f" ({layout})" if layout else ""
    return f"{count} × {instance.gpus} {instance.hardware} in {instance.precision}{each}"


def sentence(pairs: Sequence[Pair], aggregated: Recommendation) -> str:
    """The best pair, and whether it pays against one pool for both phases."""
    by = SCORES[aggregated.demand.by]
    if not pairs:
        limited = any(each is not None for each in vars(aggregated.demand.limits).values())
        return f"no pair of pools {'meets the limits' if limited else 'can run'}"
    best, pools = pairs[0], pairs[0].pools
    text = (
        f"{aggregated.deployments.model}, disaggregated, {_kind(aggregated)}: "
        f"{_pool(pools.prefill, pools.prefills)} for prompts and "
        f"{_pool(pools.decode, pools.decodes)} for decoding give the most {by}, {_score(best)}"
    )
    if not len(aggregated.ranked):
        return f"{text}; one pool for both phases does not meet the limits."
    other = float(aggregated.ranked["score"].iloc[0])
    change = 100 * (best.score / other - 1)
    if abs(change) < 1:
        return f"{text}: as much as one pool for both phases, {other:,.4g}, within 1 %."
    more = "more" if change > 0 else "less"
    text += f", {abs(change):.0f} % {more} than one pool for both phases"
    ratio = against(best, aggregated)
    return f"{text}, {other:,.4g}{certainty(ratio)}; {_verdict(change, ratio)}."


def _verdict(change: float, ratio: Ratio | None) -> str:
    """The verdict on pools, which is sure only where the interval of the ratio leaves out 1."""
    probably = "probably " if ratio is not None and ratio.lower <= 1 <= ratio.upper else ""
    return f"it {probably}pays" if change > 0 else f"it {probably}does not pay"


def _score(pair: Pair) -> str:
    low, high = (ends.get("score", nan) for ends in (pair.lower, pair.upper))
    value, lowest, highest = (f"{each:,.4g}" for each in (pair.score, low, high))
    known = isfinite(low) and not value == lowest == highest
    return f"{value} ({lowest} to {highest})" if known else value


def against(pair: Pair, aggregated: Recommendation) -> Ratio | None:
    """The pair over the best single pool with its interval; `None` if either has none."""
    pools = pair.pools.prefill, pair.pools.decode
    hardware, precision = (
        {getattr(pool, name) for pool in pools} for name in ("hardware", "precision")
    )
    row = {
        "lower": pair.lower.get("score", nan),
        "upper": pair.upper.get("score", nan),
        "beyond": pair.beyond,
        "hardware": hardware.pop() if len(hardware) == 1 else "",
        "precision": precision.pop() if len(precision) == 1 else "",
        "calibration": aggregated.deployments.calibration,
    }
    single = records(aggregated.ranked)[0]
    return compared(aggregated, row, single, pair.score / single["score"])


def notes(pairs: Sequence[Pair], aggregated: Recommendation) -> list[str]:
    """Sentences on what is considered and left out, and on what the figures lack."""
    said = [*aggregated.deployments.notes, *context_notes(aggregated)]
    calibrated = aggregated.deployments.calibration != IDEAL_NAME
    if pairs and calibrated and not isfinite(pairs[0].lower.get("score", nan)):
        said.append(
            "pairs of pools have no interval, as the calibration has no measured times to first "
            "token: a gain below its errors may be none"
        )
    elif pairs and calibrated and _stand_in(aggregated.deployments.calibration):
        said.append(
            "intervals of pairs rest on the errors of clients' times to first token, which contain "
            "the prefill and are wider, as the calibration has none of static batches"
        )
    return said


def _stand_in(recorded: str) -> bool:
    """Whether a recorded calibration has no first tokens of static batches."""
    known = recorded_calibration(recorded)
    return isinstance(known, Calibration) and not known.halfwidths.get("first_token")


def _kind(aggregated: Recommendation) -> str:
    """By what the pairs are predicted, in words."""
    name = aggregated.deployments.calibration.partition(" ")[0]
    return "bounds" if name == IDEAL_NAME else f"by {name}"


def as_json(pairs: Sequence[Pair], aggregated: Recommendation) -> dict[str, Any]:
    """The pairs for JSON; unknown values are null."""
    return {
        "model": aggregated.deployments.model,
        "answer": sentence(pairs, aggregated),
        "ratio": _ratio_in_json(pairs, aggregated),
        "notes": notes(pairs, aggregated),
        "pairs": [
            {
                **{
                    name: value if not isinstance(value, float) or isfinite(value) else None
                    for name, value in _figures(pair).items()
                },
                **{
                    f"{name}_{end}": value if isfinite(value) else None
                    for end, values in (("lower", pair.lower), ("upper", pair.upper))
                    for name, value in values.items()
                },
                "beyond": list(extrapolations(pair.beyond)),
                "gpus": pair.pools.gpus,
                "prefill": _instance(pair.pools.prefill),
                "decode": _instance(pair.pools.decode),
            }
            for pair in pairs
        ],
    }


def _figures(pair: Pair) -> dict[str, float]:
    return {
        **{name: getattr(pair.pools, name) for name in ("prefills", "decodes", "batch")},
        **pair.figures._asdict(),
        **{name: getattr(pair.pools, name) for name in ("transfer", "price")},
        **{name: getattr(pair, name) for name in ("throughput", "score")},
    }


def _ratio_in_json(pairs: Sequence[Pair], aggregated: Recommendation) -> dict[str, float] | None:
    """The best pair over the best single pool, with interval and probability."""
    known = against(pairs[0], aggregated) if pairs and len(aggregated.ranked) else None
    return None if known is None else vars(known)


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "hardware": instance.hardware,
        "precision": instance.precision,
        "layout": dict(instance.layout),
        "gpus": instance.gpus,
    }
