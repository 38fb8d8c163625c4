"""A directory of shards: its `plan.json`, who may write to it, and its results as one Dataset."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sweep.cutting import Cut
from sweep.dataset import SCHEMA_VERSION, Origin, global_attributes, package_version
from sweep.errors import ResultError, SpecError, SpecWarning
from sweep.families import read_blocks
from sweep.fitted import FittedEfficiency
from sweep.grid import Resolved
from sweep.intervals import calibrated_attributes
from sweep.netcdf import open_file, replacing
from sweep.plan import Plan
from sweep.shards import fault, read_variable
from sweep.specs import HardwareSpec, ModelSpec, PrecisionSpec, Spec, parse
from sweep.variables import AXES

if TYPE_CHECKING:
    from filelock import BaseFileLock

PLAN_FILE = "plan.json"
MARK = "llm_sweep_plan"
"""First key of `plan.json` with the number of its format, and the attribute of a shard that tells
its plan."""
FORMAT: Literal[1] = 1
LOCK = ".lock"
OURS = re.compile(r"plan\.json|shard-\d+\.nc|\.plan\.json\..*|\.shard-\d+\.nc\..*|\.lock.*")
"""Names that a directory of shards may hold."""
PATIENCE = 2.0
"""How long to wait for another run to begin its part. [s]"""
FORMULAS = (
    *("variables", "efficiency", "operators", "architecture", "params", "bindings"),
    *("transformer", "roofline", "global_roofline", "memory", "phases", "server", "request"),
    *("specs", "traits", "families", "fitted"),
    *("stacking", "mapping", "dataset", "intervals"),
)
"""Modules that results follow from."""
Part = tuple[int, int]
"""Which of how many parts of the shards, from 1."""


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
        formulas=formulas_digest(),
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
    )


def formulas_digest() -> str:
    """Fingerprint of the source of every module that results follow from."""
    package = Path(__file__).parent
    paths = [
        path
        for name in FORMULAS
        for path in ([package / f"{name}.py"], sorted((package / name).rglob("*.py")))[
            (package / name).is_dir()
        ]
    ]
    return _digest(b"".join(path.read_bytes() for path in paths))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class Directory:
    """A directory that holds a plan and its shards.

    Attributes:
        path: The folder.
        recorded: Its `plan.json`.
    """

    path: Path
    recorded: Recorded

    @classmethod
    def load(cls, path: Path) -> "Directory":
        """The directory at `path`.

        Raises:
            ResultError: It has no `plan.json`, or one that cannot be read.
        """
        file = path / PLAN_FILE
        try:
            told = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise ResultError(f"{path}: no directory of shards; it has no {PLAN_FILE}") from None
        except (OSError, ValueError) as error:
            raise ResultError(f"{file}: cannot be read: {error}; run with --force anew") from None
        if isinstance(told, dict) and isinstance(told.get(MARK), int) and told[MARK] > FORMAT:
            raise ResultError(f"{file}: written by a newer llm-sweep; upgrade this one")
        try:
            return cls(path, parse(Recorded, told, str(file)))
        except SpecError as error:
            raise ResultError(f"{error}; run with --force anew") from None

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the plan."""
        return self.recorded.digest()

    @property
    def origin(self) -> Origin:
        """When the run began and by what version."""
        return Origin(self.recorded.created, self.recorded.version)

    @cached_property
    def plan(self) -> Plan:
        """The plan, as it was when the run began."""
        told = self.recorded
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpecWarning)
            models = tuple((spec, read_blocks(spec.config, spec.where)) for spec in told.models)
        grid = Resolved(
            models=models,
            hardware=tuple(told.hardware),
            precision=tuple(told.precision),
            numbers={axis: list(values) for axis, values in told.numbers.items()},
            variables=tuple(told.variables),
        )
        return Plan(grid, told.dtype, told.keep_infeasible, told.efficiency, told.cut)

    def shard_path(self, shard: int) -> Path:
        """File of one shard."""
        return self.path / f"shard-{shard:06d}.nc"

    def identity(self, shard: int) -> dict[str, str]:
        """Global attributes by which a shard of this very run is known."""
        return {
            MARK: self.digest,
            "llm_sweep_shard": f"{shard} of {self.recorded.cut.shards}",
            "history": str(self.recorded.attributes["history"]),
        }

    def fault(self, shard: int) -> str:
        """What is wrong with one shard, in words; nothing where it is sound."""
        return fault(self.shard_path(shard), self.identity(shard))

    def shards(self, part: Part | None = None) -> range:
        """Numbers of all shards, or those of one part."""
        first, step = (0, 1) if part is None else (part[0] - 1, part[1])
        return range(first, self.recorded.cut.shards, step)

    def unfinished(
        self,
        shards: Sequence[int],
        tell: Callable[[str], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[int]:
        """Shards that are missing or damaged.

        Args:
            shards: Numbers to look at.
            tell: Called with a line for every shard that stands there but is not sound.
            progress: Called with shards seen and shards in all.
        """
        found = []
        for done, shard in enumerate(shards, start=1):
            path = self.shard_path(shard)
            wrong = self.fault(shard)
            if wrong:
                found.append(shard)
            if wrong and path.exists():
                tell(f"{path} {wrong}; it is made again")
            if progress is not None:
                progress(done, len(shards))
        return found

    def remove_leftovers(self, shards: Sequence[int]) -> None:
        """Remove what runs or workers that died left beside the places of some shards."""
        names = {self.shard_path(shard).name for shard in shards}
        for path in self.path.glob(".shard-*"):
            if path.name[1:].partition(".nc.")[0] + ".nc" in names:
                path.unlink(missing_ok=True)

    def check_reproducible(self, digest: str) -> None:
        """See that this process would compute what the run that began here did.

        Raises:
            ResultError: The plan is another one, or this package is.
        """
        told = self.recorded
        if self.digest != digest:
            raise ResultError(f"{self.path}: holds another plan than the one that was started")
        if (told.formulas, told.version) != (formulas_digest(), package_version()):
            raise ResultError(
                f"{self.path}: begun by llm-sweep {told.version}, formulas {told.formulas}; this "
                f"machine has {package_version()}, {formulas_digest()}: install the same"
            )


def is_begun(path: Path) -> bool:
    """Whether a run into shards has begun at `path`."""
    return (path / PLAN_FILE).is_file()


def bytes_held(path: Path) -> int:
    """Size of the shards that stand in a folder. [byte]"""
    return sum(file.stat().st_size for file in path.glob("shard-*.nc"))


@contextmanager
def begun(
    path: Path, plan: Plan, *, part: Part | None = None, any_cut: bool = False, force: bool = False
) -> Iterator[Directory]:
    """The directory at `path`, begun or taken up again, for this run alone.

    Args:
        path: The folder, which is made if it does not exist.
        plan: What to compute.
        part: The part of the shards that this run computes beside others; all if not given.
        any_cut: Whether a cut that stands there may differ from the plan's.
        force: Whether to remove what another plan left there.

    Raises:
        ResultError: It is not ours, was begun with another plan, or another run is at work.
    """
    _make(path)
    with ExitStack() as held, ExitStack() as while_beginning:
        stack = held if part is None else while_beginning
        stack.enter_context(_locked(path, LOCK, PATIENCE))
        name = LOCK if part is None else f"{LOCK}-{part[0]}-of-{part[1]}"
        _refuse_others(path, name)
        if part is not None:
            held.enter_context(_locked(path, name, 0))
        directory = _begin(path, plan, any_cut=any_cut, force=force)
        while_beginning.close()
        yield directory


def _make(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise ResultError(f"{path}: is a file; shards need a folder: choose another name")
    if not path.parent.is_dir():
        raise ResultError(f"{path}: its folder {path.parent} does not exist; make it first")
    strangers = _strangers(path)
    if strangers and (PLAN_FILE in strangers or not is_begun(path)):
        raise ResultError(
            f"{path}: not empty, and no directory of shards: it holds {strangers[0]}; "
            "name another folder"
        )
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ResultError(f"{path}: cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise ResultError(f"{path}: cannot be written to")


def _strangers(path: Path) -> list[str]:
    """Names in a folder that are none of ours."""
    if not path.is_dir():
        return []
    names = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in names if not OURS.fullmatch(name)]
    plan = path / PLAN_FILE
    if plan.is_file():
        start = plan.read_bytes()[:80]
        foreign += [PLAN_FILE] if start.strip() and MARK.encode() not in start else []
    return foreign


@contextmanager
def _locked(path: Path, name: str, patience: float) -> Iterator[None]:
    from filelock import Timeout

    lock = _lock(path, name)
    try:
        lock.acquire(timeout=patience)
    except (Timeout, NotImplementedError, OSError) as error:
        if isinstance(error, Timeout):
            raise ResultError(_at_work(path, name)) from None
        raise ResultError(f"{path}: cannot be locked: {error}") from None
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path, name: str) -> "BaseFileLock":
    from filelock import FileLock

    return FileLock(path / name)


def _at_work(path: Path, name: str) -> str:
    part = name.removeprefix(LOCK).strip("-").replace("-of-", "/")
    who = f"another run (--only {part})" if part else "another run"
    return f"{path}: {who} is at work there; wait until it ends, or stop it"


def _refuse_others(path: Path, name: str) -> None:
    """See that no run is at work whose shards may be those of the run with lock `name`.

    Parts of the same number of parts have no shard in common.
    """
    from filelock import Timeout

    of = name.partition("-of-")[2]
    for file in sorted(path.glob(f"{LOCK}-*")):
        if of and file.name.endswith(f"-of-{of}") and file.name != name:
            continue
        try:
            with _lock(path, file.name).acquire(timeout=0):
                pass
        except Timeout:
            raise ResultError(_at_work(path, file.name)) from None


def _begin(path: Path, plan: Plan, *, any_cut: bool, force: bool) -> Directory:
    if force:
        _clear(path)
    if not is_begun(path):
        if bytes_held(path):
            raise ResultError(f"{path}: has shards and no {PLAN_FILE}; --force removes them")
        _write(path / PLAN_FILE, record(plan, Origin()))
        return Directory.load(path)
    directory = Directory.load(path)
    there = directory.recorded
    wanted = record(plan, directory.origin)
    if any_cut and there.cut.sizes == wanted.cut.sizes:
        wanted = wanted.model_copy(update={"pieces": there.pieces})
    wanted = wanted.model_copy(update={"version": package_version()})
    differences = _differences(there, wanted)
    if differences:
        raise ResultError(
            f"{path}: was begun with {'; '.join(differences)}. Name another folder, or start anew "
            "with --force, which removes what is there"
        )
    return directory


def _differences(there: Recorded, wanted: Recorded) -> list[str]:
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
    if not sheet and old["pieces"] != new["pieces"]:
        words.append(f"{there.cut.shards} shards, not {wanted.cut.shards}")
    if any(old[name] != new[name] for name in ("formulas", "version", "results")):
        words.append(
            f"other formulas: llm-sweep {there.version} of digest {there.formulas}, not "
            f"{wanted.version} of {wanted.formulas}"
        )
    return words


def _named(recorded: Recorded) -> str:
    efficiency = recorded.efficiency
    return "ideal" if efficiency is None else f"{efficiency.name} {efficiency.digest}"


def _clear(path: Path) -> None:
    """Remove our own files, but locks; the plan last, so that a death here can be mended."""
    ours = [file for file in path.iterdir() if OURS.fullmatch(file.name)]
    for file in sorted(ours, key=lambda file: file.name == PLAN_FILE):
        if not file.name.startswith(LOCK):
            file.unlink()


def _write(path: Path, recorded: Recorded) -> None:
    text = json.dumps(recorded.model_dump(mode="json", by_alias=True), indent=1)
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def open_results(path: str | Path) -> xr.Dataset:
    """Open a result, a file or a directory of shards, its data read when asked for.

    Raises:
        ResultError: It does not exist, cannot be read, lacks shards, or is none of ours.
    """
    path = Path(path)
    return open_directory(path) if path.is_dir() else open_file(path)


def open_directory(path: Path) -> xr.Dataset:
    """The shards of a directory as one Dataset of Dask arrays, one chunk to a shard.

    What does not vary along a cut axis is taken from the first shard along it.

    Raises:
        ResultError: It is no directory of shards, lacks some, or Dask is not installed.
    """
    directory = Directory.load(path)
    present = {file.name for file in path.glob("shard-*.nc")}
    missing = [k for k in directory.shards() if directory.shard_path(k).name not in present]
    if missing:
        raise ResultError(
            f"{path}: {len(missing)} of {directory.recorded.cut.shards} shards are missing, "
            f"the first is {directory.shard_path(missing[0]).name}; run the sweep again to add them"
        )
    with open_file(directory.shard_path(0)) as first:
        variables = {
            str(name): (array.dims, _lazy(directory, array), array.attrs)
            for name, array in first.data_vars.items()
        }
        coords = {str(dim): _whole_axis(directory, first[dim]) for dim in first.coords}
    return xr.Dataset(variables, coords, dict(directory.recorded.attributes))


def _whole_axis(directory: Directory, piece: xr.DataArray) -> tuple[str, Any, dict[str, Any]]:
    """A coordinate in full, from its piece in the first shard."""
    dim = str(piece.dims[0])
    axes = json.loads(str(directory.recorded.attributes["llm_sweep_grid"]))
    labelled = piece.dtype.kind in "UO"
    values = np.asarray(axes.get(dim, piece.values), None if labelled else piece.dtype)
    return dim, values, piece.attrs


def _lazy(directory: Directory, first: xr.DataArray) -> Any:
    """A variable over all shards, from its share of the first one."""
    try:
        import dask.array
    except ImportError:
        raise ResultError(
            f"{directory.path}: a directory of shards needs Dask: pip install 'llm-sweep[dask]'"
        ) from None
    cut, name = directory.recorded.cut, str(first.name)
    dims = [str(dim) for dim in first.dims]
    chunks = tuple(cut.lengths(dim) if dim in cut.pieces else (first.sizes[dim],) for dim in dims)

    def read(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        at = {dim: place for dim, place in zip(dims, block_id, strict=True) if dim in cut.pieces}
        return read_variable(directory.shard_path(cut.shard(at)), name)

    empty = np.empty((0,) * len(dims), first.dtype)
    return dask.array.map_blocks(
        read, chunks=chunks, dtype=first.dtype, meta=empty, name=f"{name}-{directory.digest}"
    )
