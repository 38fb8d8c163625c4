"""Names in a file open no other file, no input is a pipe or device, and no file runs code."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
from damage import refused

import sweep
from sweep.decisions.prices import read_prices
from sweep.decisions.rivals import recorded_calibration
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.html_report.calibration_quality import calibration_of
from sweep.specs import files
from sweep.specs.catalog import current_catalog

ROOT = Path(__file__).parent.parent

# Names that a result contains are looked up in the catalog, never opened.


@pytest.fixture
def pipe(tmp_path) -> Path:
    """A pipe that nobody writes into: who opens it waits."""
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    return path


def relabelled(whole_file: Path, path: Path, **labels: str) -> Path:
    """The result with one label of each axis, and its calibration, called something else."""
    with sweep.open_results(whole_file) as opened:
        dataset = opened.isel(model=[0], hardware=[0]).load()
    efficiency = labels.pop("efficiency", "ideal")
    renamed = dataset.assign_coords({axis: [label] for axis, label in labels.items()})
    grid = json.dumps({axis: held.values.tolist() for axis, held in renamed.coords.items()})
    sweep.write_netcdf(renamed.assign_attrs(efficiency=efficiency, llm_sweep_grid=grid), path)
    return path


@pytest.mark.parametrize("axis", ["model", "hardware", "precision", "efficiency"])
def test_a_label_that_is_a_path_is_not_opened(axis, whole_file, pipe, call, tmp_path, monkeypatch):
    label = f"{pipe} 0123" if axis == "efficiency" else str(pipe)
    path = relabelled(whole_file, tmp_path / "theirs.nc", **{axis: label})
    opened, read = [], files.read_text

    def read_all_but_the_pipe(path: Path, *most: int) -> str:
        opened.append(path)
        return "{}" if path == pipe else read(path, *most)

    monkeypatch.setattr(files, "read_text", read_all_but_the_pipe)
    names = {"model": ["x"], "hardware": ["x"], "precision": ["x"], axis: [str(pipe)]}
    SpecsByName.of(names, current_catalog())
    with sweep.open_results(path) as results:
        calibration_of(results, None)
        recorded_calibration(str(results.attrs["efficiency"]))
    assert pipe not in opened


INPUTS = {
    "sweep": ("plan", "{}"),
    "run": ("run", "{}", "-o", "out.nc"),
    "hardware": ("show", "hardware", "{}"),
    "model": ("show", "model", "{}"),
    "calibration": ("run", "a100-vs-h20", "-o", "{tmp}/out.nc", "--efficiency", "{}"),
    "result": ("check", "{}"),
    "merge": ("merge", "{}", "{tmp}/out.nc"),
    "compare": ("compare", "{}", "--hardware", "a", "b"),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_pipe_or_device_in_place_of_an_input_is_refused_at_once(kind, pipe, call, tmp_path):
    device = tmp_path / "zero.yaml"
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        words = [word.format(path, tmp=tmp_path) for word in INPUTS[kind]]
        refused(call(*words), "device, pipe or socket")


def test_a_pipe_in_place_of_prices_or_a_shard_is_refused(
    pipe, whole_shards, call, tmp_path
) -> None:
    for name in ("prices.csv", "prices.yaml"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SpecError, match="device, pipe or socket"):
            read_prices(tmp_path / name)
    copy = tmp_path / "out"
    shutil.copytree(whole_shards, copy)
    (copy / "shard-000001.nc").unlink()
    os.mkfifo(copy / "shard-000001.nc")
    refused(call("merge", copy, tmp_path / "out.nc"), "device, pipe or socket")
    assert call("check", copy)[0] == 1


def test_a_calibration_that_is_a_pipe_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "fit.nc")
    with pytest.raises(SpecError, match="device, pipe or socket"):
        load_calibration(tmp_path / "fit.nc")
    os.mkfifo(tmp_path / "fit")
    for name in (tmp_path / "fit", tmp_path, Path("/dev/zero")):
        with pytest.raises(SpecError, match="is not a regular file; name a calibration"):
            load_calibration(name)


# No file that is opened can run code.

LOADERS = {
    *("eval", "exec", "compile", "__import__", "pickle", "marshal", "shelve", "dill"),
    *("cloudpickle", "joblib", "runpy", "read_pickle", "unsafe_load", "full_load", "FullLoader"),
    *("UnsafeLoader", "load_module", "exec_module", "allow_pickle", "getstate"),
}


def test_nothing_that_runs_code_from_a_file_is_used() -> None:
    for path in [*(ROOT / "sweep").rglob("*.py"), *(ROOT / "calibration").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = {
                ast.Name: lambda n: {n.id},
                ast.Import: lambda n: {alias.name.partition(".")[0] for alias in n.names},
                ast.ImportFrom: lambda n: {str(n.module), *(alias.name for alias in n.names)},
                ast.keyword: lambda n: {str(n.arg)},
                ast.Attribute: lambda n: {n.attr} - {"compile"},
            }.get(type(node), lambda _: set())(node)
            assert not found & LOADERS, f"{path}: {found & LOADERS}"


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:subprocess.check_output [['touch', '{}']]",
    ],
)
@pytest.mark.parametrize("key", ["models: [{}]", "{}", "name: {}"])
def test_a_tag_that_creates_an_object_is_refused(tag, key, call, tmp_path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "my.yaml"
    path.write_text(key.format(tag.format(mark)) + "\n")
    for words in (
        ("plan", path),
        ("show", "hardware", path),
        ("show", "model", path),
        ("run", "a100-vs-h20", "-o", tmp_path / "out.nc", "--efficiency", path),
    ):
        refused(call(*words), "my.yaml")
    with pytest.raises(SpecError):
        read_prices(path)
    assert not mark.exists()
