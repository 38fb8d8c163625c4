"""An explanation as tables and as JSON."""

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any

from sweep.decisions.explain import Explanation, Phase
from sweep.decisions.operator_breakdown import SPENT
from sweep.engines.calibration_file import IDEAL_NAME
from sweep.kernel.elasticity import RESOURCES
from sweep.schema.axes import LABELLED, gpus_of
from sweep.schema.variables import VARIABLES

NAMES = {
    "device": "device memory",
    "state": "of it, states of fixed size",
    "cache": "KV cache that the server reserves",
    "activations": "activations and buffers",
    "kept": "what the engine keeps for itself",
    "taken": "all of these",
}
"""Names of kinds of memory that are no variables."""
READABLE = {
    "s": (("s", 1.0), ("ms", 1e3), ("µs", 1e6)),
    "byte": (("GB", 1e-9), ("MB", 1e-6), ("byte", 1.0)),
    "s-1": (("tokens/s", 1.0),),
    "1": (("requests", 1.0),),
}
"""Units that a person reads, by SI unit: the first in which a value is at least 1."""
OF_REQUESTS = {
    "max_request_rate": (("requests/s", 1.0),),
    "inflight_utilisation": (("%", 100.0),),
}
"""The same of variables that are no rates of tokens or numbers of requests."""
OVERLOADED = {
    "clients_exceed_capacity": "more requests are open than fit, and the others wait for a slot",
    "arrivals_exceed_capacity": "unstable: requests arrive faster than max_request_rate, so that "
    "the wait grows without end and times to first token are missing",
}
"""Meaning of each kind of overload for the figures, in words."""


def title(explanation: Explanation) -> str:
    """The cell and the kind of prediction, in one line."""
    cell = explanation.cell
    layout = ", ".join(
        f"{axis} {value}" for axis, value in cell.items() if axis not in LABELLED and axis != "tp"
    )
    kind = "bounds" if explanation.calibration == IDEAL_NAME else f"by {explanation.calibration}"
    recipe = f" ({explanation.recipe})" if explanation.recipe else ""
    return (
        f"{cell['model']} in {cell['precision']}{recipe} on {gpus_of(cell)} {cell['hardware']} "
        f"(tp {cell['tp']}, {layout}), {kind}"
    )


def operator_rows(phase: Phase) -> list[dict[str, Any]]:
    """One row per operator that takes any time, and one for the whole phase."""
    rows = [
        {
            "operator": part.operator,
            "time (ms)": 1e3 * part.latency,
            "share": f"{part.latency / phase.latency:.1%}",
            "bound": part.limit or "host",
            "GFLOP": part.flops / 1e9,
            "memory (GB)": part.memory_bytes / 1e9,
            "FLOP/byte": part.intensity,
            "sent (GB)": part.network_bytes / 1e9,
        }
        for part in phase.parts
        if part.latency
    ]
    flops = sum(part.flops for part in phase.parts)
    moved = sum(part.memory_bytes for part in phase.parts)
    whole = {
        "operator": "all",
        "time (ms)": 1e3 * phase.latency,
        "share": "100.0%",
        "bound": max(SPENT, key=phase.share).replace("_", " "),
        "GFLOP": flops / 1e9,
        "memory (GB)": moved / 1e9,
        "FLOP/byte": flops / moved,
        "sent (GB)": sum(part.network_bytes for part in phase.parts) / 1e9,
    }
    return [*rows, whole]


def figure_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One row per figure and per kind of memory, in units that a person reads."""
    rows = []
    for name, value in {**explanation.figures, **explanation.memory}.items():
        low, high = explanation.intervals.get(name, (None, None))
        units = "byte" if name in NAMES else VARIABLES[name].units
        unit, factor = _readable(
            value, OF_REQUESTS.get(name) or READABLE.get(units, ((units, 1.0),))
        )
        rows.append(
            {
                "figure": NAMES.get(name, name),
                "value": factor * value if isfinite(value) else None,
                "units": unit,
                "lower": None if low is None or isnan(low) else factor * low,
                "upper": None if high is None or isnan(high) else factor * high,
            }
        )
    if not explanation.intervals:
        rows = [{key: row[key] for key in ("figure", "value", "units")} for row in rows]
    return rows


def overload_lines(explanation: Explanation) -> list[str]:
    """Lines that say how a server is overloaded, one for each kind."""
    return [f"({text})" for name, text in OVERLOADED.items() if name in explanation.overload]


def _readable(value: float, known: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """Name and factor of the unit, one of those known, in which a value is shown."""
    if not value or not isfinite(value):
        return known[0]
    return next((each for each in known if abs(value) * each[1] >= 1), known[-1])


def phase_title(phase: Phase) -> str:
    """The phase, its context, and how often a server runs it, in one line."""
    often = "" if phase.times == 1 else f", {100 * phase.times:.3g} % of the iterations"
    name = phase.name.replace("_", " ")
    return f"{name}, {phase.tokens:,.0f} tokens of context{often}, per GPU:"


def elasticity_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One row per resource: the change of each quantity for one percent more of it, in percent."""
    return [
        {
            "one percent more": resource.replace("_", " "),
            **{
                f"{quantity} (%)": f"{round(by_resource[resource], 3) + 0.0:+.3f}"
                for quantity, by_resource in explanation.elasticities.items()
            },
        }
        for resource in RESOURCES
    ]


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The whole explanation for JSON; unknown values are null."""
    return {
        "place": dict(explanation.cell),
        **({"checkpoint": explanation.recipe} if explanation.recipe else {}),
        "calibration": explanation.calibration,
        "efficiency": explanation.calibration,
        "phases": {
            phase.name: {
                "seconds": phase.latency,
                "tokens": phase.tokens,
                "share_of_iterations": phase.times,
                "operators": {
                    part.operator: {
                        "seconds": part.latency,
                        "spent": dict(part.seconds),
                        "bound": part.limit or None,
                        "flops": part.flops,
                        "memory_bytes": part.memory_bytes,
                        "flops_per_byte": part.intensity,
                        "network_bytes": part.network_bytes,
                    }
                    for part in phase.parts
                },
            }
            for phase in explanation.phases
        },
        "figures": {k: v if isfinite(v) else None for k, v in explanation.figures.items()},
        "intervals": {name: list(ends) for name, ends in explanation.intervals.items()},
        "memory": dict(explanation.memory),
        "extrapolation": list(explanation.flags),
        "infeasible_reasons": list(explanation.reasons),
        "overload": list(explanation.overload),
        "notes": list(explanation.notes),
        "elasticities": {name: dict(by) for name, by in explanation.elasticities.items()},
    }
