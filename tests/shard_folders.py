"""Plans of tests about shards, folders that are brought to their end, and what they contain."""

import os
import shutil
from pathlib import Path

from factories import UNEVEN, model, precision, shipped

from sweep.evaluation.plan import Plan, make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.runs.run_folder import begun
from sweep.runs.shards import run_shards

ROOT = Path(__file__).parent.parent
PRECISION = [precision(), precision("fp8", name="other")]
VARIABLES = [
    "output_throughput",
    "prefill_operator_latency",
    "prefill_operator_bound",
    "weight_memory",
    "feasible",
]


def small(**changes: object) -> Plan:
    options = {
        name: changes.pop(name) for name in ("dtype", "calibration", "shards") if name in changes
    }
    keys = {**UNEVEN, "precision": PRECISION, "variables": VARIABLES, **changes}
    return make_plan(resolve(Grid(**keys), shipped()), **options)


def tiny(shards: int = 8, **changes: object) -> Plan:
    """A plan that compiles at once."""
    keys = {"models": [model("llama")], "precision": [precision()], "variables": ["ttft", "bound"]}
    return small(**{**keys, "context_len": [500], "shards": shards, **changes})


def sharded(path: Path, plan: Plan, **options: object) -> list[int]:
    """Bring a directory to its end; the shards that were computed."""
    with begun(path, plan, **options) as directory:
        left = directory.unfinished(directory.shards(options.get("job")), lambda line: None)
        run_shards(directory, left)
        return left


def marks(path: Path) -> dict[str, tuple[int, int]]:
    """Which file each shard is, and when it was written."""
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in path.glob("shard-*.nc")}


def contents(path: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in path.iterdir() if not f.name.startswith(".lock")}


def twin(path: Path, other: Path) -> Path:
    """A directory begun with the same plan at the same time."""
    other.mkdir()
    shutil.copy(path / "plan.json", other)
    return other


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def forget(path: Path) -> None:
    path.unlink()
