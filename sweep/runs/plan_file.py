"""The content of `plan.json`: everything that determines the shards, and a digest of it."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from sweep.engines.calibration_file import Calibration
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import Plan
from sweep.grid.dataset import SCHEMA_VERSION, Origin, global_attributes
from sweep.grid.tiling import Tiling
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.formulas import formulas_digest
from sweep.schema.axes import AXES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import Spec
from sweep.specs.precision import PrecisionSpec

MARK = "llm_sweep_plan"
"""First key of `plan.json`, with the number of its format, and the attribute of a shard with the
digest of its plan."""
FORMAT: Literal[1] = 1
"""Number of the format of `plan.json`."""


class Recorded(Spec):
    """The content of `plan.json`: everything that determines the shards.

    Attributes:
        llm_sweep_plan: Number of this format.
        created: Time when the run began, which every shard records as its own.
        version: Version of this package.
        formulas: Digest of the modules that determine results.
        results: Number of the format of the shards.
        models: Specifications along the `model` axis.
        hardware: Specifications along the `hardware` axis.
        precision: Specifications along the `precision` axis.
        numbers: The axes beside models, hardware and precision.
        variables: Names of the variables to compute.
        dtype: Type of the results.
        keep_infeasible: Whether throughput is reported where a deployment cannot run.
        calibration: A calibration, or `None` for ideal rooflines.
        ranges: Number of ranges into which each axis is divided; `pieces` in the file. [count]
        attributes: Global attributes of the result.
        question: Reduction of each shard; `None` to keep all values.
        draft: The model that drafts tokens, if it is a model of its own.
    """

    llm_sweep_plan: Literal[1]
    created: str
    version: str
    formulas: str
    results: int
    models: list[ModelSpec]
    hardware: list[HardwareSpec]
    precision: list[PrecisionSpec]
    numbers: dict[str, list[int] | list[float] | list[str]]
    variables: list[str]
    dtype: Literal["float32", "float64"]
    keep_infeasible: bool
    calibration: Calibration | None = Field(alias="efficiency")
    ranges: dict[str, int] = Field(alias="pieces")
    attributes: dict[str, str | int]
    question: ReductionRequest | None = None
    draft: ModelSpec | None = None

    @property
    def shards(self) -> Tiling:
        """Division of the grid into files."""
        lengths = {axis: len(values) for axis, values in self.numbers.items()}
        lengths |= {"model": len(self.models), "hardware": len(self.hardware)}
        lengths["precision"] = len(self.precision)
        sizes = {axis: lengths[axis] for axis in AXES if axis in lengths}
        return Tiling.even(sizes, self.ranges)

    def determining(self) -> dict[str, Any]:
        """The content as in JSON, without what no result depends on."""
        unread: dict[str, Any] = {"created": True, "attributes": True}
        if self.question is None:
            unread["question"] = True
        if self.draft is None:
            unread["draft"] = True
        return self.model_dump(
            mode="json", by_alias=True, exclude={**unread, "calibration": {"provenance"}}
        )

    def digest(self) -> str:
        """Digest of everything that results depend on."""
        return _digest(json.dumps(self.determining(), sort_keys=True).encode())


def record(plan: Plan, origin: Origin) -> Recorded:
    """The content of `plan.json` for a plan."""
    grid = plan.grid
    attributes = global_attributes(grid, origin)
    if plan.calibration is not None:
        attributes |= calibrated_attributes(plan.calibration, [v.name for v in plan.variables])
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
        efficiency=plan.calibration,
        pieces=plan.shards.counts,
        attributes=attributes,
        question=plan.question,
        draft=None if grid.drafting is None else grid.drafting[0],
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def differences(there: Recorded, wanted: Recorded) -> list[str]:
    """Differences between a plan that was begun and the one that is wanted, in words."""
    old, new = there.determining(), wanted.determining()
    keys = [name for name in ("models", "hardware", "precision") if old[name] != new[name]]
    keys += ["draft_model"] if old.get("draft") != new.get("draft") else []
    axes = {**old["numbers"], **new["numbers"]}
    keys += [a for a in axes if old["numbers"].get(a) != new["numbers"].get(a)]
    keys += ["variables"] if old["variables"] != new["variables"] else []
    words = [f"another sweep file, which differs in {', '.join(keys)}"] if keys else []
    if old["efficiency"] != new["efficiency"]:
        words.append(f"efficiency {_named(there)}, not {_named(wanted)}")
    words += [
        f"{name} {old[name]}, not {new[name]}"
        for name in ("dtype", "keep_infeasible")
        if old[name] != new[name]
    ]
    if there.question != wanted.question:
        words.append(f"{_asked(there)}, not {_asked(wanted)}")
    if not keys and old["pieces"] != new["pieces"]:
        words.append(f"{there.shards.count} shards, not {wanted.shards.count}")
    if any(old[name] != new[name] for name in ("formulas", "version", "results")):
        words.append(
            f"other formulas: llm-sweep {there.version} of digest {there.formulas}, not "
            f"{wanted.version} of {wanted.formulas}"
        )
    return words


def _asked(recorded: Recorded) -> str:
    return f"--reduce {recorded.question}" if recorded.question else "nothing reduced"


def _named(recorded: Recorded) -> str:
    calibration = recorded.calibration
    return "ideal" if calibration is None else f"{calibration.name} {calibration.digest}"
