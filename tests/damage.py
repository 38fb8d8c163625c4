"""What tests of damaged and hostile files share: a refusal in one line, shards, a changed bit."""

from pathlib import Path

from factories import UNEVEN, hardware, model, precision, shipped

from sweep.evaluation.plan import Plan, make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.runs.run_folder import begun
from sweep.runs.shards import run_shards

LONGEST_LINE = 2000
"""Longest line of an error. [character]"""


def refused(answer: tuple[int, str, str], *words: str, status: int = 2) -> None:
    """Check that a command ended in one short line on standard error."""
    found, _, err = answer
    assert found == status, err
    assert "Traceback" not in err
    assert err.count("\n") == 1 and len(err) < LONGEST_LINE, err[:LONGEST_LINE]
    for word in words:
        assert word in err


def tiny(**options: object) -> Plan:
    """A plan that compiles at once, with accelerators that differ."""
    keys = {
        **{axis: values for axis, values in UNEVEN.items() if axis != "context_len"},
        "models": [model("llama")],
        "hardware": [hardware(), hardware(name="other", memory_bandwidth_bytes_per_s=1e12)],
        "precision": [precision()],
        "variables": ["ttft", "feasible"],
    }
    return make_plan(resolve(Grid(**keys), shipped()), **options)


def written(path: Path, plan: Plan) -> Path:
    """Compute a folder of shards."""
    with begun(path, plan) as directory:
        run_shards(directory, directory.shards())
    return path


def flip(path: Path, place: int, bit: int = 1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)
