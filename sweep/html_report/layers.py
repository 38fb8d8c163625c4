"""Operators layer by layer, as a page reads them, and the names of the phases."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sweep.decisions.operator_breakdown import NO_BOUND
from sweep.html_report.operator_tables import AMOUNTS, OperatorTables
from sweep.html_report.packed_arrays import Bundle, Note


@dataclass(frozen=True)
class PhaseTitle:
    """Names of a phase on a page.

    Attributes:
        name: Its name in `OperatorTables`.
        short: A few words, for a legend.
        title: A heading.
        note: An explanation.
    """

    name: str
    short: str
    title: str
    note: str


PHASE_TITLES = {
    phase.name: phase
    for phase in (
        PhaseTitle(
            "decode_step",
            "decode step",
            "One decode step",
            "Each sequence of the batch gets one token, at the context of the cell or at the "
            "middle of the output.",
        ),
        PhaseTitle(
            "prefill",
            "prefill",
            "Prefill of the batch",
            "All prompts of the static batch, in one pass.",
        ),
        PhaseTitle(
            "decode_iteration",
            "iteration without prompts",
            "An iteration of the server without prompts",
            "Each running request gets one token, at the middle of its output.",
        ),
        PhaseTitle(
            "prompt_iteration",
            "iteration with prompts",
            "An iteration of the server with prompts",
            "New prompts, or chunks of them, share the pass with the requests that decode.",
        ),
    )
}
"""Phases in the order in which a page shows them."""


def layers(found: OperatorTables, bundle: Bundle) -> dict[str, Any]:
    """Operators of every model as JSON.

    Args:
        found: The operators.
        bundle: Takes their amounts.
    """
    models = {}
    for one in found.models:
        amounts: dict[str, dict[str, Note]] = {phase: {} for phase in found.phases}
        for phase in found.phases:
            for what in AMOUNTS:
                values = one.amounts[phase][what]
                if what == "bound":
                    values = np.nan_to_num(values, nan=NO_BOUND).astype(np.int8)
                amounts[phase][what] = bundle.add(values, found.dims)
        models[one.model] = {"groups": [asdict(group) for group in one.groups], **amounts}
    return {
        "phases": [asdict(PHASE_TITLES[phase]) for phase in PHASE_TITLES if phase in found.phases],
        "axes": {axis: list(values) for axis, values in found.axes.items()},
        "models": models,
    }
