"""Shards: the same bits as one file, whatever is killed, damaged or done elsewhere meanwhile."""

import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import tokenize
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr
from factories import UNEVEN, hardware, model, precision, shipped
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import DEADLINE, hold_after, interrupt_at

import sweep
from sweep.errors import GridError, ResultError, SweepError
from sweep.evaluation import evaluator
from sweep.evaluation.plan import Plan, make_plan
from sweep.grid import thresholds
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.grid.tiling import Tiling, slices, split_evenly
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs import shards as shard_runs
from sweep.runs.check_results import check_directory
from sweep.runs.formulas import executed, formula_files, formulas_digest
from sweep.runs.limits import check_fits_disk
from sweep.runs.open_results import open_directory
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, begun
from sweep.runs.shards import WRITERS, run_shards
from sweep.runs.time_estimate import extrapolated
from sweep.schema.axes import AXES

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


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.integers(1, 60),
)
@settings(max_examples=40)
def test_shards_cover_every_cell_once_in_at_most_two_shapes(sizes, shards) -> None:
    lengths = dict(zip(AXES, sizes, strict=False))
    tiling = split_evenly(lengths, lambda tiling: tiling.count >= shards)
    assert min(shards, int(np.prod(sizes))) <= tiling.count
    seen, shapes = np.zeros(sizes, int), set()
    for region in tiling:
        seen[tuple(slices(region).values())] += 1
        shapes.add(tuple(map(len, region.values())))
    assert (seen == 1).all()
    assert len(shapes) <= 2
    assert {axis: max(tiling.lengths(axis)) for axis in lengths} == tiling.shape


def test_the_first_axes_are_divided_first_and_no_more_than_it_takes() -> None:
    sizes = {"model": 4, "hardware": 3, "batch_size": 10}
    counts = [split_evenly(sizes, lambda t, n=n: t.count >= n).counts for n in (1, 3, 4, 5, 12, 13)]
    assert [tuple(each.values()) for each in counts] == [
        (1, 1, 1),
        (3, 1, 1),
        (4, 1, 1),
        (4, 2, 1),
        (4, 3, 1),
        (4, 3, 2),
    ]
    assert Tiling.even(sizes, counts[1]).lengths("model") == (1, 1, 2)


def test_shards_stay_below_the_size_asked_for() -> None:
    plan = small()
    assert plan.shards.count == 1
    divided = make_plan(plan.grid, shard_bytes=plan.bytes // 10)
    assert divided.shard_bytes <= plan.bytes // 10
    work = evaluator.Evaluation(divided)
    sizes = [
        sum(array.nbytes for array in work.empty(region).values()) for region in divided.shards
    ]
    assert max(sizes) == divided.shard_bytes
    assert sum(sizes) == divided.stored_bytes > divided.bytes


def test_the_bytes_of_a_plan_by_hand() -> None:
    """Time to first token over all axes but osl, flags of one byte and of two over all axes."""
    axes = {"models": UNEVEN["models"], "precision": PRECISION, "variables": ["ttft", "feasible"]}
    plan = small(**axes, shards=7)
    # 3 models × 2 accelerators × 2 precisions × 2 tp × 5 batch sizes × 3 isl (× 2 osl).
    cells = 3 * 2 * 2 * 2 * 5 * 3
    assert plan.points == 2 * cells
    assert {v.name: v.bytes for v in plan.variables} == {
        "ttft": 4 * cells,
        "feasible": 2 * cells,
        "infeasible_reason": 2 * 2 * cells,
    }
    assert plan.bytes == 10 * cells
    # At least 7 shards: 3 models × 2 accelerators are 6, × 2 precisions are 12.
    assert plan.shards.counts == {**dict.fromkeys(plan.sizes, 1), "model": 3} | {
        "hardware": 2,
        "precision": 2,
    }
    assert plan.shard_bytes == 10 * 2 * 5 * 3
    assert plan.stored_bytes == plan.bytes
    double = small(**axes, dtype="float64", shards=7)
    assert double.bytes == (8 + 2 + 4) * cells


def test_a_variable_is_stored_with_every_shard_it_does_not_vary_over() -> None:
    plan = small(variables=["ttft", "weight_memory"], shards=7)
    sizes = {variable.name: variable.bytes for variable in plan.variables}
    # Weights depend on model, precision and tp, so both accelerators store them.
    assert sizes["weight_memory"] == 4 * 3 * 2 * 2
    assert plan.stored_bytes == sizes["ttft"] + 2 * sizes["weight_memory"]


def test_the_bytes_of_a_reduced_plan_by_hand() -> None:
    grid = small(variables=["ttft"]).grid
    plan = make_plan(
        grid, question=ReductionRequest(text="best:model,batch_size", by="ttft"), shards=6
    )
    # Kept are 2 accelerators × 2 precisions × 2 tp × 3 isl, stored by each of the 3 models.
    assert plan.shards.counts["model"] == 3 and plan.shards.counts["hardware"] == 2
    assert plan.stored_bytes == 2 * 2 * 2 * 3 * 3 * 8 * len(plan.variables)
    assert plan.subgrid_bytes == 4 * 2 * 2 * 5 * 3


def test_the_time_of_a_plan_by_hand() -> None:
    # 1.2 s of compilation for each of three structures, and ten times 0.3 s of computing.
    assert extrapolated(1.5, 0.3, structures=3, size=10) == pytest.approx(3 * 1.2 + 10 * 0.3)
    # A second run that happens to be slower than the first: nothing was compiled.
    assert extrapolated(0.2, 0.3, structures=3, size=10) == pytest.approx(10 * 0.3)


@pytest.fixture(scope="module")
def calibration() -> sweep.FittedEfficiency:
    fitted = sweep.load_calibration("tensorrt-llm")
    assert fitted is not None
    return fitted


@pytest.fixture(scope="module")
def whole(calibration, tmp_path_factory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("whole") / "one.nc"
    sweep.write_netcdf(run_plan(small(calibration=calibration)), path)
    with sweep.open_results(path) as dataset:
        return dataset.load()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 3, 6, 24])
def test_a_directory_is_the_single_file(shards, whole, calibration, tmp_path) -> None:
    """Operators, categories, intervals, and variables over fewer axes than are cut."""
    plan = small(calibration=calibration, shards=shards)
    sharded(tmp_path / "out", plan)
    assert len(marks(tmp_path / "out")) == plan.shards.count >= shards
    found = sweep.open_results(tmp_path / "out")
    assert all(array.chunks is not None for array in found.data_vars.values())
    same_bits(found.load(), whole)


def same_bits(found: xr.Dataset, wanted: xr.Dataset) -> None:
    times = {"history": "at another time"}
    xr.testing.assert_identical(found.assign_attrs(times), wanted.assign_attrs(times))
    for name in wanted.variables:
        assert found[name].dtype == wanted[name].dtype, name
        assert found[name].values.tobytes() == wanted[name].values.tobytes(), name
    assert set(found.indexes) == set(wanted.indexes)


def test_tiles_that_end_inside_a_shard_give_the_same_bits(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(thresholds, "TILE_BYTES", 2000)
    monkeypatch.setattr(evaluator, "_intermediate_bytes", lambda *given: float("inf"))
    plan = tiny(dtype="float64", shards=7)
    sharded(tmp_path / "out", plan)
    wanted = run_plan(plan)
    found = open_directory(tmp_path / "out").load()
    for name in wanted.data_vars:
        assert found[name].values.tobytes() == wanted[name].values.tobytes(), name


def test_a_run_computes_its_shards_in_the_same_memory(tmp_path, monkeypatch) -> None:
    """As many sets of arrays as there are shards on their way, whatever the number of shards."""
    write, seen = shard_runs.write_shard, []

    def noted(dataset: xr.Dataset, *given: object) -> None:
        seen.append(dataset.ttft.values.ctypes.data)
        write(dataset, *given)

    monkeypatch.setattr(shard_runs, "write_shard", noted)
    monkeypatch.setattr(thresholds, "ONE_TILE_BYTES", 0)
    monkeypatch.setattr(thresholds, "ONE_FILE_BYTES", 0)
    monkeypatch.setattr(thresholds, "SHARD_BYTES", 8000)
    monkeypatch.setattr(thresholds, "TILE_BYTES", 100)
    axes = {"batch_size": [*range(1, 65)], "isl": [*range(1, 501)], "hardware": [hardware()]}
    plan = tiny(**axes, variables=["ttft"], shards=1)
    assert plan.shards.count > 20 and len(set(plan.shards.lengths("batch_size"))) == 1
    assert plan.large_tiles(1) == plan.shards
    sharded(tmp_path / "out", plan)
    assert len(seen) == plan.shards.count
    assert len(set(seen)) <= WRITERS + 1


def test_a_shard_is_a_result_of_its_own(tmp_path) -> None:
    plan = tiny()
    sharded(tmp_path / "out", plan)
    assert check_directory(tmp_path / "out") == []
    with sweep.open_results(tmp_path / "out" / "shard-000003.nc") as shard:
        wanted = plan.grid.part(plan.shards.region(3)).labels
        assert shard.hardware.values.tolist() == wanted["hardware"]


def test_a_second_run_computes_nothing(tmp_path) -> None:
    plan = tiny()
    assert sharded(tmp_path / "out", plan) == list(range(plan.shards.count))
    before = marks(tmp_path / "out")
    assert sharded(tmp_path / "out", plan) == []
    assert marks(tmp_path / "out") == before


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(np.float32(sweep_value(path)).tobytes())
    content[place] ^= 4
    path.write_bytes(content)


def sweep_value(path: Path) -> float:
    with sweep.open_results(path) as shard:
        return float(shard.ttft.values.flat[0])


def forget(path: Path) -> None:
    path.unlink()


def change_an_attribute(path: Path) -> None:
    from netCDF4 import Dataset

    with Dataset(path, "a") as file:
        file["ttft"].units = "ms"


def swap(path: Path) -> None:
    shutil.copy(path.with_name("shard-000000.nc"), path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "is damaged"),
        (empty, "is damaged"),
        (scribble, "checksum differs"),
        (forget, "is missing"),
        (change_an_attribute, "checksum differs"),
        (swap, "belongs to another run"),
    ],
)
def test_damage_is_found_named_and_mended(damage, words, tmp_path) -> None:
    plan, out = tiny(), tmp_path / "out"
    sharded(out, plan)
    before, sound = marks(out), contents(out)
    damage(out / "shard-000003.nc")
    (problem,) = check_directory(out)
    assert problem.startswith("shard-000003.nc") and words in problem
    assert sharded(out, plan) == [3]
    assert contents(out) == sound
    after = marks(out)
    assert {n: m for n, m in after.items() if n != "shard-000003.nc"} == {
        n: m for n, m in before.items() if n != "shard-000003.nc"
    }


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path) -> None:
    plan, out = tiny(shards=2), tmp_path / "out"
    sharded(out, plan)
    directory = Directory.load(out)
    sound = directory.shard_path(1).read_bytes()
    chance, found = random.Random(0), 0
    for place in chance.sample(range(len(sound)), 250):
        content = bytearray(sound)
        content[place] ^= chance.randrange(1, 256)
        directory.shard_path(1).unlink()
        directory.shard_path(1).write_bytes(content)
        found += bool(directory.fault(1))
    assert found == 250


def test_a_file_of_another_plan_is_made_again(tmp_path) -> None:
    sharded(tmp_path / "one", tiny())
    sharded(tmp_path / "two", tiny(osl=[11, 100]))
    sound = contents(tmp_path / "one")
    shutil.copy(tmp_path / "two" / "shard-000002.nc", tmp_path / "one")
    told: list[str] = []
    with begun(tmp_path / "one", tiny()) as directory:
        assert directory.unfinished(directory.shards(), told.append) == [2]
        run_shards(directory, [2])
    assert "shard-000002.nc belongs to another run" in told[0]
    assert contents(tmp_path / "one") == sound


def test_a_missing_shard_is_named_on_opening(tmp_path) -> None:
    sharded(tmp_path / "out", tiny())
    (tmp_path / "out" / "shard-000001.nc").unlink()
    with pytest.raises(ResultError, match=r"1 of 8 shards are missing.*shard-000001"):
        sweep.open_results(tmp_path / "out")


CHANGES = {
    "another sweep file, which differs in osl": {"osl": [10, 101]},
    "which differs in models, variables": {"models": [model("qwen2")], "variables": ["ttft"]},
    "dtype float32, not float64": {"dtype": "float64"},
    "8 shards, not 12": {"shards": 12},
    "calibration ideal, not tensorrt-llm": {"calibration": "tensorrt-llm"},
}


@pytest.mark.slow
@pytest.mark.parametrize("words", CHANGES)
def test_another_plan_is_refused_in_words(words, tmp_path, calibration) -> None:
    changes = dict(CHANGES[words])
    if "calibration" in changes:
        changes["calibration"] = calibration
    sharded(tmp_path / "out", tiny())
    before = contents(tmp_path / "out")
    with pytest.raises(ResultError, match=words), begun(tmp_path / "out", tiny(**changes)):
        pass
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "notes.txt").write_text("mine")
    changed = tiny(**changes)
    assert len(sharded(tmp_path / "out", changed, force=True)) == changed.shards.count
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert check_directory(tmp_path / "out") == []


def test_other_formulas_are_refused(tmp_path, monkeypatch) -> None:
    sharded(tmp_path / "out", tiny())
    digest = Directory.load(tmp_path / "out").digest
    for module in ("plan_file", "run_folder"):
        monkeypatch.setattr(f"sweep.runs.{module}.formulas_digest", lambda **_: "0123")
    with pytest.raises(ResultError, match=r"other formulas.*0123"), begun(tmp_path / "out", tiny()):
        pass
    with pytest.raises(ResultError, match="install the same"):
        Directory.load(tmp_path / "out").check_reproducible(digest)


def test_the_digest_covers_every_module_that_results_follow_from() -> None:
    covered = {path.relative_to(ROOT / "sweep").as_posix() for path in formula_files()}
    assert {"kernel/request.py", "kernel/operators/gemm.py", "models/families/falcon.py"} <= covered
    assert not {name.partition("/")[0] for name in covered} & {"runs", "cli", "queries"}
    reduced = {path.relative_to(ROOT / "sweep").as_posix() for path in formula_files(reduced=True)}
    assert "queries/best.py" in reduced - covered
    assert formulas_digest() != formulas_digest(reduced=True)


SOURCE = '''"""A module."""

LIMIT = 3  # of them
"""How many."""


def double(x: int) -> int:
    """Twice `x`."""
    # by adding
    return x + x
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""A module."""', '"""Another\n\nof two lines."""', True),
        ("# of them", "# of those", True),
        ("  # of them", "", True),
        ('"""How many."""\n', "", True),
        ("    # by adding\n", "\n\n", True),
        ("x + x", "2 * x", False),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("return x", 'return "#" or x', False),
    ],
)
def test_the_digest_ignores_comments_and_docstrings_alone(old: str, new: str, same: bool) -> None:
    assert old in SOURCE
    assert (executed(SOURCE.replace(old, new)) == executed(SOURCE)) == same


def test_the_digest_reads_whole_programs() -> None:
    """What is read of each module is the module without its docstrings."""
    for path in formula_files(reduced=True):
        source = path.read_text("utf-8")
        assert names_and_numbers(executed(source)) == names_and_numbers(source), path


def names_and_numbers(source: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type in (tokenize.NAME, tokenize.NUMBER)]


@pytest.mark.slow
def test_every_shipped_specification_and_ratio_survives_the_plan_file(tmp_path) -> None:
    """Read again they are the same plan, and the same axes divided at the same indices."""
    catalog = shipped()
    half = [n for n in catalog.paths("hardware") if "half" in catalog.hardware(n).peaks]
    recipes = [precision("half"), precision("half", name="other")]
    of_text = [n for n in catalog.paths("models") if catalog.model(n).family != "dit"]
    plan = tiny(
        models=of_text,
        hardware=half,
        precision=recipes,
        kv_cache_fraction=[0.5, 0.75, 1.0],
        expert_imbalance=[1.0, 2.0],
        shards=50_000,
        variables=["inflight_ttft"],
    )
    with begun(tmp_path / "out", plan) as directory:
        again = directory.plan
        assert again.grid.labels == plan.grid.labels
        assert repr(again.grid.numbers) == repr(plan.grid.numbers)
        assert [blocks for _, blocks in again.grid.models] == [b for _, b in plan.grid.models]
        assert again.grid.hardware == plan.grid.hardware
        assert again.shards == plan.shards
    with begun(tmp_path / "out", plan) as same:
        assert same.digest == directory.digest


@pytest.mark.slow
def test_ratios_are_cut_and_labelled(tmp_path) -> None:
    plan = tiny(
        kv_cache_fraction=[0.5, 0.75, 1.0],
        hardware=[hardware()],
        tp=[1],
        batch_size=[1],
        variables=["inflight_ttft", "weight_memory"],
        shards=3,
    )
    sharded(tmp_path / "out", plan)
    found = sweep.open_results(tmp_path / "out")
    assert found["kv_cache_fraction"].values.tolist() == [0.5, 0.75, 1.0]
    wanted = run_plan(plan)
    assert found.inflight_ttft.values.tobytes() == wanted.inflight_ttft.values.tobytes()
    assert found.weight_memory.dims == ("model", "precision", "tp")


def test_the_shards_of_a_folder_are_kept_where_none_are_asked_for(tmp_path) -> None:
    sharded(tmp_path / "out", tiny(shards=8))
    assert sharded(tmp_path / "out", tiny(shards=1), any_shards=True) == []


def test_folders_of_others_are_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for force in (False, True):
        with pytest.raises(ResultError, match=r"contains thesis\.tex"):
            sharded(tmp_path, tiny(), force=force)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "plan.json").write_text('{"plan": "to take over the world"}')
    with pytest.raises(ResultError):
        sharded(tmp_path / "theirs", tiny(), force=True)
    assert "world" in (tmp_path / "theirs" / "plan.json").read_text()
    with pytest.raises(ResultError, match="is a file"):
        sharded(tmp_path / "thesis.tex", tiny())


@pytest.mark.parametrize(
    "content", ["", '{"llm_sweep_plan": 1,', '{"llm_sweep_plan": 1}', '{"llm_sweep_plan": 99}']
)
def test_a_damaged_plan_is_refused_and_force_mends_it(content, tmp_path) -> None:
    sharded(tmp_path / "out", tiny())
    (tmp_path / "out" / "plan.json").write_text(content)
    before = marks(tmp_path / "out")
    with pytest.raises(ResultError, match=r"plan\.json"):
        sharded(tmp_path / "out", tiny())
    with pytest.raises(ResultError, match=r"plan\.json"):
        sweep.open_results(tmp_path / "out")
    assert marks(tmp_path / "out") == before
    assert len(sharded(tmp_path / "out", tiny(), force=True)) == 8


def test_two_runs_at_once_are_refused(tmp_path, monkeypatch) -> None:
    for name in ("PATIENCE", "PATIENCE_OF_JOBS"):
        monkeypatch.setattr(f"sweep.runs.run_folder.{name}", 0.05)
    out, plan = tmp_path / "out", tiny()
    with begun(out, plan):
        for job in (None, (1, 2)):
            with pytest.raises(ResultError, match="another run works on it"):
                sharded(out, plan, job=job)
    with begun(out, plan, job=(1, 2)):
        assert sharded(out, plan, job=(2, 2)) == [1, 3, 5, 7]
        for job in (None, (1, 2), (1, 3)):
            with pytest.raises(ResultError, match=r"--only 1/2\) works on it"):
                sharded(out, plan, job=job)
    assert sharded(out, plan) == [0, 2, 4, 6]


def test_a_plan_larger_than_the_disk_is_refused(tmp_path) -> None:
    axes = {"batch_size": {"start": 1, "stop": 10**6}, "isl": {"start": 1, "stop": 10**6}}
    plan = tiny(**axes)
    with pytest.raises(GridError, match=r"are free in .*the largest are ttft .*, bound "):
        check_fits_disk(plan, plan.stored_bytes, tmp_path / "out" / "deeper")
    check_fits_disk(plan, 10, tmp_path / "out")


# Processes that die. They are forked from one that has imported everything, so as to start at once.

SWEEP = {
    "models": ["llama-2-7b"],
    "hardware": ["a100-sxm-80gb", "h20-96gb"],
    "batch_size": {"start": 1, "stop": 101, "step": 1},
    "context_len": [128, 4096],
    "variables": ["kv_cache_memory"],
}
SHARDS = 200


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("sweep") / "many.json"
    file.write_text(json.dumps(SWEEP))
    return file


@pytest.fixture(scope="module")
def forked():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["sweep.cli.main", "sweep.runs.run", "sweep.runs.on_dask", "netCDF4"]
    )

    def start(*arguments: object, **options: int) -> multiprocessing.Process:
        process = context.Process(target=command, args=([*map(str, arguments)],), kwargs=options)
        process.start()
        return process

    return start


def command(
    arguments: list[str],
    limit: int | None = None,
    writes: int | None = None,
    interrupted: int | None = None,
) -> None:
    """Be `llm-sweep`, with some misfortune.

    Args:
        arguments: Words of the command line.
        limit: Most bytes of a file that may be written.
        writes: Number of shards that are written before the process waits for ever.
        interrupted: Number of the shard whose computation Ctrl-C interrupts.
    """
    from sweep.cli.main import main

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if writes is not None:
        hold_after(writes)
    if interrupted is not None:
        # Processes that a shell starts in the background ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupt_at(interrupted)
    with Path(os.environ["LLM_SWEEP_TEST_LOG"]).open("w") as log:
        os.dup2(log.fileno(), 2)
        sys.argv = ["llm-sweep", *arguments]
        main()


@pytest.fixture(autouse=True, scope="module")
def environment(tmp_path_factory):
    """A compilation cache of the tests' own, and a place for what dying processes say."""
    folder = tmp_path_factory.mktemp("environment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
        patch.setenv("LLM_SWEEP_TEST_LOG", str(folder / "log"))
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield folder / "log"


@pytest.fixture(scope="module")
def reference(sweep_file, forked, tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("reference") / "out"
    process = forked("run", sweep_file, "-o", out, "--shards", SHARDS)
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert len(marks(out)) == SHARDS
    return out


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(reference, sweep_file, forked, tmp_path) -> None:
    out, chance, cut_short = twin(reference, tmp_path / "out"), random.Random(1), 0
    arguments = ("run", sweep_file, "-o", out, "--shards", SHARDS)
    for _ in range(20):
        before = marks(out)
        process = forked(*arguments, writes=9)
        wait_for_shards(out, len(before) + chance.randrange(9))
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.join()
        cut_short += process.exitcode == -signal.SIGKILL
        after = marks(out)
        assert {name: after[name] for name in before} == before
    assert cut_short == 20
    before = marks(out)
    assert len(before) < SHARDS
    process = forked(*arguments)
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert {name: mark for name, mark in marks(out).items() if name in before} == before
    assert contents(out) == contents(reference)


def wait_for_shards(path: Path, count: int) -> None:
    end = time.monotonic() + DEADLINE
    while len(marks(path)) < count:
        assert time.monotonic() < end, f"fewer than {count} shards after {DEADLINE} s"
        time.sleep(0.002)


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_done_and_no_debris(
    reference, sweep_file, forked, tmp_path, environment
) -> None:
    out = twin(reference, tmp_path / "out")
    process = forked("run", sweep_file, "-o", out, "--shards", SHARDS, interrupted=21)
    process.join(DEADLINE)
    assert process.exitcode == 130
    assert "interrupted" in environment.read_text().splitlines()[-1]
    assert not list(out.glob(".shard*"))
    done = marks(out)
    assert len(done) == 21
    sound = contents(reference)
    assert all((out / name).read_bytes() == sound[name] for name in done)


TWO_CLUSTERS = """
from sweep.runs.on_dask import _client
if __name__ == "__main__":
    for _ in range(2):
        with _client(1, None) as client:
            print(client.submit(abs, -7).result())
"""


@pytest.mark.slow
def test_a_process_may_start_workers_twice(tmp_path, environment) -> None:
    script = tmp_path / "twice.py"
    script.write_text(TWO_CLUSTERS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["7", "7"]), done.stderr[-2000:]


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line(reference, sweep_file, forked, tmp_path, environment) -> None:
    out = twin(reference, tmp_path / "out")
    for name in ("shard-000000.nc", "shard-000005.nc"):
        shutil.copy(reference / name, out)
    before = marks(out)
    arguments = ("run", sweep_file, "-o", out, "--shards", SHARDS)
    process = forked(*arguments, limit=4000)
    process.join(DEADLINE)
    assert process.exitcode == 2
    last = environment.read_text().splitlines()[-1]
    assert "shard-000001.nc: cannot be written" in last
    assert "Traceback" not in environment.read_text()
    assert marks(out) == before
    assert not list(out.glob(".shard*"))


@pytest.mark.slow
def test_parts_side_by_side_make_the_whole(reference, sweep_file, forked, tmp_path) -> None:
    out = twin(reference, tmp_path / "out")
    runs = [
        forked("run", sweep_file, "-o", out, "--shards", SHARDS, "--only", f"{k}/3")
        for k in (1, 2, 3)
    ]
    for process in runs:
        process.join(DEADLINE)
    assert [process.exitcode for process in runs] == [0, 0, 0]
    assert contents(out) == contents(reference)


@pytest.mark.slow
def test_dask_workers_make_the_same_files_though_one_is_killed(
    reference, sweep_file, tmp_path
) -> None:
    out = twin(reference, tmp_path / "out")
    # Who reads the last shard, to verify it, waits until somebody opens it to write.
    last = out / f"shard-{SHARDS - 1:06d}.nc"
    os.mkfifo(last)
    words = ["run", sweep_file, "-o", out, "--shards", SHARDS, "--workers", 2]
    run = subprocess.Popen(
        [sys.executable, "-m", "sweep", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    last.open("wb").close()
    wait_for_shards(out, 20)
    assert len(workers_of(run.pid)) == 2
    workers_of(run.pid)[0].kill()
    last.open("wb").close()
    _, said = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, said
    assert contents(out) == contents(reference)


def workers_of(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
        return [p for p in below if "spawn_main" in " ".join(p.cmdline())]
    return []


@pytest.mark.slow
def test_dask_is_configured_for_the_run_alone(tmp_path, monkeypatch) -> None:
    import dask

    from sweep.runs import huge_pages, on_dask

    # It adds its defaults to the configuration when it is imported.
    pytest.importorskip("distributed")
    monkeypatch.setattr(huge_pages, "_linux_waits_to_be_asked", lambda: True)
    monkeypatch.setattr(huge_pages, "_library_has_tunable", lambda: True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    before, seen = deepcopy(dask.config.config), []
    local_cluster = on_dask._local_cluster

    def noted(workers: int | None) -> object:
        seen.append(dask.config.get("logging.distributed"))
        seen.append(dask.config.get("distributed.nanny.pre-spawn-environ.GLIBC_TUNABLES"))
        return local_cluster(workers)

    monkeypatch.setattr(on_dask, "_local_cluster", noted)
    with begun(tmp_path / "out", tiny(shards=2)) as directory:
        on_dask.run_on_dask(directory, directory.shards(), workers=1)
    assert seen == ["critical", "glibc.malloc.hugetlb=1"]
    assert dask.config.config == before
    assert check_directory(tmp_path / "out") == []


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch) -> None:
    from sweep.runs import on_dask as cluster

    assert cluster.REACH <= 10
    monkeypatch.setattr(cluster, "REACH", 0.5)
    with (
        begun(tmp_path / "out", tiny()) as directory,
        pytest.raises(SweepError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        cluster.run_on_dask(directory, [0], scheduler="tcp://127.0.0.1:9")


def test_without_dask_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    from sweep.runs import on_dask as cluster

    sharded(tmp_path / "out", tiny(shards=2))
    for name in ("dask", "dask.array", "distributed"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ResultError, match=r"pip install 'llm-sweep\[dask\]'"):
        sweep.open_results(tmp_path / "out")
    with (
        begun(tmp_path / "out", tiny(shards=2)) as directory,
        pytest.raises(SweepError, match=r"pip install 'llm-sweep\[dask\]'"),
    ):
        cluster.run_on_dask(directory, [0], workers=1)


# The command.


@pytest.fixture
def call(capsys):
    """Run `llm-sweep` here: its exit status and what it said."""

    def run(*words: object) -> tuple[int, str, str]:
        from sweep.cli.main import main

        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["llm-sweep", *map(str, words)])
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_plan_tells_shards_bytes_and_time(call, sweep_file) -> None:
    code, out, _ = call("plan", sweep_file, "--shards", 7, "--dtype", "float64", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["shards"] == 7
    assert told["bytes"] == 100 * 2 * 8
    assert told["shard_bytes"] == 15 * 2 * 8
    assert 0 < told["seconds"] < float("inf")
    assert json.loads(call("plan", sweep_file, "--json", "--no-probe")[1])["seconds"] is None
    words = call("plan", sweep_file, "--shards", 7, "--no-probe")[1]
    assert "7 shards of at most 120 bytes each" in words


def test_plan_counts_intervals(call, tmp_path) -> None:
    axes = {"batch_size": [1, 2], "isl": [128], "osl": [10], "variables": ["output_throughput"]}
    file = tmp_path / "calibrated.json"
    file.write_text(json.dumps({"models": ["gpt2"], "hardware": ["l4", "l20"], **axes}))
    told = json.loads(call("plan", file, "--efficiency", "tensorrt-llm", "--no-probe", "--json")[1])
    sizes = {name: given["bytes"] for name, given in told["variables"].items()}
    bounds = dict.fromkeys(["output_throughput_lower", "output_throughput_upper"], 16)
    assert sizes == {"output_throughput": 16, **bounds, "extrapolation": 4}


@pytest.mark.slow
def test_the_command_resumes_checks_and_refuses(call, reference, sweep_file, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    assert call("check", out)[0] == 0
    truncate(out / "shard-000007.nc")
    forget(out / "shard-000009.nc")
    code, said, _ = call("check", out)
    assert code == 1
    assert "shard-000007.nc is damaged" in said and "shard-000009.nc is missing" in said
    code, _, said = call("run", sweep_file, "-o", out)
    assert code == 0
    assert "shard-000007.nc is damaged" in said and "2 to compute" in said
    assert contents(out) == contents(reference)
    code, _, said = call("run", "trtllm-article-table", "-o", out)
    assert code == 2
    assert "another sweep file, which differs in" in said
    assert contents(out) == contents(reference)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "0/3"], "K/N"),
        (["--only", "4/3"], "K/N"),
        (["--only", "half"], "K/N"),
        (["--only", "1/3", "--workers", 2], "one of"),
        (["--only", "1/3", "--force"], "shards of other jobs; leave --only out"),
        (["--shards", 0], "--shards"),
    ],
)
def test_wrong_words_are_refused(words, said, call, sweep_file, tmp_path) -> None:
    code, _, error = call("run", sweep_file, "-o", tmp_path / "out", *words)
    assert code == 2 and said in error
    assert not (tmp_path / "out").exists()


def test_a_large_plan_becomes_a_folder_whatever_its_name(
    call, sweep_file, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("sweep.grid.thresholds.ONE_FILE_BYTES", 100)
    code, _, said = call("run", sweep_file, "-o", tmp_path / "out.nc")
    assert code == 0
    assert "out.nc: 800 bytes in a folder of 1 shards" in said
    with sweep.open_results(tmp_path / "out.nc") as found:
        assert found.sizes["batch_size"] == 100


def test_compare_reads_a_directory(call, tmp_path) -> None:
    file = tmp_path / "pair.json"
    axes = {"batch_size": [1, 8], "context_len": [128, 512], "variables": ["decode_step_latency"]}
    file.write_text(json.dumps({"models": ["gpt2"], "hardware": ["l4", "l20"], **axes}))
    assert call("run", file, "-o", tmp_path / "whole.nc")[0] == 0
    assert call("run", file, "-o", tmp_path / "cut", "--shards", 4)[0] == 0
    answers = [
        call("compare", tmp_path / p, "--hardware", "l4", "l20") for p in ("whole.nc", "cut")
    ]
    assert answers[0] == answers[1]
    assert "l20 wins" in answers[0][1]
