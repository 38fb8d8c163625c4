"""Caveats of a recommendation: what was left out, errors, and what energy assumes."""

from collections.abc import Mapping

import numpy as np

from sweep.decisions.deployment_cells import point_of
from sweep.decisions.deployments import INFLIGHT, RUN
from sweep.decisions.recommend import Recommendation
from sweep.decisions.rivals import recorded_calibration, records, rival
from sweep.decisions.step_unknown import step_unknown
from sweep.models.context import beyond_context
from sweep.schema.terms import OVERLOADS

ENERGY_CAVEAT = "joules leave out hosts and cooling"
RATED_CAVEAT = "those at rated power assume it all the time, which a memory-bound run stays below"


def notes(found: Recommendation) -> list[str]:
    """Caveats of an answer: accelerators left out, requests that wait, and what energy assumes."""
    found_notes = list(found.deployments.notes)
    column = {"dollar": "price", "watt": "power"}.get(found.demand.by)
    if column is None and found.demand.limits.max_price_per_hour is not None:
        column = "price"
    if column is not None:
        runs = found.scored[found.scored["runs"]]
        unknown = runs.loc[runs[column].isna(), "hardware"].unique()
        if len(unknown):
            found_notes.append(f"left out, {column} unknown: {', '.join(unknown)}")
    found_notes += _waiting(found)
    found_notes += context_notes(found)
    found_notes += _step_notes(found)
    if found.deployments.scheme is RUN and len(found.ranked):
        found_notes.append(
            "tpot is that of a full server; the last requests of a run decode faster, so that "
            "ttft and tpot add up to more than it takes"
        )
    found_notes += quoted_errors(found)
    if len(found.ranked) and found.ranked["energy"].notna().any():
        rated = found.ranked.loc[found.ranked["energy"].notna(), "drawn_energy"].isna().any()
        is_rated = found.demand.by == "watt" or rated
        found_notes.append(f"{ENERGY_CAVEAT}; {RATED_CAVEAT}" if is_rated else ENERGY_CAVEAT)
    return found_notes


def context_notes(found: Recommendation) -> list[str]:
    """A note where requests are longer than the model is made for."""
    given = found.deployments
    spec = given.specs.models.get(given.model)
    text = "" if spec is None else beyond_context(spec, given.isl + given.osl)
    return [text] if text else []


def _step_notes(found: Recommendation) -> list[str]:
    """A note where nobody measured if requests at the first deployment keep step."""
    given = found.deployments
    for row in records(found.ranked.head(1)):
        known = recorded_calibration(given.calibration_of(row))
        if given.scheme is not INFLIGHT or isinstance(known, str):
            continue
        point = point_of(given, row, {"concurrency": row["asked"]}, known)
        text = "" if point is None else step_unknown(point)
        return [text] if text else []
    return []


def _waiting(found: Recommendation) -> list[str]:
    """A note where the best load of a result is more than fits."""
    for row in records(found.ranked.head(1)):
        if found.deployments.scheme is not INFLIGHT:
            continue
        if row["held"] > row["fit"]:
            return [
                f"{row['fit']:.0f} of the {row['held']:.0f} requests on the first rank fit at "
                "once; the others wait for a slot, which is part of ttft"
            ]
        if int(row.get("overload", 0)) & OVERLOADS["clients_exceed_capacity"]:
            return ["some requests on the first rank wait for a slot, which is part of ttft"]
    return []


def quoted_errors(found: Recommendation) -> list[str]:
    """Errors of the calibrations for the model and the accelerators of the answer, in words."""
    if not len(found.ranked):
        return []
    best, second = records(found.ranked.head(1))[0], rival(found)
    machines: dict[str, list[str]] = {}
    for row in (best, second):
        if row is not None:
            machines.setdefault(found.deployments.calibration_of(row), []).append(row["hardware"])
    sentences = []
    for recorded, names in machines.items():
        known = recorded_calibration(recorded)
        if known is None or isinstance(known, str):
            continue
        by_label = known.provenance.get("errors_left_out", {})
        asked = {"model": [found.deployments.model], "hardware": list(dict.fromkeys(names))}
        parts = [
            _quoted(name, by_label[label], seen=name in known.seen.get(label, []))
            for label, each in asked.items()
            if by_label.get(label)
            for name in each
        ]
        if parts:
            start = f"mean error of {known.name} on runs that a fit had not seen"
            sentences.append(f"{start}: {'; '.join(parts)}")
    return sentences


def _quoted(name: str, errors: Mapping[str, Mapping[str, float]], *, seen: bool) -> str:
    """The error of one model or accelerator, or of others when they were left out.

    Args:
        name: The model or the accelerator.
        errors: Those that are known.
        seen: Whether the fit knew runs of it; too few, or doubtful, if it has no error.
    """
    if name in errors:
        known, new = (errors[name][key] for key in ("own_configuration_left_out", "left_out"))
        return f"{name} {percent(100 * known)}, {percent(100 * new)} when it was left out"
    left_out = {other: float(each["left_out"]) for other, each in errors.items()}
    worst = max(left_out, key=lambda other: left_out[other])
    usual = float(np.median(list(left_out.values())))
    lack = "has too few sound runs for an error of its own" if seen else "was never measured"
    return (
        f"{name} {lack}, others were {percent(100 * usual)} off when left out "
        f"(median), and {worst} {percent(100 * left_out[worst])}"
    )


def percent(share: float) -> str:
    """A number of percent in words. [%]"""
    return f"{share:.0f} %" if share >= 1 else f"{share:.1g} %"
