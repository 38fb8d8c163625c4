"""An explanation as tables and as JSON."""

from math import isfinite
from typing import Any

from sweep.decisions.explain import Explanation, Phase
from sweep.decisions.operator_breakdown import SPENT
from sweep.engines.calibration_file import IDEAL_NAME
from sweep.kernel.elasticity import RESOURCES
from sweep.schema.axes import LABELLED, gpus_of
from sweep.schema.variables import VARIABLES

NAMES = {"device": "device memory", "state": "of it, states of fixed size"}
"""Names of kinds of memory that are no variables."""


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
            "bound": part.bound or "host",
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
        "bound": max(SPENT, key=phase.share),
        "GFLOP": flops / 1e9,
        "memory (GB)": moved / 1e9,
        "FLOP/byte": flops / moved,
        "sent (GB)": sum(part.network_bytes for part in phase.parts) / 1e9,
    }
    return [*rows, whole]


def figure_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One row per figure and per kind of memory."""
    rows = []
    for name, value in {**explanation.figures, **explanation.memory}.items():
        low, high = explanation.intervals.get(name, (None, None))
        rows.append(
            {
                "figure": NAMES.get(name, name),
                "value": value if isfinite(value) else None,
                "units": "byte" if name in NAMES else VARIABLES[name].units,
                "lower": low,
                "upper": high,
            }
        )
    if not explanation.intervals:
        rows = [{key: row[key] for key in ("figure", "value", "units")} for row in rows]
    return rows


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
                "operators": {
                    part.operator: {
                        "seconds": part.latency,
                        "spent": dict(part.seconds),
                        "bound": part.bound or None,
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
        "infeasible_reasons": list(explanation.reasons),
        "elasticities": {name: dict(by) for name, by in explanation.elasticities.items()},
    }
