"""The plan of a folder: other plans, formulas and damage are refused, and all of it is kept."""

import io
import tokenize

import pytest
from factories import hardware, model, precision, shipped
from shard_folders import (
    ROOT,
    contents,
    marks,
    sharded,
    tiny,
)

import sweep
from sweep.errors import GridError, ResultError
from sweep.runs.check_results import check_directory
from sweep.runs.formulas import executed, formula_files, formulas_digest
from sweep.runs.limits import check_fits_disk
from sweep.runs.run import run_plan
from sweep.runs.run_folder import Directory, begun

CHANGES = {
    "another sweep file, which differs in osl": {"osl": [10, 101]},
    "which differs in models, variables": {"models": [model("qwen2")], "variables": ["ttft"]},
    "dtype float32, not float64": {"dtype": "float64"},
    "8 shards, not 12": {"shards": 12},
    "calibration ideal, not tensorrt-llm": {"calibration": "tensorrt-llm"},
}


@pytest.mark.slow
@pytest.mark.parametrize("words", CHANGES)
def test_another_plan_is_refused_in_words(words, tmp_path) -> None:
    changes = dict(CHANGES[words])
    if "calibration" in changes:
        changes["calibration"] = sweep.load_calibration(changes["calibration"])
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
