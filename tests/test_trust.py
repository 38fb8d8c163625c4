"""Files from elsewhere: damage is noticed before values are used, and ends in one line."""

import ast
import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from factories import UNEVEN, hardware, model, precision, shipped
from model_families import keys_of

import sweep
from calibration.fit.priors import BOUNDS
from sweep.cli.print_tables import print_table
from sweep.decisions.compare import compare
from sweep.decisions.figures.comparison import comparison_figure
from sweep.decisions.prices import read_prices
from sweep.decisions.rivals import recorded_calibration
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_checks import range_of
from sweep.engines.calibration_file import load_calibration
from sweep.errors import ResultError, SpecError, SweepError
from sweep.evaluation.plan import Plan, make_plan
from sweep.files import atomic, zarr
from sweep.files.export import export
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.html_report.calibration_quality import calibration_of
from sweep.kernel.factors import FACTORS, IDEAL
from sweep.models.read import read_blocks
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.check_results import check_file
from sweep.runs.jit_cache import use_compilation_cache
from sweep.runs.run_folder import Directory, begun
from sweep.runs.shards import run_shards
from sweep.specs.catalog import current_catalog
from sweep.specs.files import read_mapping
from sweep.specs.seal import SEAL_LENGTH, seal

ROOT = Path(__file__).parent.parent

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
    for sealed_too in (True, False):
        copy = tmp_path / str(sealed_too)
        shutil.copytree(sound, copy)
        if sealed_too:
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


# Names that a result contains are looked up in the catalog, never opened.


@pytest.fixture
def pipe(tmp_path) -> Path:
    """A pipe that nobody writes into: who opens it waits."""
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    return path


def relabelled(single: Path, path: Path, **labels: str) -> Path:
    """The result with one label of each axis, and its calibration, called something else."""
    with sweep.open_results(single) as opened:
        dataset = opened.isel(model=[0], hardware=[0]).load()
    efficiency = labels.pop("efficiency", "ideal")
    renamed = dataset.assign_coords({axis: [label] for axis, label in labels.items()})
    grid = json.dumps({axis: held.values.tolist() for axis, held in renamed.coords.items()})
    sweep.write_netcdf(renamed.assign_attrs(efficiency=efficiency, llm_sweep_grid=grid), path)
    return path


@pytest.mark.parametrize("axis", ["model", "hardware", "precision", "efficiency"])
def test_a_label_that_is_a_path_is_not_opened(axis, single, pipe, call, tmp_path, monkeypatch):
    label = f"{pipe} 0123" if axis == "efficiency" else str(pipe)
    path = relabelled(single, tmp_path / "theirs.nc", **{axis: label})
    opened = []
    monkeypatch.setattr("sweep.specs.files.read_text", lambda path, *_: opened.append(path) or "{}")
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


def test_a_pipe_in_place_of_prices_or_a_shard_is_refused(pipe, sound, call, tmp_path) -> None:
    for name in ("prices.csv", "prices.yaml"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SpecError, match="device, pipe or socket"):
            read_prices(tmp_path / name)
    copy = tmp_path / "out"
    shutil.copytree(sound, copy)
    (copy / "shard-000001.nc").unlink()
    os.mkfifo(copy / "shard-000001.nc")
    refused(call("merge", copy, tmp_path / "out.nc"), "device, pipe or socket")
    assert call("check", copy)[0] == 1


# Text is bounded: what it expands to, and what a message repeats of it.

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}], {name}: 1}}\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)
STRANGE = {
    "aliases": (BOMB, "aliases written out"),
    "merges": (MERGES, "missing"),
    "an alias of itself": ("models: &m [*m]\nhardware: [x]\n", "an alias contains itself"),
    "a key that is a number": ("1: x\n", "the key 1 is no text"),
    "a key that is null": ("null: x\n", "the key None is no text"),
    "a key that is true": ("models: [{true: x}]\n", "the key True is no text"),
    "a long key": ("x" * 10**5 + ": 1\n", ""),
    "a long value": ("models: " + "x" * 10**5 + "\n", ""),
    "a long name": ("models: [" + "x" * 10**5 + "]\nhardware: [h20-96gb]\nvariables: [ttft]\n", ""),
    "a long variable": ("models: [a]\nhardware: [b]\nvariables: [" + " x" * 10**5 + "]\n", ""),
    "5,000 digits": ("batch_size: [" + "9" * 5000 + "]\n", "digits"),
    "hexadecimal": ("batch_size: [0x" + "f" * 5000 + "]\n", "batch_size: a number of more than"),
    "hexadecimal in a mapping": ("isl: {start: 0x" + "f" * 5000 + ", stop: 2}\n", "isl: start"),
    "escapes": ("models: ['\\x1b[31mred']\n".replace("'", '"'), ""),
}


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_is_refused_in_one_short_line(text, call, tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(STRANGE[text][0])
    answer = call("plan", path, "--no-probe")
    refused(answer, STRANGE[text][1])
    assert "\x1b" not in answer[2]


def test_a_merge_of_a_mapping_that_merges_keeps_what_it_overrides(tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("b: {<<: &own {<<: &base {x: 1, y: 1}, y: 2}, z: 3}\nown: *own\nbase: *base\n")
    found = read_mapping(path)
    assert found["b"] == {"x": 1, "y": 2, "z": 3}
    assert found["own"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "key", ["x: 1\nx: 2", "a: {x: 1, x: 2}", "b: &b {x: 1, x: 2}\nc: {<<: *b}"]
)
def test_a_key_given_twice_is_still_refused(key, tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(key)
    with pytest.raises(SpecError, match="given twice"):
        read_mapping(path)


@pytest.mark.parametrize("kind", ["[]", "{}", "{a: 1}", "[llama]", "1", "null"])
def test_a_model_type_that_is_no_text_is_refused(kind, call, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"model_type: {kind}\nhidden_size: 8\n")
    refused(call("show", "model", path), "model_type")


@pytest.mark.parametrize(
    "value", ["1" + "0" * 400, "9" * 5000, "0x" + "f" * 5000, "1e400", "-1e400", ".nan"]
)
def test_huge_numbers_are_refused(value, call, tmp_path) -> None:
    text = (ROOT / "configs/hardware/h20-96gb.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(r"(?m)^memory_bytes: .*", f"memory_bytes: {value}", text))
    refused(call("show", "hardware", path), "mine.yaml")
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"h20-96gb: {value}\n")
    with pytest.raises(SpecError):
        read_prices(prices)
    (tmp_path / "prices.csv").write_text(f"hardware,price_usd_per_hour\nh20-96gb,{value}\n")
    with pytest.raises(SpecError):
        read_prices(tmp_path / "prices.csv")


@pytest.mark.parametrize(
    "text",
    [
        " " * 10**5,
        "=" + " " * 10**5,
        "isl=" + " " * 10**5,
        "isl=1e999",
        "isl=" + "9" * 5000,
        "x" * 10**5 + "=1",
        "isl:" + "," * 10**5,
    ],
)
def test_long_selections_are_refused_soon(text, single, call, tmp_path) -> None:
    refused(call("export", single, tmp_path / "out.csv", "--select", text))
    asked = ("reduce", single, tmp_path / "out.nc", "--reduce", "argmin:ttft", "--where", text)
    refused(call(*asked))


# Writing: nothing that appears meanwhile is replaced, nothing is left behind.


def results_of(single: Path) -> xr.Dataset:
    with sweep.open_results(single) as opened:
        return opened.load()


WRITERS = {
    "out.nc": sweep.write_netcdf,
    "streamed.nc": export,
    "table.csv": export,
    "table.parquet": export,
    "store.zarr": export,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_appears_while_a_file_is_written_stays(name, single, tmp_path, monkeypatch) -> None:
    path, made = tmp_path / name, atomic.private_folder

    @contextmanager
    def meanwhile(target: Path):
        with made(target) as folder:
            if path.suffix == ".zarr":
                path.mkdir()
                (path / "thesis.tex").write_text("theirs")
            else:
                path.write_text("theirs")
            yield folder

    for module in (atomic, zarr):
        monkeypatch.setattr(module, "private_folder", meanwhile)
    with pytest.raises(ResultError, match="exists by now"):
        WRITERS[name](results_of(single), path)
    assert "theirs" in (path / "thesis.tex" if path.is_dir() else path).read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_force_replaces_no_folder_that_is_no_store(single, tmp_path, monkeypatch) -> None:
    path, made = tmp_path / "store.zarr", atomic.private_folder
    export(results_of(single), path)

    @contextmanager
    def meanwhile(target: Path):
        with made(target) as folder:
            shutil.rmtree(path)
            path.mkdir()
            (path / "thesis.tex").write_text("theirs")
            yield folder

    monkeypatch.setattr(zarr, "private_folder", meanwhile)
    with pytest.raises(ResultError, match="exists by now"):
        export(results_of(single), path, force=True)
    assert (path / "thesis.tex").read_text() == "theirs"


def test_two_writers_of_one_name_do_not_both_succeed(single, tmp_path) -> None:
    path, done = tmp_path / "out.nc", []
    with (
        pytest.raises(ResultError, match="exists by now"),
        atomic.replacing(path, force=False) as a,
    ):
        with atomic.replacing(path, force=False) as b:
            b.write_text("second")
        done.append(path.read_text())
        a.write_text("first")
    assert done == ["second"] == [path.read_text()]


def test_without_links_a_name_is_reserved(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with atomic.replacing(tmp_path / "a", force=False) as temporary:
        temporary.write_text("done")
    assert (tmp_path / "a").read_text() == "done"
    with (
        pytest.raises(ResultError, match="exists by now"),
        atomic.replacing(tmp_path / "a", force=False) as temporary,
    ):
        temporary.write_text("again")


def test_nobody_else_may_enter_where_a_file_is_written(tmp_path) -> None:
    with atomic.replacing(tmp_path / "a.nc") as temporary:
        assert temporary.parent.parent == tmp_path
        assert temporary.parent.stat().st_mode & 0o077 == 0
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_leftovers_of_dead_processes_are_removed_and_those_of_live_ones_kept(tmp_path) -> None:
    path = tmp_path / "out.nc"
    script = (
        "import os, sys; from pathlib import Path; from sweep.files.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as t: t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert len(list(tmp_path.glob(".out.nc.*"))) == 1
    with atomic.replacing(path) as temporary:
        temporary.write_text("x")
        atomic.check_writable(path, force=False)
        assert list(tmp_path.glob(".out.nc.*")) == [temporary.parent]
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_asked_to_end_leaves_nothing(single, tmp_path) -> None:
    script = (
        "import os, signal; from sweep.cli import main; from sweep.files import netcdf_stream\n"
        "def end(*_): os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "netcdf_stream._fill = end; main.main()"
    )
    words = [sys.executable, "-c", script, "merge", str(single), str(tmp_path / "out.nc")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 143
    assert ended.stderr == "llm-sweep: terminated\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_so(tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(ResultError, match="No space left"), atomic.replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.slow
def test_an_odd_name_or_closed_output_leaves_no_traceback(single, tmp_path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.nc"
    command = [sys.executable, "-m", "sweep"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shell = '"$@" >&-'
    for words in (
        [*command, "export", single, odd],
        [*command, "check", odd],
        ["sh", "-c", shell, "sh", *command, "check", single],
        ["sh", "-c", shell, "sh", *command, "list", "hardware"],
    ):
        ended = subprocess.run(
            words, capture_output=True, check=False, timeout=100, env=environment
        )
        assert ended.returncode in (0, 2), ended.stderr
        assert ended.stderr.count(b"\n") <= 1 and b"Traceback" not in ended.stderr, ended.stderr


# Answers from sound files.


@pytest.mark.parametrize("lengths", [([100], [10, 200]), ([100, 200], [10]), ([100], [10])])
@pytest.mark.parametrize("batch", [[1, 8], [8]])
def test_a_quantity_that_varies_over_fewer_axes_than_memory_is_compared(lengths, batch) -> None:
    isl, osl = lengths
    # The second accelerator cannot run the largest batch with the longest output.
    size = {"batch_size": len(batch), "isl": len(isl), "osl": len(osl)}
    axes = {"batch_size": batch, "isl": isl, "osl": osl}
    time = xr.DataArray(
        np.ones((1, 2, *list(size.values())[:2])), dims=("model", "hardware", "batch_size", "isl")
    )
    room = xr.DataArray(np.ones((1, 2, *size.values()), np.int8), dims=("model", "hardware", *size))
    room[:, 1, -1, :, -1] = 0
    dataset = xr.Dataset(
        {"ttft": time, "feasible": room}, {"model": ["m"], "hardware": ["a", "b"], **axes}
    )
    found = compare(dataset, ("a", "b"), model="m", variable="ttft", chosen={})
    assert found.fits is not None
    for able in found.fits:
        assert able.dims == found.ratio.dims and able.shape == found.ratio.shape
    lost = int((~found.fits[1]).sum())
    assert lost == (0 if len(osl) > 1 else len(isl))
    comparison_figure([[found]]).savefig(io.BytesIO(), format="png")
    if len(osl) > 1:
        longer = compare(dataset, ("a", "b"), model="m", variable="ttft", chosen={"osl": osl[-1]})
        assert longer.fits is not None and not bool(longer.fits[1].all())


# Results that others wrote or damaged.


def set_attribute(name: str | None, key: str, value: object):
    def change(dataset: xr.Dataset) -> xr.Dataset:
        (dataset if name is None else dataset[name]).attrs[key] = value
        return dataset

    return change


FOREIGN = {
    "text in scale_factor": set_attribute("ttft", "scale_factor", "big"),
    "an array in scale_factor": set_attribute("ttft", "scale_factor", np.ones(3)),
    "text in missing_value": set_attribute("ttft", "missing_value", "none"),
    "an array in units": set_attribute("ttft", "units", np.ones(3)),
    "an array in long_name": set_attribute("feasible", "long_name", np.ones(3)),
    "a number in flag_meanings": set_attribute("feasible", "flag_meanings", 3.0),
    "text in flag_masks": set_attribute("feasible", "flag_masks", "all"),
    "more flags than meanings": set_attribute("feasible", "flag_masks", np.arange(5)),
    "a deep grid": set_attribute(None, "llm_sweep_grid", "[" * 10**5),
    "a grid that is a list": set_attribute(None, "llm_sweep_grid", "[]"),
    "a grid of lists of lists": set_attribute(None, "llm_sweep_grid", '{"model": [["x"]]}'),
    "a grid that is a number": set_attribute(None, "llm_sweep_grid", 3),
    "an efficiency that is a number": set_attribute(None, "efficiency", np.ones(3)),
    "a label of escapes": lambda d: d.assign_coords(
        hardware_name=("hardware", ["\x1b[31mred", "b"])
    ),
    "a long label": lambda d: d.assign_coords(hardware_name=("hardware", ["x" * 10**5, "b"])),
    "an efficiency of escapes": set_attribute(None, "efficiency", "\x1b[31mred 0123"),
    "a long efficiency": set_attribute(None, "efficiency", "x" * 10**5),
    "long units": set_attribute("ttft", "units", "x" * 10**5),
    "zero times": lambda d: d.assign(output_throughput=d.output_throughput * 0, ttft=d.ttft * 0),
    "no values": lambda d: d.assign(output_throughput=d.output_throughput * np.nan),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """A single file to recommend from."""
    names = ["ttft", "tpot", "output_throughput", "feasible"]
    keys = {axis: values for axis, values in UNEVEN.items() if axis in ("batch_size", "hardware")}
    grid = Grid(
        models=[model("llama")],
        precision=[precision()],
        isl=[100],
        osl=[10],
        variables=names,
        **keys,
    )
    path = tmp_path_factory.mktemp("served") / "out.nc"
    sweep.write_netcdf(sweep.run(grid), path)
    return path


@pytest.mark.parametrize("change", FOREIGN)
def test_a_foreign_result_is_refused_or_fails_the_check(change, served, call, tmp_path) -> None:
    path = tmp_path / "theirs.nc"
    with xr.open_dataset(served, decode_cf=False) as plain:
        FOREIGN[change](plain.load()).to_netcdf(path)
    code, out, err = call("check", path)
    assert code in (1, 2), out
    assert "Traceback" not in err and "\x1b" not in out + err
    assert all(len(line) < LONGEST_LINE for line in out.splitlines())
    pair = ("--hardware", "one", "two", "--variable", "ttft")
    for words in (
        ("compare", path, *pair),
        ("recommend", "--from", path),
        ("export", path, tmp_path / "out.csv"),
        ("reduce", path, tmp_path / "reduced.nc", "--reduce", "argmin:ttft"),
    ):
        code, out, err = call(*words)
        assert code in (0, 1, 2) and "\x1b" not in out + err
        assert len(err) < LONGEST_LINE


def test_damage_inside_compressed_values_is_one_line(served, call, tmp_path) -> None:
    """A file without a seal, whose values are only read when they are used."""
    path, chance = tmp_path / "theirs.nc", random.Random(2)
    with xr.open_dataset(served, decode_times=False) as plain:
        how = {str(n): {"zlib": True, "fletcher32": True} for n in plain.data_vars}
        plain.load().to_netcdf(path, encoding=how)
    content = path.read_bytes()
    places = [m.start() for m in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content)]
    assert places
    for place in places:
        changed = bytearray(content)
        changed[place + 3 + chance.randrange(4)] ^= 255
        path.write_bytes(changed)
        for words in (
            ("export", path, tmp_path / "out.nc", "--force"),
            ("export", path, tmp_path / "out.csv", "--force"),
            ("reduce", path, tmp_path / "out.nc", "--force", "--reduce", "argmin:ttft"),
        ):
            code, _, err = call(*words)
            assert code in (0, 2)
            assert "out.nc: cannot be written" not in err


def test_a_table_shows_escapes_written_out(capsys) -> None:
    print_table([{"name": "\x1b[31mred\x07"}])
    assert capsys.readouterr().out.strip().endswith("\\x1b[31mred\\x07")


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


# The environment, and figures that no machine has.


def test_a_platform_that_this_machine_lacks_is_named(monkeypatch) -> None:
    def refuse() -> None:
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", refuse)
    with pytest.raises(SweepError, match="JAX_PLATFORMS=cuda: JAX finds no such device"):
        use_compilation_cache()


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        *((f"{name}_latency_s", 1e39) for name in ("link", "pcie", "network")),
        *((f"{name}_bandwidth_bytes_per_s", 1e-30) for name in ("link", "memory", "network")),
        *((f"{name}_bandwidth_bytes_per_s", 1e39) for name in ("link", "memory", "network")),
        ("vector_flops_per_s", 1e-30),
        ("peak_flops_per_s", {"fp16": 1e-30}),
        ("memory_bytes", 1e39),
        ("usable_memory_bytes", 1e13),
    ],
)
def test_figures_that_no_machine_has_are_refused(figure, value) -> None:
    with pytest.raises((SpecError, ValueError), match=figure):
        hardware(**{figure: value})


# Calibrations are checked when they are read, and carry a checksum.


def edited(**changes: object) -> dict[str, Any]:
    """The shipped calibration of vLLM with some keys replaced: `settings__software={…}`."""
    found = read_mapping(ROOT / "configs/calibrations/vllm.yaml")
    del found["seal"]
    for key, value in changes.items():
        *path, last = key.split("__")
        at = found
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return found


TINY_FIGURE = {"value": 1.0}
WRONG = {
    "settings.software.default": {"settings__software": {"default": -1.0}},
    "settings.gemm": {"settings__gemm": {"default": float("nan")}},
    "settings.reserved_memory_bytes": {"settings__reserved_memory_bytes": {"default": 1e16}},
    "settings: unknown factor 'sofware'; did you mean 'software'": {
        "settings__sofware": {"default": 1.0}
    },
    "settings.prefill_first.default": {"settings__prefill_first": {"default": 2.0}},
    "factors.gemm: must be from": {"factors__gemm": {"value": 0.0}},
    "factors.attention": {"factors__attention": {"value": 1e300}},
    "factors.software": {"factors__software": {"value": 1e-300}},
    "factors.step_overhead_s": {"factors__step_overhead_s": {"value": 1e9}},
    "factors.gemm.standard_error": {"factors__gemm": {"value": 1.0, "standard_error": 500.0}},
    "factors.gemm.verdict": {"factors__gemm": {"value": 1.0, "verdict": "great"}},
    "factors: unknown factor 'gem'": {"factors__gem": TINY_FIGURE},
    "deviations.gemm: unknown trait 'hardwares'": {
        "deviations__gemm__hardwares": {"l4": TINY_FIGURE}
    },
    "deviations.gemm.hardware.l4": {"deviations__gemm__hardware": {"l4": {"value": 0.0}}},
    "deviations: unknown factor": {"deviations__gem__hardware": {"l4": TINY_FIGURE}},
    "halfwidths: unknown scenario 'in_flight'": {"halfwidths__in_flight": {"seen": 0.1}},
    "halfwidths.inflight: unknown key 'sen'": {"halfwidths__inflight": {"sen": 0.1}},
    "halfwidths.inflight.seen": {"halfwidths__inflight": {"seen": 1e300}},
    "spreads: unknown grouping 'hardwares'": {"spreads__hardwares": {"l4": 1.0}},
    "spreads.experts: unknown level 'route'": {"spreads__experts": {"route": 1.0}},
    "spreads.requests: unknown level": {"spreads__requests": {"to 65": 1.0}},
    "spreads.model.gpt2": {"spreads__model": {"gpt2": 1e9}},
    "ranges.inflight.isl: from 8 to 4 is reversed": {"ranges__inflight__isl": [8.0, 4.0]},
    "ranges.inflight: unknown quantity": {"ranges__inflight__islands": [1.0, 4.0]},
    "ranges: unknown scenario": {"ranges__flight__isl": [1.0, 4.0]},
    "seen: unknown key 'hardwares'": {"seen__hardwares": ["l4"]},
    "provenance.told_only_together": {"provenance__told_only_together": 3},
    "provenance.rows_set_aside": {"provenance__rows_set_aside": {"a": 1}},
    "provenance.rows_waiting_longest_for": {"provenance__rows_waiting_longest_for": [1]},
    "provenance.errors_without_own_configuration": {
        "provenance__errors_without_own_configuration": {"inflight": {"mape": "small"}}
    },
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_calibration_is_refused_by_key(words, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(edited(**WRONG[words])))
    with pytest.raises(SpecError) as error:
        load_calibration(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < LONGEST_LINE


def test_every_factor_has_a_range_that_contains_its_ideal_value() -> None:
    for factor in FACTORS:
        low, high = range_of(factor)
        ideal = getattr(IDEAL, factor)
        assert low <= ideal <= high or ideal == np.inf
        if factor in BOUNDS:
            assert low <= BOUNDS[factor][0] < BOUNDS[factor][1] <= high


def test_a_calibration_with_a_seal_is_refused_when_it_was_changed(tmp_path) -> None:
    """Comments and layout may change, and a file without a seal may be edited."""
    path, chance = tmp_path / "mine.yaml", random.Random(3)
    text = (ROOT / "configs/calibrations/vllm.yaml").read_text()
    path.write_text(text)
    assert load_calibration(path) == load_calibration(ROOT / "configs/calibrations/vllm.yaml")
    changed_text = re.sub(r"value: [0-9.]+", "value: 0.7654", text, count=1)
    assert changed_text != text
    path.write_text(changed_text)
    with pytest.raises(SpecError, match="delete the line 'seal'"):
        load_calibration(path)
    path.write_text(re.sub(r"^seal: .*\n", "", changed_text, flags=re.MULTILINE))
    assert load_calibration(path) is not None
    path.write_text(text.replace("# Value,", "# Number,"))
    assert load_calibration(path) is not None
    whole, lines = text.encode(), [i for i, s in enumerate(text.split("\n")) if s.startswith("#")]
    for place in chance.sample(range(len(whole)), 25):
        if whole[:place].count(b"\n") in lines:
            continue
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(7)
        path.write_bytes(changed)
        with contextlib.suppress(SpecError):
            assert load_calibration(path) == load_calibration("vllm"), place


@pytest.fixture
def fitted(tmp_path) -> Path:
    """The NetCDF form of a shipped calibration, as far as a sweep reads it."""
    path, content = tmp_path / "fit.nc", edited()
    xr.Dataset(attrs={"llm_sweep_efficiency": json.dumps(content)}).to_netcdf(path)
    seal(path)
    return path


def test_a_changed_bit_in_the_netcdf_file_of_a_fit_is_noticed(fitted, call, tmp_path) -> None:
    assert load_calibration(fitted) == load_calibration("vllm")
    content, chance = fitted.read_bytes(), random.Random(4)
    for place in chance.sample(range(len(content)), 30):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        fitted.write_bytes(changed)
        with pytest.raises(SpecError, match="checksum differs"):
            load_calibration(fitted)


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", "3", '{"name": 1, "name": 2}', "{", "\x00"])
def test_an_attribute_that_is_no_calibration_is_refused(text, tmp_path) -> None:
    path = tmp_path / "fit.nc"
    xr.Dataset(attrs={"llm_sweep_efficiency": text or "x"}).to_netcdf(path)
    with pytest.raises(SpecError, match=r"fit\.nc"):
        load_calibration(path)


def test_a_calibration_that_is_a_pipe_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "fit.nc")
    with pytest.raises(SpecError, match="device, pipe or socket"):
        load_calibration(tmp_path / "fit.nc")


# Structure that a config does not state is not guessed.


@pytest.mark.parametrize(
    ("family", "key"), [("deepseek_v2", "q_lora_rank"), ("dots1", "n_shared_experts")]
)
def test_structure_that_a_config_lacks_is_asked_for(family, key) -> None:
    config = keys_of(family)
    assert read_blocks(config, "config.json")
    del config[key]
    with pytest.raises(SpecError, match=f"{key}: missing, and the model's structure"):
        read_blocks(config, "config.json")


@pytest.mark.parametrize("text", ['{"model_type": "\\ud800"}', '{"a": {"\\udfff": 1}}'])
def test_half_a_character_is_refused(text, tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SpecError, match="half of a character"):
        read_mapping(path)
