"""A directory of shards: its plan, what is left to do in it, and who may write to it."""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import ResultError, SpecError, SpecWarning
from sweep.evaluation.plan import Plan
from sweep.files.atomic import replacing
from sweep.grid.dataset import Origin, package_version
from sweep.grid.resolved import Resolved
from sweep.models.read import read_blocks
from sweep.runs.formulas import formulas_digest
from sweep.runs.plan_file import FORMAT, MARK, Recorded, differences, record
from sweep.runs.shard_file import fault
from sweep.specs.parsing import parse

if TYPE_CHECKING:
    from filelock import BaseFileLock

PLAN_FILE = "plan.json"
LOCK = ".lock"
OURS = re.compile(r"plan\.json|shard-\d+\.nc|\.plan\.json\..*|\.shard-\d+\.nc\..*|\.lock.*")
"""Names that a directory of shards may hold."""
PARTIAL = "llm_sweep_partial"
"""Attribute of a shard that holds no results, but what a reduction found in them."""
PATIENCE = 2.0
"""How long to wait for the lock of a folder. [s]"""
PATIENCE_OF_PARTS = 30.0
"""The same where many parts of an array begin at once, one after another. [s]"""
Part = tuple[int, int]
"""Which of how many parts of the shards, from 1."""


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
        return Plan(
            grid, told.dtype, told.keep_infeasible, told.efficiency, told.cut, told.question
        )

    def shard_path(self, shard: int) -> Path:
        """File of one shard."""
        return self.path / f"shard-{shard:06d}.nc"

    def identity(self, shard: int) -> dict[str, str]:
        """Global attributes by which a shard of this very run is known."""
        question = self.recorded.question
        return {
            MARK: self.digest,
            "llm_sweep_shard": f"{shard} of {self.recorded.cut.shards}",
            "history": str(self.recorded.attributes["history"]),
            **({} if question is None else {PARTIAL: str(question)}),
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
        formulas = formulas_digest(reduced=told.question is not None)
        if (told.formulas, told.version) != (formulas, package_version()):
            raise ResultError(
                f"{self.path}: begun by llm-sweep {told.version}, formulas {told.formulas}; this "
                f"machine has {package_version()}, {formulas}: install the same"
            )


def is_begun(path: Path) -> bool:
    """Whether a run into shards has begun at `path`."""
    return (path / PLAN_FILE).is_file()


def bytes_held(path: Path) -> int:
    """Size of the shards that stand in a folder. [byte]"""
    return sum(file.stat().st_size for file in path.glob("shard-*.nc"))


def holds(path: Path, plan: Plan, *, any_cut: bool = False) -> bool:
    """Whether the run that began at `path` is one of this plan, sound enough to go on with."""
    try:
        return not _differences(Directory.load(path), plan, any_cut=any_cut)
    except ResultError:
        return False


def remove(path: Path) -> None:
    """Remove a directory of shards that nobody is at work in; what is not ours stays."""
    with _locked(path, LOCK, PATIENCE):
        _refuse_others(path, LOCK)
        _clear(path)
    for lock in path.glob(f"{LOCK}*"):
        lock.unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()


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
        patience = PATIENCE if part is None else PATIENCE_OF_PARTS
        stack.enter_context(_locked(path, LOCK, patience))
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
    except Timeout:
        raise ResultError(_at_work(path, name)) from None
    except (NotImplementedError, OSError) as error:
        # filelock raises NotImplementedError where the file system has no locks.
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
    found = _differences(directory, plan, any_cut=any_cut)
    if found:
        raise ResultError(
            f"{path}: was begun with {'; '.join(found)}. Name another folder, or start anew "
            "with --force, which removes what is there"
        )
    return directory


def _differences(directory: Directory, plan: Plan, *, any_cut: bool) -> list[str]:
    there, wanted = directory.recorded, record(plan, directory.origin)
    if any_cut and there.cut.sizes == wanted.cut.sizes:
        wanted = wanted.model_copy(update={"pieces": there.pieces})
    return differences(there, wanted.model_copy(update={"version": package_version()}))


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
