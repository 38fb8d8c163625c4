"""The content of `plan.json`: everything that determines the shards, and a digest of it."""

import hashlib
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from sweep.engines.calibration_file import Calibration
from sweep.errors import ResultError, SpecError, SpecWarning
from sweep.evaluation.intervals import calibrated_attributes
from sweep.evaluation.plan import Plan
from sweep.grid.dataset import SCHEMA_VERSION, Origin, global_attributes
from sweep.grid.grid import Grid
from sweep.grid.tiling import Tiling
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.formulas import formulas_digest
from sweep.schema.axes import AXES, LABELLED
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import Spec, parse
from sweep.specs.precision import PrecisionSpec

MARK = "llm_sweep_plan"
"""First key of `plan.json`, with the number of its format, and the attribute of a shard with the
digest of its plan."""
FORMAT: Literal[1] = 1
"""Number of the format of `plan.json`."""
SPECIFIED = ("model", "hardware", "precision")
"""Axes whose values are specifications."""


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
        seal: Digest of all of this, by which a change of the file is noticed.
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
    seal: str = ""
    _read: dict[str, Any] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> "Recorded":
        unknown = [axis for axis in self.numbers if axis not in AXES or axis in SPECIFIED]
        if unknown:
            raise ValueError(f"numbers: unknown axis {unknown[0]!r}")
        # The grid checks the numbers of every axis and the names of variables.
        given: dict[str, Any] = {
            "models": self.models,
            "hardware": self.hardware,
            "precision": self.precision,
            **self.numbers,
        }
        Grid(**given, draft_model=self.draft, variables=self.variables)
        for axis, values in self.axes.items():
            if axis in LABELLED and len(set(values)) < len(values):
                raise ValueError(f"{axis}: the same name twice")
        sizes = {axis: len(values) for axis, values in self.axes.items()}
        for axis, count in self.ranges.items():
            if not 1 <= count <= sizes.get(axis, 0):
                raise ValueError(
                    f"pieces: {axis}: must be from 1 to {sizes.get(axis, 0)}, the length of the "
                    f"axis, not {count}"
                )
        if not isinstance(self.attributes.get("history"), str):
            raise ValueError("attributes: history: missing")
        try:
            stated = json.loads(str(self.attributes.get("llm_sweep_grid")))
        except (ValueError, RecursionError):
            stated = None
        if stated != self.axes:
            raise ValueError("attributes: llm_sweep_grid is not the grid of this plan")
        return self

    @cached_property
    def axes(self) -> dict[str, list[Any]]:
        """Labels or numbers along every axis, in the order of `AXES`."""
        found: dict[str, list[Any]] = {axis: list(held) for axis, held in self.numbers.items()}
        found["model"] = [spec.name for spec in self.models]
        found["hardware"] = [spec.name for spec in self.hardware]
        found["precision"] = [spec.name for spec in self.precision]
        return {axis: found[axis] for axis in AXES if axis in found}

    @property
    def shards(self) -> Tiling:
        """Division of the grid into files."""
        return Tiling.even({axis: len(held) for axis, held in self.axes.items()}, self.ranges)

    def content_digest(self) -> str:
        """Digest of the whole content, without the digest itself."""
        return _digest(json.dumps({**self._content, "seal": ""}, sort_keys=True).encode())

    def as_json(self) -> dict[str, Any]:
        """The content as it is written, with its digest."""
        return {**self._content, "seal": self.content_digest()}

    @property
    def _content(self) -> dict[str, Any]:
        """The content as read: fields that were added since change no digest of an older file."""
        return self._read or self.model_dump(mode="json", by_alias=True)

    def determining(self) -> dict[str, Any]:
        """The content as in JSON, without what no result depends on."""
        left_out = {"created", "attributes", "seal"}
        left_out |= {key for key in ("question", "draft") if self._content.get(key) is None}
        found = {key: value for key, value in self._content.items() if key not in left_out}
        calibration = found["efficiency"]
        if calibration is not None:
            without = {key: calibration[key] for key in calibration if key != "provenance"}
            found["efficiency"] = without
        return found

    def digest(self) -> str:
        """Digest of everything that results depend on."""
        return _digest(json.dumps(self.determining(), sort_keys=True).encode())


def record(plan: Plan, origin: Origin) -> Recorded:
    """The content of `plan.json` for a plan."""
    grid = plan.grid
    attributes = global_attributes(grid, origin)
    if plan.calibration is not None:
        present = [variable.name for variable in plan.variables]
        attributes |= calibrated_attributes(plan.calibration, plan.calibrated_name, present)
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


def read_recorded(file: Path) -> Recorded:
    """Read a `plan.json`.

    Raises:
        ResultError: It cannot be read, is no plan, or was changed after it was written.
    """
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from None
    number = content.get(MARK) if isinstance(content, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise ResultError(f"{file}: written by a newer llm-sweep; upgrade this one")
    try:
        recorded = parse(Recorded, content, str(file))
        recorded._read = content
        intact = recorded.seal == recorded.content_digest()
    except SpecError as error:
        raise ResultError(f"{error}; start again with --force") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, error) from None
    if not recorded.seal:
        text = f"{file}: without a seal, as of an earlier version: a change would not be noticed"
        warnings.warn(text, SpecWarning, stacklevel=2)
    elif not intact:
        raise ResultError(
            f"{file}: was changed after the run began: its seal differs; start again with --force"
        )
    return recorded


def _unreadable(file: Path, error: Exception) -> ResultError:
    return ResultError(f"{file}: cannot be read: {error!s:.200}; start again with --force")


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
        words.append(f"calibration {_named(there)}, not {_named(wanted)}")
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
