"""Pairs of pools in words and tables, beside what one pool for both phases does."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from sweep.decisions.disaggregated import Instance, Pair
from sweep.decisions.recommend import By, Recommendation
from sweep.decisions.recommend_notes import context_notes
from sweep.decisions.recommend_text import COLUMNS, SCORES
from sweep.engines.calibration_file import IDEAL_NAME


def rows(pairs: Sequence[Pair], by: By) -> list[dict[str, Any]]:
    """Rows of the printed table, the best pair first."""
    shown = [
        {
            "rank": rank,
            "prefill": _pool(pair.prefill, pair.prefills),
            "decode": _pool(pair.decode, pair.decodes),
            "GPUs": pair.gpus,
            COLUMNS[by]: pair.score,
            "requests/s": pair.rate,
            "prompts per batch": pair.batch,
            "held": round(pair.held, 1),
            "ttft (s)": pair.ttft,
            "tpot (s)": pair.tpot,
            "transfer (s)": pair.transfer,
            "USD/hour": pair.price,
        }
        for rank, pair in enumerate(pairs, start=1)
    ]
    priced = any(isfinite(pair.price) for pair in pairs)
    return [row if priced else {k: v for k, v in row.items() if k != "USD/hour"} for row in shown]


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
    best = pairs[0]
    text = (
        f"{aggregated.deployments.model}, disaggregated, {_kind(aggregated)}: "
        f"{_pool(best.prefill, best.prefills)} for prompts and "
        f"{_pool(best.decode, best.decodes)} for decoding give the most {by}, {best.score:,.4g}"
    )
    if not len(aggregated.ranked):
        return f"{text}; one pool for both phases does not meet the limits."
    other = float(aggregated.ranked["score"].iloc[0])
    change = 100 * (best.score / other - 1)
    if abs(change) < 1:
        return f"{text}: as much as one pool for both phases, {other:,.4g}, within 1 %."
    verdict = "it pays" if change > 0 else "it does not pay"
    more = "more" if change > 0 else "less"
    text += f", {abs(change):.0f} % {more} than one pool for both phases"
    return f"{text}, {other:,.4g}: {verdict}."


def notes(pairs: Sequence[Pair], aggregated: Recommendation) -> list[str]:
    """Sentences on what is considered and left out, and on what the figures lack."""
    said = [*aggregated.deployments.notes, *context_notes(aggregated)]
    if pairs and aggregated.deployments.calibration != IDEAL_NAME:
        said.append(
            "pairs of pools have no interval, so a gain below the errors of the calibration may be "
            "none"
        )
    return said


def _kind(aggregated: Recommendation) -> str:
    """By what the pairs are predicted, in words."""
    name = aggregated.deployments.calibration.partition(" ")[0]
    return "bounds" if name == IDEAL_NAME else f"by {name}"


def as_json(pairs: Sequence[Pair], aggregated: Recommendation) -> dict[str, Any]:
    """The pairs for JSON; unknown values are null."""
    return {
        "model": aggregated.deployments.model,
        "answer": sentence(pairs, aggregated),
        "notes": notes(pairs, aggregated),
        "pairs": [
            {
                **{
                    name: value if not isinstance(value, float) or isfinite(value) else None
                    for name, value in vars(pair).items()
                    if name not in ("prefill", "decode")
                },
                "gpus": pair.gpus,
                "prefill": _instance(pair.prefill),
                "decode": _instance(pair.decode),
            }
            for pair in pairs
        ],
    }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "hardware": instance.hardware,
        "precision": instance.precision,
        "layout": dict(instance.layout),
        "gpus": instance.gpus,
    }
