"""Files from elsewhere: damage is noticed before values are used, and ends in one line."""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest
import xarray as xr
from factories import UNEVEN, hardware, model, precision, shipped

import sweep
from sweep.cli import main as cli
from sweep.errors import ResultError
from sweep.evaluation.plan import Plan, make_plan
from sweep.files.seal import SEAL_LENGTH
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.check_results import check_file
from sweep.runs.run_folder import Directory, begun
from sweep.runs.shards import run_shards

LONGEST_LINE = 2000
"""Longest line of an error. [character]"""


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process; returns exit status, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llm-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("sound") / "out", tiny(shards=4))


@pytest.fixture(scope="module")
def reduced(tmp_path_factory) -> Path:
    asked = ReductionRequest(text="argmin:ttft", where="", by=None, per=None)
    return written(tmp_path_factory.mktemp("reduced") / "out", tiny(shards=4, question=asked))


@pytest.fixture(scope="module")
def single(sound, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("single") / "out.nc"
    with sweep.open_results(sound) as results:
        sweep.write_netcdf(results.compute(), path)
    return path


def flip(path: Path, place: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


# Shards and files carry a seal, which is verified before their values are used.


@pytest.mark.parametrize("shard", [0, 2])
def test_a_flipped_bit_in_a_shard_stops_every_command(
    shard, sound, reduced, call, tmp_path
) -> None:
    for name, folder in (("whole", sound), ("reduced", reduced)):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        file = copy / f"shard-{shard:06d}.nc"
        flip(file, file.stat().st_size - SEAL_LENGTH - 40)
        refused(call("merge", copy, tmp_path / "out.nc"), file.name, "checksum differs")
        assert not (tmp_path / "out.nc").exists()
    asked = ("reduce", tmp_path / "whole", tmp_path / "out.nc", "--reduce", "argmin:ttft")
    refused(call(*asked), "checksum differs")


def test_exchanged_shards_are_noticed(sound, reduced, call, tmp_path) -> None:
    for name, folder in (("whole", sound), ("reduced", reduced)):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        one, other = (copy / f"shard-{shard:06d}.nc" for shard in (1, 2))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        refused(call("merge", copy, tmp_path / "out.nc"), "belongs to another run")


def test_a_shard_that_changes_while_it_is_open_is_noticed(sound, tmp_path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(sound, copy)
    with sweep.open_results(copy) as results:
        results.compute()
        flip(copy / "shard-000001.nc", 5000)
        with pytest.raises(ResultError, match="checksum differs"):
            results.compute()


def test_a_flipped_byte_of_a_single_file_is_noticed(single, tmp_path) -> None:
    content, chance = single.read_bytes(), random.Random(1)
    seal = range(len(content) - SEAL_LENGTH, len(content))
    for place in [*chance.sample(range(len(content)), 60), *seal]:
        changed = bytearray(content)
        changed[place] ^= chance.randrange(1, 256)
        copy = tmp_path / f"{place}.nc"
        copy.write_bytes(changed)
        assert check_file(copy) == ["is damaged: its checksum differs"]
        with pytest.raises(ResultError, match="checksum differs"):
            sweep.open_results(copy)


def test_check_verifies_what_is_too_large_to_verify_on_opening(single, tmp_path, monkeypatch):
    copy = shutil.copy(single, tmp_path / "out.nc")
    flip(copy, copy.stat().st_size - SEAL_LENGTH - 1)
    monkeypatch.setattr("sweep.files.netcdf.VERIFIED_BYTES", 10)
    assert check_file(copy) == ["is damaged: its checksum differs"]


def test_a_file_that_others_rewrote_has_no_seal_and_is_read(single, tmp_path) -> None:
    with xr.open_dataset(single, decode_times=False) as plain:
        plain.to_netcdf(tmp_path / "theirs.nc")
    assert check_file(tmp_path / "theirs.nc") == []


# The plan of a folder carries a seal too, and is checked like a sweep file.


def resealed(folder: Path, change) -> None:
    """Change the plan of a folder, and its seal with it if it can still be read."""
    file = folder / "plan.json"
    content = json.loads(file.read_text())
    recorded = Directory.load(folder).recorded
    change(content)
    try:
        changed = type(recorded).model_validate(content)
        content["seal"] = changed.content_digest()
    except Exception:
        content["seal"] = recorded.seal
    file.write_text(json.dumps(content))


def reverse(content) -> None:
    content["hardware"].reverse()
    grid = json.loads(content["attributes"]["llm_sweep_grid"])
    grid["hardware"].reverse()
    content["attributes"]["llm_sweep_grid"] = json.dumps(grid)


def reverse_labels(content) -> None:
    grid = json.loads(content["attributes"]["llm_sweep_grid"])
    grid["hardware"].reverse()
    content["attributes"]["llm_sweep_grid"] = json.dumps(grid)


EDITS = {
    "reversed accelerators": reverse,
    "reversed labels": reverse_labels,
    "no grid": lambda c: c["attributes"].pop("llm_sweep_grid"),
    "no history": lambda c: c["attributes"].pop("history"),
    "a history that is a number": lambda c: c["attributes"].update(history=1),
    "other history": lambda c: c["attributes"].update(history="x"),
    "short numbers": lambda c: c["numbers"]["batch_size"].pop(),
    "empty numbers": lambda c: c["numbers"].update(batch_size=[]),
    "unknown numbers": lambda c: c["numbers"].update(blocks=[1]),
    "numbers of models": lambda c: c["numbers"].update(model=[1]),
    "decreasing numbers": lambda c: c["numbers"]["batch_size"].reverse(),
    "no pieces": lambda c: c["pieces"].update(model=0),
    "negative pieces": lambda c: c["pieces"].update(model=-1),
    "pieces by the million": lambda c: c["pieces"].update(model=10**6),
    "pieces of an unknown axis": lambda c: c["pieces"].update(nothing=1),
    "unknown variables": lambda c: c.update(variables=["nothing"]),
    "no models": lambda c: c.update(models=[]),
    "a model twice": lambda c: c["models"].append(c["models"][0]),
    "deep": lambda c: c["models"][0].update(config=deep(900)),
    "another type": lambda c: c.update(dtype="float64"),
    "a deep grid": lambda c: c["attributes"].update(llm_sweep_grid="[" * 10**5),
    "another calibration": lambda c: c.update(efficiency={"name": "x"}),
}


def deep(levels: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_plan_is_refused_in_one_line(edit, sound, call, tmp_path) -> None:
    for seal in (True, False):
        copy = tmp_path / str(seal)
        shutil.copytree(sound, copy)
        if seal:
            resealed(copy, EDITS[edit])
        else:
            content = json.loads((copy / "plan.json").read_text())
            EDITS[edit](content)
            (copy / "plan.json").write_text(json.dumps(content))
        refused(call("merge", copy, tmp_path / "out.nc"))
        assert call("check", copy)[0] in (1, 2)


def test_a_plan_nested_too_deep_is_refused(sound, call, tmp_path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(sound, copy)
    (copy / "plan.json").write_text('{"llm_sweep_plan": 1, "models": ' + "[" * 10**5)
    refused(call("merge", copy, tmp_path / "out.nc"), "plan.json")
