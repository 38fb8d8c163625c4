"""Deployments to choose from, one row of a table each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from sweep.decisions.specs_by_name import SpecsByName
from sweep.kernel.block import Block
from sweep.models.read import read_model
from sweep.schema.axes import ACCEPTANCE, INTERVALS, LAYOUT, PREFIX, SERVER, SPECULATION, SPREADS
from sweep.schema.intervals import EXTRAPOLATION
from sweep.specs.precision import CHECKPOINT

LAYOUT_AXES = tuple(axis for axis in LAYOUT if axis != "expert_imbalance")
"""Axes of a layout that one can choose."""
DEPLOYMENT_AXES = ("hardware", "precision", *LAYOUT_AXES, *SERVER, "draft_tokens")
"""Axes that one can choose along, besides the load."""
WORKLOAD_AXES = (*PREFIX, *SPREADS, *INTERVALS, *ACCEPTANCE, "expert_imbalance")
"""Axes of the requests besides their lengths, of what holds them back, and of the load of experts,
each with one value."""


@dataclass(frozen=True)
class Scheme:
    """Kind of batching, and the variables of a result that describe it.

    Attributes:
        load: Axis of requests held at once.
        throughput: Output tokens per second.
        ttft: Time to first token.
        tpot: Time per output token.
        feasible: Whether the deployment can run.
        reason: Why it cannot.
        mask: In what ways a calibrated prediction extrapolates.
    """

    load: str
    throughput: str
    ttft: str
    tpot: str
    feasible: str
    reason: str
    mask: str


INFLIGHT = Scheme(
    "concurrency",
    "inflight_output_throughput",
    "inflight_ttft",
    "inflight_tpot",
    "inflight_feasible",
    "inflight_infeasible_reason",
    "inflight_extrapolation",
)
OPEN = replace(INFLIGHT, load="request_rate", throughput="max_request_rate")
"""Servers whose requests arrive at a rate; `Deployments.frame` has tokens and not requests."""
RUN = replace(INFLIGHT, load="num_requests")
"""Servers that get all requests of a run at once."""
STATIC = Scheme(
    "batch_size",
    "output_throughput",
    "ttft",
    "tpot",
    "feasible",
    "infeasible_reason",
    "extrapolation",
)


@dataclass(frozen=True)
class Offer:
    """Restrictions on the deployments to choose from.

    Attributes:
        hardware: Accelerators; empty for all whose figures are solid.
        precision: Precision recipes; empty for that of the model's own file, or 16 and 8 bits if
            it is not quantised, or for all of a result.
        tp: Tensor-parallel widths; empty for powers of two within a machine. [count]
        pp: Pipeline stages; empty for powers of two within a machine. [count]
        dp_attention: Attention groups; empty for powers of two within a machine if the model has
            experts, else for 1. [count]
        ep: GPUs that whole experts are spread over; empty for 1. [count]
        by_others: Accelerators that other calibrations predict in the same answer.
    """

    hardware: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    dp_attention: tuple[int, ...] = ()
    ep: tuple[int, ...] = ()
    by_others: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Deployments:
    """Deployments of one model for one kind of request.

    Attributes:
        model: Name of the model.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        scheme: How requests are batched.
        frame: One row per deployment and load, in a fixed order. Columns: `hardware`,
            `precision`, those axes of the layout, the server and the requests that there are,
            `asked` and `held` requests of one replica, `fit` (requests whose cache fits, if
            known), `drawn` (watts of a GPU) and `prompts` (share of the time that prompts take), if
            known, `throughput` with `lower` and `upper`, `ttft`, `tpot`, `runs`, `reason`, `beyond`
            (in what ways the prediction extrapolates), `gpus`.
        calibration: The calibration's name and digest, or `ideal`; where several predicted them,
            that of the first, and `frame` has that of each in its column `calibration`.
        specs: The specifications behind the names.
        draft: Name of the model that drafts tokens, if it is a model of its own.
        notes: Sentences on what the offer covers and leaves out.
        reserves: Engine and memory of each GPU that it keeps for itself, by calibration. [byte]
    """

    model: str
    isl: int
    osl: int
    scheme: Scheme
    frame: pd.DataFrame
    calibration: str
    specs: SpecsByName
    draft: str = ""
    notes: tuple[str, ...] = ()
    reserves: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def axes(self) -> list[str]:
        """Columns that identify a deployment, all but its load."""
        columns = (*DEPLOYMENT_AXES, *WORKLOAD_AXES)
        return [column for column in columns if column in self.frame]

    def calibration_of(self, row: Mapping[str, Any]) -> str:
        """Name and digest of the calibration that predicted a deployment, or `ideal`."""
        return str(row.get("calibration", self.calibration))

    @cached_property
    def blocks(self) -> tuple[Block, ...] | None:
        """Blocks of the model; `None` if its specification is missing."""
        spec = self.specs.models.get(self.model)
        return None if spec is None else read_model(spec)

    @cached_property
    def draft_blocks(self) -> tuple[Block, ...] | None:
        """Blocks of the model that drafts tokens; `None` if it is no model of its own."""
        return read_model(self.specs.models[self.draft]) if self.draft else None

    @property
    def checkpoint(self) -> str:
        """The recipe of the model's own file in words; empty if no deployment uses it."""
        used = (self.frame["precision"] == CHECKPOINT.name).any()
        recipe = self.specs.recipe(self.model, CHECKPOINT.name) if used else None
        return "" if recipe is None else recipe.note


def joined(parts: Sequence[Deployments], notes: Sequence[str] = ()) -> Deployments:
    """Deployments of the same requests that several calibrations predicted.

    Args:
        parts: Those of each calibration, the first of which gives the others its name.
        notes: Further sentences on what is left out.
    """
    first = parts[0]
    if len(parts) == 1:
        return replace(first, notes=(*first.notes, *notes))
    frames = [part.frame.assign(calibration=part.calibration) for part in parts]
    specs = SpecsByName(
        *(
            {name: spec for part in parts for name, spec in part.specs.by_axis[axis].items()}
            for axis in ("model", "hardware", "precision")
        )
    )
    by_others = [
        f"ranked by calibration {part.calibration.partition(' ')[0]}: "
        f"{', '.join(part.frame['hardware'].unique())}"
        for part in parts[1:]
    ]
    said = dict.fromkeys(note for part in parts for note in part.notes)
    return replace(
        first,
        frame=pd.concat(frames, ignore_index=True),
        specs=specs,
        notes=(*said, *by_others, *notes),
        reserves={name: kept for part in parts for name, kept in part.reserves.items()},
    )


def extrapolations(mask: int) -> tuple[str, ...]:
    """Names of the bits of an extrapolation mask."""
    return tuple(name for name, bit in EXTRAPOLATION.items() if mask & bit)


def settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Layout, server settings and drafts of a row: `tp`, and all that differ from 1, or from 0."""
    found = {axis: row[axis] for axis in (*LAYOUT_AXES, *SERVER) if _has(row, axis)}
    kept = {axis: value for axis, value in found.items() if axis == "tp" or value != 1}
    return kept | ({"draft_tokens": row["draft_tokens"]} if row.get("draft_tokens") else {})


def in_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as `tp 4` or `scheduler chunked`, one for each."""
    return [f"{axis} {v if isinstance(v, str) else format(v, 'g')}" for axis, v in settings.items()]


def numbers(row: Mapping[str, Any]) -> dict[str, float | str]:
    """Values of all axes of a row but its load and lengths; a scheduler by its name."""
    axes = (*LAYOUT, *SERVER, *PREFIX, *SPREADS, *INTERVALS, *SPECULATION)
    found = {axis: row[axis] for axis in axes if _has(row, axis)}
    return {axis: v if isinstance(v, str) else float(v) for axis, v in found.items()}


def _has(row: Mapping[str, Any], axis: str) -> bool:
    """Whether a row has a value along an axis, which only some of the calibrations may have."""
    return axis in row and not pd.isna(row[axis])
