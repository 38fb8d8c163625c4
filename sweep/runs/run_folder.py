"""A folder of shards: its plan, the shards that are missing, and locks against other runs."""

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

from sweep.errors import ResultError, SpecWarning
from sweep.evaluation.plan import Plan
from sweep.files.atomic import discard, replacing
from sweep.grid.dataset import Origin, package_version
from sweep.grid.resolved import Resolved
from sweep.models.read import read_model
from sweep.runs.formulas import formulas_digest
from sweep.runs.plan_file import MARK, Recorded, differences, read_recorded, record
from sweep.runs.shard_file import check_sound, fault

if TYPE_CHECKING:
    from filelock import BaseFileLock

PLAN_FILE = "plan.json"
LOCK = ".lock"
OURS = re.compile(r"plan\.json|shard-\d+\.nc|\.plan\.json\..*|\.shard-\d+\.nc\..*|\.lock.*")
"""Names of the files in a folder of shards."""
PARTIAL = "llm_sweep_partial"
"""Attribute of a shard with partial results of a reduction: the question."""
PATIENCE = 2.0
"""Longest wait for the lock of a folder. [s]"""
PATIENCE_OF_JOBS = 30.0
"""Longest wait where many jobs of an array lock the folder one after another. [s]"""
Job = tuple[int, int]
"""Number of a job of an array, from 1, and number of jobs."""


@dataclass(frozen=True)
class Directory:
    """A folder with a plan and its shards.

    Attributes:
        path: The folder.
        recorded: Its `plan.json`.
    """

    path: Path
    recorded: Recorded

    @classmethod
    def load(cls, path: Path) -> "Directory":
        """Read the folder at `path`.

        Raises:
            ResultError: Its `plan.json` is missing or cannot be read.
        """
        if not is_begun(path):
            raise ResultError(f"{path}: not a folder of shards; it has no {PLAN_FILE}")
        return cls(path, read_recorded(path / PLAN_FILE))

    @cached_property
    def digest(self) -> str:
        """Digest of the plan."""
        return self.recorded.digest()

    @property
    def origin(self) -> Origin:
        """Time when the run began, and version that began it."""
        return Origin(self.recorded.created, self.recorded.version)

    @cached_property
    def plan(self) -> Plan:
        """The plan, as it was when the run began."""
        recorded = self.recorded
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpecWarning)
            models = tuple((spec, read_model(spec)) for spec in recorded.models)
            draft = recorded.draft
            drafting = None if draft is None else (draft, read_model(draft))
        grid = Resolved(
            models=models,
            hardware=tuple(recorded.hardware),
            precision=tuple(recorded.precision),
            numbers={axis: list(values) for axis, values in recorded.numbers.items()},
            variables=tuple(recorded.variables),
            drafting=drafting,
        )
        return Plan(
            grid,
            recorded.dtype,
            recorded.keep_infeasible,
            recorded.calibration,
            recorded.shards,
            recorded.question,
        )

    def shard_path(self, shard: int) -> Path:
        """File of one shard."""
        return self.path / f"shard-{shard:06d}.nc"

    def identity(self, shard: int) -> dict[str, str]:
        """Global attributes that identify a shard of this run."""
        question = self.recorded.question
        return {
            MARK: self.digest,
            "llm_sweep_shard": f"{shard} of {self.recorded.shards.count}",
            "history": str(self.recorded.attributes["history"]),
            **({} if question is None else {PARTIAL: str(question)}),
        }

    def fault(self, shard: int) -> str:
        """Describe the fault of a shard in words; empty if it is sound."""
        return fault(self.shard_path(shard), self.identity(shard))

    def sound_path(self, shard: int) -> Path:
        """File of one shard, whose checksum and identity have been verified.

        Raises:
            ResultError: It is missing, damaged or of another run.
        """
        path = self.shard_path(shard)
        check_sound(path, self.identity(shard))
        return path

    def present(self) -> list[int]:
        """Numbers of the shards whose files exist, in their order."""
        found = []
        for path in self.path.glob("shard-*.nc"):
            number = path.stem.removeprefix("shard-")
            if number.isdecimal() and path == self.shard_path(int(number)):
                found.append(int(number))
        return sorted(number for number in found if number < self.recorded.shards.count)

    def missing(self, present: Sequence[int]) -> tuple[int, int]:
        """Number of shards that are missing, and the first of them.

        Args:
            present: Numbers of the shards whose files exist, in their order.
        """
        first = next((k for k, shard in enumerate(present) if k != shard), len(present))
        return self.recorded.shards.count - len(present), first

    def shards(self, job: Job | None = None) -> range:
        """Numbers of all shards, or those of one job of an array."""
        first, step = (0, 1) if job is None else (job[0] - 1, job[1])
        return range(first, self.recorded.shards.count, step)

    def unfinished(
        self,
        shards: Sequence[int],
        notify: Callable[[str], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[int]:
        """Find shards that are missing or damaged.

        Args:
            shards: Numbers of the shards to verify.
            notify: Called with a line for every shard whose file is damaged.
            progress: Called with shards verified and shards in all.
        """
        found = []
        for done, shard in enumerate(shards, start=1):
            path = self.shard_path(shard)
            wrong = self.fault(shard)
            if wrong:
                found.append(shard)
            if wrong and path.exists():
                notify(f"{path} {wrong}; computing it again")
            if progress is not None:
                progress(done, len(shards))
        return found

    def remove_leftovers(self, shards: Sequence[int]) -> None:
        """Remove temporary files of some shards, left by runs or workers that died."""
        names = {self.shard_path(shard).name for shard in shards}
        for path in self.path.glob(".shard-*"):
            if path.name[1:].partition(".nc.")[0] + ".nc" in names:
                discard(path)

    def check_reproducible(self, digest: str) -> None:
        """Check that this process computes the same as the run that began here.

        Raises:
            ResultError: The plan or the version of this package differs.
        """
        recorded = self.recorded
        if self.digest != digest:
            raise ResultError(f"{self.path}: its plan is not the one that was started")
        formulas = formulas_digest(reduced=recorded.question is not None)
        if (recorded.formulas, recorded.version) != (formulas, package_version()):
            raise ResultError(
                f"{self.path}: begun by llm-sweep {recorded.version}, formulas "
                f"{recorded.formulas}; this machine has {package_version()}, {formulas}: install "
                "the same version"
            )


def is_begun(path: Path) -> bool:
    """Whether a run into shards has begun at `path`."""
    return (path / PLAN_FILE).is_file()


def bytes_held(path: Path) -> int:
    """Size of the shards in a folder. [byte]"""
    return sum(file.stat().st_size for file in path.glob("shard-*.nc"))


def is_run_of(path: Path, plan: Plan, *, any_shards: bool = False) -> bool:
    """Whether the run that began at `path` is one of this plan and can be resumed."""
    try:
        return not _differences(Directory.load(path), plan, any_shards=any_shards)
    except ResultError:
        return False


def remove(path: Path) -> None:
    """Remove the files of a run that no process works on; other files stay."""
    with _locked(path, LOCK, PATIENCE):
        _refuse_others(path, LOCK)
        _clear(path)
    for lock in path.glob(f"{LOCK}*"):
        lock.unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()


@contextmanager
def begun(
    path: Path, plan: Plan, *, job: Job | None = None, any_shards: bool = False, force: bool = False
) -> Iterator[Directory]:
    """Begin or resume a run at `path`, locked against other runs.

    Args:
        path: The folder; it is created if it does not exist.
        plan: What to compute.
        job: The job of an array that this run is; it computes all shards if not given.
        any_shards: Whether the folder may have other shards than the plan.
        force: Whether to remove the shards of another plan.

    Raises:
        ResultError: The folder has other files, was begun with another plan, or another run works
            on it.
    """
    _make(path)
    with ExitStack() as held, ExitStack() as while_beginning:
        stack = held if job is None else while_beginning
        patience = PATIENCE if job is None else PATIENCE_OF_JOBS
        stack.enter_context(_locked(path, LOCK, patience))
        name = LOCK if job is None else f"{LOCK}-{job[0]}-of-{job[1]}"
        _refuse_others(path, name)
        if job is not None:
            held.enter_context(_locked(path, name, 0))
        directory = _begin(path, plan, any_shards=any_shards, force=force)
        while_beginning.close()
        yield directory


def _make(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise ResultError(f"{path}: is a file; shards need a folder: choose another name")
    if not path.parent.is_dir():
        raise ResultError(f"{path}: its folder {path.parent} does not exist; create it first")
    strangers = _strangers(path)
    if strangers and (PLAN_FILE in strangers or not is_begun(path)):
        raise ResultError(
            f"{path}: not empty and not a folder of shards: it contains {strangers[0]}; "
            "name another folder"
        )
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ResultError(f"{path}: cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise ResultError(f"{path}: cannot be written to")


def _strangers(path: Path) -> list[str]:
    """Names of files in a folder that no run writes."""
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
        raise ResultError(_locked_message(path, name)) from None
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


def _locked_message(path: Path, name: str) -> str:
    job = name.removeprefix(LOCK).strip("-").replace("-of-", "/")
    who = f"another run (--only {job})" if job else "another run"
    return f"{path}: {who} works on it; wait until it ends, or stop it"


def _refuse_others(path: Path, name: str) -> None:
    """Check that no run is active whose shards may be those of the run with lock `name`.

    Jobs of one array have no shard in common.
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
            raise ResultError(_locked_message(path, file.name)) from None


def _begin(path: Path, plan: Plan, *, any_shards: bool, force: bool) -> Directory:
    if force:
        _clear(path)
    if not is_begun(path):
        if bytes_held(path):
            raise ResultError(f"{path}: has shards but no {PLAN_FILE}; --force removes them")
        _write(path / PLAN_FILE, record(plan, Origin()))
        return Directory.load(path)
    directory = Directory.load(path)
    found = _differences(directory, plan, any_shards=any_shards)
    if found:
        raise ResultError(
            f"{path}: was begun with {'; '.join(found)}. Name another folder, or start again "
            "with --force, which removes the shards there"
        )
    return directory


def _differences(directory: Directory, plan: Plan, *, any_shards: bool) -> list[str]:
    there, wanted = directory.recorded, record(plan, directory.origin)
    if any_shards and there.shards.sizes == wanted.shards.sizes:
        wanted = wanted.model_copy(update={"ranges": there.ranges})
    return differences(there, wanted.model_copy(update={"version": package_version()}))


def _clear(path: Path) -> None:
    """Remove the files of a run except locks; the plan last, so that --force can do it again."""
    ours = [file for file in path.iterdir() if OURS.fullmatch(file.name)]
    for file in sorted(ours, key=lambda file: file.name == PLAN_FILE):
        if not file.name.startswith(LOCK):
            discard(file)


def _write(path: Path, recorded: Recorded) -> None:
    # One key to a line: Python indents deeper levels ten times more slowly than it writes them.
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in recorded.as_json().items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    beside = replacing(path, follow=False)
    with beside as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
