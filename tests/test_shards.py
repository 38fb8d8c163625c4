"""Shards: the same bits as one file, whatever is killed, damaged or done elsewhere meanwhile."""

import os
import random
import shutil
from pathlib import Path

import damage
import numpy as np
import pytest
import xarray as xr
from factories import UNEVEN, hardware
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_folders import PRECISION, contents, forget, marks, sharded, small, tiny, truncate

import sweep
from sweep.errors import ResultError
from sweep.evaluation import evaluator
from sweep.evaluation.plan import make_plan
from sweep.grid import thresholds
from sweep.grid.tiling import Tiling, slices, split_evenly
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs import run_folder, to_disk
from sweep.runs import shards as shard_runs
from sweep.runs.check_results import check_directory
from sweep.runs.open_results import open_directory
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, begun
from sweep.runs.shards import WRITERS, run_shards
from sweep.runs.time_estimate import extrapolated
from sweep.schema.axes import AXES


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


@pytest.mark.slow
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


def test_a_link_in_place_of_a_shard_is_replaced_and_its_target_kept(tmp_path) -> None:
    """Whoever made the folder may not choose which other file is overwritten."""
    path, theirs = tmp_path / "shards", tmp_path / "thesis.tex"
    plan = tiny(shards=2)
    sharded(path, plan)
    wanted = contents(path)
    theirs.write_text("mine")
    link = path / "shard-000001.nc"
    link.unlink()
    link.symlink_to(theirs)
    assert sharded(path, plan) == [1]
    assert theirs.read_text() == "mine"
    assert not link.is_symlink() and contents(path) == wanted


def test_removal_that_is_interrupted_can_be_repeated(whole_shards, tmp_path, monkeypatch) -> None:
    copy, removed = tmp_path / "copy", []
    shutil.copytree(whole_shards, copy)

    def interrupted(path: Path) -> None:
        removed.append(path.name)
        if len(removed) == 3:
            raise KeyboardInterrupt
        path.unlink()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_folder, "discard", interrupted)
        run_folder.remove(copy)
    assert len(list(copy.glob("shard-*.nc"))) == 2
    run_folder.remove(Directory.load(copy).path)
    assert not copy.exists()


def test_shards_that_are_there_need_no_more_disk(whole_shards, tmp_path, monkeypatch) -> None:
    copy, needed = tmp_path / "copy", []
    shutil.copytree(whole_shards, copy)
    plan, held = damage.tiny(shards=4), sum(f.stat().st_size for f in copy.glob("shard-*.nc"))
    monkeypatch.setattr(to_disk, "check_fits_disk", lambda _, size, __: needed.append(size))
    to_disk.run_into_shards(plan, copy, to_disk.Sharding(), lambda _: None)
    assert needed == [plan.stored_bytes - held]


def test_jobs_of_an_array_take_turns(whole_shards) -> None:
    directory = Directory.load(whole_shards)
    assert directory.recorded.shards.count == 4
    jobs = [list(directory.shards((number, 3))) for number in (1, 2, 3)]
    assert jobs == [[0, 3], [1], [2]]
    assert list(directory.shards()) == [0, 1, 2, 3]


def test_a_missing_shard_is_named_on_opening(tmp_path) -> None:
    sharded(tmp_path / "out", tiny())
    (tmp_path / "out" / "shard-000001.nc").unlink()
    with pytest.raises(ResultError, match=r"1 of 8 shards are missing.*shard-000001"):
        sweep.open_results(tmp_path / "out")
