"""Large questions and small answers: reduced shard by shard, on any number of devices."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from factories import UNEVEN, model, shipped
from interruptions import DEADLINE, sweep_in

import sweep
from sweep.cli.main import cli
from sweep.errors import GridError, ResultError, SpecWarning
from sweep.evaluation import workspaces
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.files.export import export
from sweep.grid import thresholds
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.grid.tiling import slices
from sweep.queries import reduction_request
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs import to_disk as running
from sweep.runs.check_results import check_directory
from sweep.runs.limits import check_subgrid_fits_memory
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, begun
from sweep.runs.to_disk import Sharding, run_reduced

ROOT = Path(__file__).parent.parent
VARIABLES = ["output_throughput", "ttft", "weight_memory", "feasible"]
ELSEWHERE = "weight_memory>1e5 and hardware != one and not (batch_size>=300 or ttft>1e9)"
QUESTIONS = [
    ReductionRequest(text="best:batch_size,tp", where="ttft<0.05 and feasible"),
    ReductionRequest(text="best:model,hardware,isl", by="ttft"),
    ReductionRequest(text="argmax:output_throughput"),
    ReductionRequest(text="argmin:ttft", per=["hardware", "isl"], where=ELSEWHERE),
    ReductionRequest(text="pareto:ttft,output_throughput", where="feasible and isl<3000"),
    ReductionRequest(text="pareto:ttft,output_throughput", per=[], where="ttft<1e-12"),
    ReductionRequest(text="quantile:0.1,0.5:isl,osl", by="ttft"),
    ReductionRequest(text="quantile:0.5:model,hardware"),
]


def planned(question: ReductionRequest | None, **changes: object) -> Plan:
    options = {n: changes.pop(n) for n in ("calibration", "shards", "shard_bytes") if n in changes}
    grid = resolve(Grid(**{**UNEVEN, "variables": VARIABLES, **changes}), shipped())
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


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
@pytest.mark.parametrize("shards", [1, 48])
def test_reducing_each_shard_answers_as_reducing_the_whole(
    question, shards, whole, tmp_path, monkeypatch
) -> None:
    """Whatever the shards and the sub-grids or tiles that are computed one at a time."""
    monkeypatch.setattr(thresholds, "SHARD_BYTES", 500)
    monkeypatch.setattr(thresholds, "REDUCED_IN_TILES", 0)
    made = planned(question, shards=shards)
    found = answered(made, tmp_path / "answer.nc")
    wanted = reduction_request.reduce(
        whole, question.text, where=question.where, by=question.by, per=question.per
    )
    same_answer(found, wanted, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.nc", "wanted.nc"]


@pytest.mark.slow
def test_intervals_and_operators_are_reduced_too(tmp_path) -> None:
    fitted = sweep.load_calibration("tensorrt-llm")
    variables = ["ttft", "prefill_operator_bound"]
    changes = {
        **{"calibration": fitted, "variables": variables, "models": [model("llama")], "isl": [128]},
        "osl": [10],
    }
    question = ReductionRequest(text="best:batch_size", by="ttft_upper")
    found = answered(planned(question, shards=9, **changes), tmp_path / "answer.nc")
    wanted = reduction_request.reduce(
        run_plan(planned(None, **changes)), question.text, by=question.by
    )
    same_answer(found, wanted, tmp_path)


def test_axes_needed_whole_are_not_divided() -> None:
    made = planned(ReductionRequest(text="quantile:0.5:model,isl"), shards=1000)
    assert made.shards.counts["model"] == made.shards.counts["isl"] == 1
    assert made.shards.count == 2 * 2 * 5 * 2
    subgrids = list(made.subgrids(made.shards.region(3)))
    assert subgrids and all(subgrid["model"] == range(3) for subgrid in subgrids)


def test_subgrids_of_a_shard_cover_it_once(monkeypatch) -> None:
    monkeypatch.setattr(thresholds, "SHARD_BYTES", 100)
    made = planned(ReductionRequest(text="best:isl"), shards=2)
    shard = made.shards.region(1)
    seen = np.zeros([3, 2, 1, 2, 5, 3, 2], int)
    subgrids = list(made.subgrids(shard))
    assert len(subgrids) > 5
    for subgrid in subgrids:
        seen[tuple(slices(subgrid).values())] += 1
    inside = tuple(slices(shard).values())
    assert (seen[inside] == 1).all() and seen.sum() == seen[inside].size


def test_tiles_keep_needed_axes_whole_as_long_as_they_can(monkeypatch) -> None:
    made = planned(ReductionRequest(text="quantile:0.5:model,hardware"))
    monkeypatch.setattr(thresholds, "TILE_BYTES", 200)
    lengths = Evaluation(made)._small_tiles(made.sizes).shape
    assert lengths["model"] == 3 and lengths["hardware"] == 2 and lengths["batch_size"] == 1


def test_a_question_that_needs_too_much_at_once_is_refused() -> None:
    axes = {"isl": {"start": 1, "stop": 10**6}, "osl": {"start": 1, "stop": 10**6}}
    question = ReductionRequest(text="quantile:0.5:isl,osl", by="output_throughput")
    # A throughput of four bytes and flags of one and two for each of 10⁶ × 10⁶ cells.
    with pytest.raises(GridError, match=r"needs all of isl, osl at once, which is 7e\+03 GB"):
        check_subgrid_fits_memory(planned(question, **axes))
    # The best of one axis needs only that one, however large the others.
    check_subgrid_fits_memory(
        planned(ReductionRequest(text="best:isl", by="output_throughput"), **axes)
    )


@pytest.mark.parametrize("text", ["best:speed", "worst:isl", "argmax:feasible", "pareto:ttft"])
def test_a_question_that_means_nothing_here_is_refused_before_anything_runs(text, tmp_path) -> None:
    with pytest.raises(ResultError, match="--reduce"):
        planned(ReductionRequest(text=text))


QUESTION = QUESTIONS[0]


@pytest.mark.slow
def test_what_stands_is_not_computed_again(tmp_path, monkeypatch) -> None:
    made, out = planned(QUESTION, shards=8), tmp_path / "answer.nc"
    folder = tmp_path / "answer.nc.shards"
    for part in ((1, 2), (2, 2)):
        run_reduced(made, out, Sharding(only=part), lambda line: None)
        assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard*")}
    assert len(before) == made.shards.count
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


@pytest.mark.slow
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
    wanted = reduction_request.reduce(run_plan(planned(None)), QUESTION.text, where=QUESTION.where)
    same_answer(sweep.open_results(out).load(), wanted, tmp_path)


@pytest.mark.slow
def test_another_question_is_another_plan(tmp_path) -> None:
    made, out = planned(QUESTION, shards=4), tmp_path / "answer.nc"
    run_reduced(made, out, Sharding(only=(1, 2)), lambda line: None)
    folder = tmp_path / "answer.nc.shards"
    digests = {Directory.load(folder).digest}
    for other in (ReductionRequest(text="best:tp"), QUESTION.model_copy(update={"where": ""})):
        with pytest.raises(ResultError, match=r"begun with --reduce best:batch_size,tp where ttft"):
            answered(planned(other, shards=4), out)
    with (
        pytest.raises(ResultError, match=r"begun with --reduce .*, not nothing reduced"),
        begun(folder, planned(None, shards=4)),
    ):
        pass
    answered(planned(ReductionRequest(text="best:tp"), shards=4), out, Sharding(force=True))
    with sweep.open_results(out) as found:
        assert found.attrs["llm_sweep_reduction"].startswith("best:tp")
        digests.add(found.attrs["llm_sweep_plan"])
    assert len(digests) == 2


@pytest.mark.slow
def test_a_partial_is_not_taken_for_an_answer(tmp_path) -> None:
    run_reduced(planned(QUESTION), tmp_path / "a.nc", Sharding(only=(1, 1)), lambda line: None)
    with pytest.raises(ResultError, match="a partial result of best:batch_size,tp where"):
        sweep.open_results(tmp_path / "a.nc.shards" / "shard-000000.nc")


# Processes: killed, short of memory, or with several devices.

SWEEP = {
    "models": ["llama-2-7b"],
    "hardware": ["a100-sxm-80gb", "h20-96gb"],
    "batch_size": {"start": 1, "stop": 101},
    "context_len": [128, 4096],
    "variables": ["decode_step_latency", "kv_cache_memory"],
}
ASKED = ("--reduce", "best:batch_size", "--by", "decode_step_latency", "--shards", "100")


@pytest.fixture(autouse=True, scope="module")
def environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("jax")))
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


def start(*words: object, code: str = "", **options: object) -> subprocess.Popen[str]:
    """Be `llm-sweep`, or run some code."""
    command = ["-c", code] if code else ["-m", "sweep"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def done(process: subprocess.Popen[str]) -> str:
    said, error = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, error
    return said


def run_here(*words: object) -> None:
    """`llm-sweep run` in this process."""
    ended = CliRunner().invoke(cli, ["run", *map(str, words)])
    assert ended.exit_code == 0, ended.output


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory) -> Path:
    return sweep_in(tmp_path_factory.mktemp("sweep"), SWEEP)


@pytest.fixture(scope="module")
def uninterrupted(sweep_file, tmp_path_factory) -> xr.Dataset:
    out = tmp_path_factory.mktemp("reference") / "out.nc"
    run_here(sweep_file, "-o", out, *ASKED)
    with sweep.open_results(out) as found:
        return found.load()


HELD = """
import sys
from interruptions import hold_after
from sweep.cli.main import main

hold_after(int(sys.argv[1]))
sys.argv = ["llm-sweep", *sys.argv[2:]]
main()
"""


@pytest.mark.slow
def test_killed_and_resumed_it_answers_the_same(sweep_file, uninterrupted, tmp_path) -> None:
    out = tmp_path / "out.nc"
    folder = tmp_path / "out.nc.shards"
    for count in (3, 40):
        process = start(count + 5, "run", sweep_file, "-o", out, *ASKED, code=HELD)
        end = time.monotonic() + DEADLINE
        while len(list(folder.glob("shard*"))) < count and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert count <= len(list(folder.glob("shard*"))) < 100
    before = {path.name: path.read_bytes() for path in folder.glob("shard*")}
    run_here(sweep_file, "-o", out, *ASKED, "--only", "1/1")
    assert before == {name: (folder / name).read_bytes() for name in before}
    run_here(sweep_file, "-o", out, *ASKED)
    assert not folder.exists()
    same_answer(sweep.open_results(out).load(), uninterrupted, tmp_path)


@pytest.mark.campaign
def test_workers_and_parts_answer_the_same(sweep_file, uninterrupted, tmp_path) -> None:
    done(start("run", sweep_file, "-o", tmp_path / "workers.nc", *ASKED, "--workers", 2))
    same_answer(sweep.open_results(tmp_path / "workers.nc").load(), uninterrupted, tmp_path)
    parts = [
        start("run", sweep_file, "-o", tmp_path / "parts.nc", *ASKED, "--only", f"{k}/2")
        for k in (1, 2)
    ]
    for part in parts:
        done(part)
    assert not (tmp_path / "parts.nc").exists()
    done(start("merge", tmp_path / "parts.nc.shards", tmp_path / "parts.nc"))
    same_answer(sweep.open_results(tmp_path / "parts.nc").load(), uninterrupted, tmp_path)


HANDED_OVER = """
import json, resource, sys
from click.testing import CliRunner
from sweep.grid import thresholds
from sweep.cli.main import cli

file, folder, peaks = sys.argv[1], sys.argv[2], {}
thresholds.SHARD_BYTES, thresholds.ONE_FILE_BYTES, thresholds.CELLS_AT_ONCE = 2**20, 2**22, 2**18
pair = ["--hardware", "a100-sxm-80gb", "h20-96gb"]
for words in (
    ["run", file, "-o", f"{folder}/asked.nc", "--reduce", "best:batch_size"],
    ["run", file, "-o", f"{folder}/cut", "--shards", "2"],
    ["merge", f"{folder}/cut", f"{folder}/merged.nc", "--compression", "none"],
    ["export", f"{folder}/cut", f"{folder}/part.zarr", "--compression", "none"],
    ["reduce", f"{folder}/cut", f"{folder}/reduced.nc", "--reduce", "best:batch_size"],
    ["compare", f"{folder}/cut", *pair, "--variable", "decode_step_latency"],
    ["check", f"{folder}/cut"],
):
    done = CliRunner().invoke(cli, words)
    assert not done.exception, (words, done.output, done.exception)
    peaks[" ".join(words[::3])] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(list(peaks.values())))
"""


@pytest.mark.campaign
def test_memory_does_not_grow_with_the_grid(tmp_path) -> None:
    """Of a run, a merge, an export, a reduction, a comparison and a check of a folder."""
    peaks = []
    for name, batches in (("small", 16), ("large", 513)):
        (tmp_path / name).mkdir()
        lengths = {"start": 1, "stop": 20001}
        axes = {**SWEEP, "batch_size": {"start": 1, "stop": batches + 1}, "context_len": lengths}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({**axes, "variables": ["decode_step_latency"]}))
        said = done(start(file, tmp_path / name, code=HANDED_OVER))
        peaks.append(np.asarray(json.loads(said)))
    large = tmp_path / "large"
    assert (large / "merged.nc").stat().st_size > 80e6
    assert (peaks[1] - peaks[0] < 40e6).all(), peaks[1] - peaks[0]
    asked, reduced = (sweep.open_results(large / n).load() for n in ("asked.nc", "reduced.nc"))
    same_answer(asked, reduced, tmp_path)


@pytest.mark.slow
def test_a_merged_folder_is_the_file_of_a_single_run(tmp_path) -> None:
    changes = {"variables": ["output_throughput", "prefill_operator_bound", "feasible"]}
    made = planned(None, shards=7, **changes)
    running.run_into_shards(made, tmp_path / "cut", Sharding(), lambda line: None)
    running.run_into_file(planned(None, **changes), tmp_path / "one.nc", force=False)
    with sweep.open_results(tmp_path / "cut") as cut:
        export(cut, tmp_path / "merged.nc")
    merged, one = (sweep.open_results(tmp_path / name).load() for name in ("merged.nc", "one.nc"))
    same_answer(merged, one, tmp_path)


DEVICES = """
import sys, jax, numpy as np
from sweep.evaluation import evaluator
from sweep.grid import thresholds
from sweep.cli.run import _resolved
from sweep.evaluation.reduced import reduced_region
from sweep.queries.reduction_request import ReductionRequest
from sweep.specs.catalog import Catalog
from sweep.runs.run import compute
from sweep.evaluation.plan import make_plan

thresholds.TILE_BYTES = 500
evaluator._intermediate_bytes = lambda *given: float("inf")  # small tiles, not a large one
grid = _resolved(sys.argv[1], Catalog([]))
asked = ReductionRequest(text="best:batch_size", by="decode_step_latency")
plan = make_plan(grid, question=asked)
work = evaluator.Evaluation(plan)
results = compute(plan, work, work.whole)
best = reduced_region(plan, work, work.whole)
used = {d for each in work._workspaces if each.computed
        for array in each.computed.results.values() for d in array.devices()}
values = results.decode_step_latency, best.decode_step_latency, best.best_position
print(len(jax.local_devices()), len(used), *(each.values.tobytes().hex() for each in values))
"""


@pytest.mark.slow
def test_every_device_of_the_machine_computes_the_same(sweep_file) -> None:
    said = [
        done(start(sweep_file, code=DEVICES, env={**os.environ, "XLA_FLAGS": flags})).split()
        for flags in ("", "--xla_force_host_platform_device_count=2")
    ]
    assert said[0][:2] == ["1", "1"]
    assert said[1][:2] == ["2", "2"]
    assert said[0][2:] == said[1][2:]


class Device:
    def __init__(self, platform: str, limit: int | None = None) -> None:
        self.platform, self.limit = platform, limit

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.limit is None else {"bytes_limit": self.limit}


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        ([Device("cpu")], 2**22),
        ([Device("gpu", 80 * 2**30)] * 8, 2**26),
        ([Device("tpu")], 2**26),
        ([Device("gpu", 2**30), Device("gpu", 2**29)], 2**25),
    ],
)
def test_tiles_are_as_large_as_the_devices_take(devices, wanted) -> None:
    assert workspaces.tile_limit(devices) == wanted


def test_a_device_computes_one_tile_while_another_is_copied() -> None:
    gpus = [Device("gpu"), Device("gpu")]
    assert [each.device for each in workspaces.workspaces(gpus)] == [*gpus, *gpus]
    assert len(workspaces.workspaces([Device("cpu")])) == 2


# Files of earlier versions.

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["schema-1.nc", "schema-1-shards"])
def test_files_of_every_schema_open_and_say_what_they_said(name) -> None:
    """LLaMA-2 7B in 16 bits: 6,738,415,616 parameters, and 32 layers of 4,096 keys and values.

    With 8 × 4,096 tokens of half a MiB each it needs 31 GB, more than the 24 GB of an L4.
    """
    with warnings.catch_warnings():
        # A folder of that time has no seal.
        warnings.simplefilter("ignore", SpecWarning)
        found = sweep.open_results(GOLDEN / name).load()
    assert found.attrs["llm_sweep_schema"] == 1
    assert found.hardware.values.tolist() == ["l4", "a100-sxm-80gb"]
    assert found.weight_memory.sel(model="llama-2-7b", precision="fp16", tp=1) == 2 * 6738415616
    one = found.squeeze(["model", "precision", "tp"])
    assert one.kv_cache_memory.values.tolist() == [[2**31], [2**34]]
    assert one.feasible.dims == ("hardware", "batch_size", "context_len")
    assert one.feasible.values.ravel().tolist() == [1, 0, 1, 1]
    assert one.feasible.dtype == np.int8
    assert one.kv_cache_memory.units == "byte"


def test_an_answer_of_every_schema_opens() -> None:
    """The larger batch has the larger cache, and does not fit an L4 at all."""
    with sweep.open_results(GOLDEN / "schema-1-reduced.nc") as found:
        assert found.best_batch_size.values.ravel().tolist() == [1, 8]
        assert found.kv_cache_memory.values.ravel().tolist() == [2**31, 2**34]
