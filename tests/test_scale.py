"""Large questions and small answers: reduced shard by shard, on any number of devices."""

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from factories import hardware, model, precision, shipped

import sweep
from sweep import asking, mapping, plan, running
from sweep.asking import Question
from sweep.checking import check_directory
from sweep.directory import Directory, begun
from sweep.errors import GridError, ResultError
from sweep.execution import check_piece_fits_memory, evaluation, run_plan
from sweep.grid import Grid, resolve
from sweep.plan import Plan, make_plan
from sweep.running import Sharding, run_reduced

ROOT = Path(__file__).parent.parent
AXES = {
    "models": [
        model("llama"),
        model("gptj"),
        model("llama", num_hidden_layers=5).model_copy(update={"name": "deeper"}),
    ],
    "hardware": [hardware(name="one"), hardware(name="two", memory_bandwidth_bytes_per_s=4e12)],
    "precision": [precision()],
    "tp": [1, 2],
    "batch_size": [1, 8, 64, 200, 300],
    "isl": [128, 1000, 3000],
    "osl": [10, 100],
    "variables": ["output_throughput", "ttft", "weight_memory", "feasible"],
}
QUESTIONS = [
    Question(text="best:batch_size,tp", where="ttft<0.05 and feasible"),
    Question(text="best:model,hardware,isl", by="ttft"),
    Question(text="argmax:output_throughput"),
    Question(text="argmin:ttft", per=["hardware", "isl"], where="weight_memory>1e5"),
    Question(text="pareto:ttft,output_throughput", where="feasible"),
    Question(text="pareto:ttft,output_throughput", per=[], where="ttft<1e-12"),
    Question(text="quantile:0.1,0.5:isl,osl", by="ttft"),
    Question(text="quantile:0.5:model,hardware"),
]


def planned(question: Question | None, **changes: object) -> Plan:
    options = {n: changes.pop(n) for n in ("efficiency", "shards", "shard_bytes") if n in changes}
    grid = resolve(Grid(**{**AXES, **changes}), shipped())
    return make_plan(grid, question=question, **options)


def answered(made: Plan, output: Path, how: Sharding | None = None) -> xr.Dataset:
    run_reduced(made, output, how or Sharding(), lambda line: None)
    with sweep.open_results(output) as found:
        return found.load()


def same_answer(found: xr.Dataset, wanted: xr.Dataset, folder: Path) -> None:
    """Bit for bit, after both have been in a file."""
    path = folder / "wanted.nc"
    sweep.write_netcdf(wanted, path, force=True)
    with sweep.open_results(path) as stored:
        wanted = stored.load()
    unlike = {"history": "at another time", "llm_sweep_plan": "in one way or another"}
    xr.testing.assert_identical(found.assign_attrs(unlike), wanted.assign_attrs(unlike))
    for name in wanted.variables:
        assert found[name].dtype == wanted[name].dtype, name
        if found[name].dtype.kind != "O":
            assert found[name].values.tobytes() == wanted[name].values.tobytes(), name


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return run_plan(planned(None))


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
@pytest.mark.parametrize("shards", [1, 7, 48])
def test_reducing_each_shard_answers_as_reducing_the_whole(
    question, shards, whole, tmp_path, monkeypatch
) -> None:
    """However shards are cut, and however they are computed in pieces."""
    monkeypatch.setattr(plan, "SHARD_BYTES", 500)
    made = planned(question, shards=shards)
    found = answered(made, tmp_path / "answer.nc")
    wanted = asking.reduce(
        whole, question.text, where=question.where, by=question.by, per=question.per
    )
    same_answer(found, wanted, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.nc", "wanted.nc"]


def test_intervals_and_operators_are_reduced_too(tmp_path) -> None:
    fitted = sweep.load_efficiency("tensorrt-llm")
    variables = ["output_throughput", "prefill_operator_latency", "bound"]
    changes = {"efficiency": fitted, "variables": variables, "context_len": [1000]}
    question = Question(text="best:batch_size", by="output_throughput_lower")
    found = answered(planned(question, shards=9, **changes), tmp_path / "answer.nc")
    wanted = asking.reduce(run_plan(planned(None, **changes)), question.text, by=question.by)
    same_answer(found, wanted, tmp_path)


def test_axes_needed_whole_are_not_cut() -> None:
    made = planned(Question(text="quantile:0.5:model,isl"), shards=1000)
    assert made.cut.pieces["model"] == made.cut.pieces["isl"] == 1
    assert made.cut.shards == 2 * 2 * 5 * 2
    places = made.cut.places(3)
    assert all(piece["model"] == range(3) for piece in made.pieces(places))


def test_pieces_of_a_shard_cover_it_once(monkeypatch) -> None:
    monkeypatch.setattr(plan, "SHARD_BYTES", 100)
    made = planned(Question(text="best:isl"), shards=2)
    places = made.cut.places(1)
    seen = np.zeros([3, 2, 1, 2, 5, 3, 2], int)
    pieces = list(made.pieces(places))
    assert len(pieces) > 5
    for piece in pieces:
        seen[tuple(slice(where.start, where.stop) for where in piece.values())] += 1
    inside = tuple(slice(where.start, where.stop) for where in places.values())
    assert (seen[inside] == 1).all() and seen.sum() == seen[inside].size


def test_blocks_keep_needed_axes_whole_as_long_as_they_can(monkeypatch) -> None:
    made = planned(Question(text="quantile:0.5:model,hardware"))
    monkeypatch.setattr(mapping, "BLOCK_BYTES", 200)
    lengths = evaluation(made)._block_lengths(made.sizes)
    assert lengths["model"] == 3 and lengths["hardware"] == 2 and lengths["batch_size"] == 1


def test_a_question_that_needs_too_much_at_once_is_refused() -> None:
    axes = {"isl": {"start": 1, "stop": 10**6}, "osl": {"start": 1, "stop": 10**6}}
    question = Question(text="quantile:0.5:isl,osl", by="output_throughput")
    with pytest.raises(GridError, match=r"needs isl, osl whole, 4\.8e\+04 GB|needs isl, osl whole"):
        check_piece_fits_memory(planned(question, **axes))


@pytest.mark.parametrize("text", ["best:speed", "worst:isl", "argmax:feasible", "pareto:ttft"])
def test_a_question_that_means_nothing_here_is_refused_before_anything_runs(text, tmp_path) -> None:
    with pytest.raises(ResultError, match="--reduce"):
        planned(Question(text=text))


QUESTION = QUESTIONS[0]


def test_what_stands_is_not_computed_again(tmp_path, monkeypatch) -> None:
    made, out = planned(QUESTION, shards=8), tmp_path / "answer.nc"
    folder = tmp_path / "answer.nc.shards"
    for part in ((1, 2), (2, 2)):
        run_reduced(made, out, Sharding(only=part), lambda line: None)
        assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard*")}
    assert len(before) == made.cut.shards
    found = sweep.open_results(folder)
    monkeypatch.setattr(running, "remove", lambda path: None)
    same_answer(answered(made, out), found, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("shard*")} == before
    monkeypatch.undo()
    # As after a death between the file and the removal of the folder:
    run_reduced(made, out, Sharding(), lambda line: None)
    assert not folder.exists() and out.exists()
    with pytest.raises(ResultError, match="exists"):
        run_reduced(made, out, Sharding(), lambda line: None)


def test_damage_of_a_partial_is_found_and_mended(tmp_path) -> None:
    made, out = planned(QUESTION, shards=8), tmp_path / "answer.nc"
    run_reduced(made, out, Sharding(only=(1, 1)), lambda line: None)
    folder = tmp_path / "answer.nc.shards"
    assert check_directory(folder) == []
    os.truncate(folder / "shard-000002.nc", 3000)
    assert check_directory(folder) == ["shard-000002.nc is damaged: its checksum differs"]
    told: list[str] = []
    run_reduced(made, out, Sharding(), told.append)
    assert "is damaged" in told[0] and ", 1 to compute" in told[1]
    wanted = asking.reduce(run_plan(planned(None)), QUESTION.text, where=QUESTION.where)
    same_answer(sweep.open_results(out).load(), wanted, tmp_path)


def test_another_question_is_another_plan(tmp_path) -> None:
    made, out = planned(QUESTION, shards=4), tmp_path / "answer.nc"
    run_reduced(made, out, Sharding(only=(1, 2)), lambda line: None)
    folder = tmp_path / "answer.nc.shards"
    digests = {Directory.load(folder).digest}
    for other in (Question(text="best:tp"), QUESTION.model_copy(update={"where": ""})):
        with pytest.raises(ResultError, match=r"begun with --reduce best:batch_size,tp where ttft"):
            answered(planned(other, shards=4), out)
    with (
        pytest.raises(ResultError, match=r"begun with --reduce .*, not nothing reduced"),
        begun(folder, planned(None, shards=4)),
    ):
        pass
    answered(planned(Question(text="best:tp"), shards=4), out, Sharding(force=True))
    with sweep.open_results(out) as found:
        assert found.attrs["llm_sweep_reduction"].startswith("best:tp")
        digests.add(found.attrs["llm_sweep_plan"])
    assert len(digests) == 2


def test_a_partial_is_not_taken_for_an_answer(tmp_path) -> None:
    run_reduced(planned(QUESTION), tmp_path / "a.nc", Sharding(only=(1, 1)), lambda line: None)
    with pytest.raises(ResultError, match="part of an answer to best:batch_size,tp where"):
        sweep.open_results(tmp_path / "a.nc.shards" / "shard-000000.nc")
