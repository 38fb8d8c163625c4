"""What `plan.json` says: everything that shards follow from, and a digest of it."""

import hashlib
import json
from typing import Any, Literal

from sweep.engines.calibration_file import FittedEfficiency
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import Plan
from sweep.evaluation.tiling import Cut
from sweep.grid.dataset import SCHEMA_VERSION, Origin, global_attributes
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.formulas import formulas_digest
from sweep.schema.axes import AXES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import Spec
from sweep.specs.precision import PrecisionSpec

MARK = "llm_sweep_plan"
"""First key of `plan.json` with the number of its format, and the attribute of a shard that tells
its plan."""
FORMAT: Literal[1] = 1


class Recorded(Spec):
    """What `plan.json` says: everything the shards follow from.

    Attributes:
        llm_sweep_plan: Number of this format.
        created: When the run began, which every shard states as its time.
        version: Of this package.
        formulas: Digest of the modules that results follow from.
        results: Number of the format of the shards.
        models: Specifications along the `model` axis.
        hardware: Specifications along the `hardware` axis.
        precision: Specifications along the `precision` axis.
        numbers: The numeric axes.
        variables: What is computed.
        dtype: Type of the results.
        keep_infeasible: Whether throughputs stand where a configuration cannot run.
        efficiency: A calibration, or nothing for ideal rooflines.
        pieces: Into how many pieces each axis is cut. [count]
        attributes: Global attributes of the whole.
        question: What each shard is reduced to; nothing where it is kept whole.
    """

    llm_sweep_plan: Literal[1]
    created: str
    version: str
    formulas: str
    results: int
    models: list[ModelSpec]
    hardware: list[HardwareSpec]
    precision: list[PrecisionSpec]
    numbers: dict[str, list[int] | list[float]]
    variables: list[str]
    dtype: Literal["float32", "float64"]
    keep_infeasible: bool
    efficiency: FittedEfficiency | None
    pieces: dict[str, int]
    attributes: dict[str, str | int]
    question: ReductionRequest | None = None

    @property
    def cut(self) -> Cut:
        """How the axes are cut."""
        lengths = {axis: len(values) for axis, values in self.numbers.items()}
        lengths |= {"model": len(self.models), "hardware": len(self.hardware)}
        lengths["precision"] = len(self.precision)
        return Cut({axis: lengths[axis] for axis in AXES if axis in lengths}, self.pieces)

    def told(self) -> dict[str, Any]:
        """As JSON has it, what no result depends on left out."""
        unread: dict[str, Any] = {"created": True, "attributes": True}
        if self.question is None:
            unread["question"] = True
        return self.model_dump(
            mode="json", by_alias=True, exclude={**unread, "efficiency": {"provenance"}}
        )

    def digest(self) -> str:
        """Fingerprint of everything but the time."""
        return _digest(json.dumps(self.told(), sort_keys=True).encode())


def record(plan: Plan, origin: Origin) -> Recorded:
    """What `plan.json` is to say of a plan."""
    grid = plan.grid
    attributes = global_attributes(grid, origin)
    if plan.efficiency is not None:
        attributes |= calibrated_attributes(plan.efficiency, [v.name for v in plan.variables])
    return Recorded(
        llm_sweep_plan=FORMAT,
        created=origin.created,
        version=origin.version,
        formulas=formulas_digest(reduced=plan.question is not None),
        results=SCHEMA_VERSION,
        models=[spec for spec, _ in grid.models],
        hardware=list(grid.hardware),
        precision=list(grid.precision),
        numbers=grid.numbers,
        variables=list(grid.variables),
        dtype=plan.dtype,
        keep_infeasible=plan.keep_infeasible,
        efficiency=plan.efficiency,
        pieces=dict(plan.cut.pieces),
        attributes=attributes,
        question=plan.question,
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def differences(there: Recorded, wanted: Recorded) -> list[str]:
    """In words, where a plan that was begun is not the one that is wanted."""
    old, new = there.told(), wanted.told()
    sheet = [name for name in ("models", "hardware", "precision") if old[name] != new[name]]
    axes = {**old["numbers"], **new["numbers"]}
    sheet += [a for a in axes if old["numbers"].get(a) != new["numbers"].get(a)]
    sheet += ["variables"] if old["variables"] != new["variables"] else []
    words = [f"another sweep file, which differs in {', '.join(sheet)}"] if sheet else []
    if old["efficiency"] != new["efficiency"]:
        words.append(f"efficiency {_named(there)}, not {_named(wanted)}")
    words += [
        f"{name} {old[name]}, not {new[name]}"
        for name in ("dtype", "keep_infeasible")
        if old[name] != new[name]
    ]
    if there.question != wanted.question:
        words.append(f"{_asked(there)}, not {_asked(wanted)}")
    if not sheet and old["pieces"] != new["pieces"]:
        words.append(f"{there.cut.shards} shards, not {wanted.cut.shards}")
    if any(old[name] != new[name] for name in ("formulas", "version", "results")):
        words.append(
            f"other formulas: llm-sweep {there.version} of digest {there.formulas}, not "
            f"{wanted.version} of {wanted.formulas}"
        )
    return words


def _asked(recorded: Recorded) -> str:
    return f"--reduce {recorded.question}" if recorded.question else "nothing reduced"


def _named(recorded: Recorded) -> str:
    efficiency = recorded.efficiency
    return "ideal" if efficiency is None else f"{efficiency.name} {efficiency.digest}"
