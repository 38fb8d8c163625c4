"""Writing: nothing that appears meanwhile is replaced, nothing is left behind."""

import errno
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import xarray as xr

import sweep
from sweep.errors import ResultError
from sweep.files import atomic, zarr
from sweep.files.export import export


def results_of(whole_file: Path) -> xr.Dataset:
    with sweep.open_results(whole_file) as opened:
        return opened.load()


WRITERS = {
    "out.nc": sweep.write_netcdf,
    "streamed.nc": export,
    "table.csv": export,
    "table.parquet": export,
    "store.zarr": export,
}


def test_a_name_as_long_as_systems_allow_is_written(tmp_path) -> None:
    path = tmp_path / ("x" * 255)
    with atomic.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", WRITERS)
def test_what_appears_while_a_file_is_written_stays(
    name, whole_file, tmp_path, monkeypatch
) -> None:
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
        WRITERS[name](results_of(whole_file), path)
    assert "theirs" in (path / "thesis.tex" if path.is_dir() else path).read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_force_replaces_no_folder_that_is_no_store(whole_file, tmp_path, monkeypatch) -> None:
    path, made = tmp_path / "store.zarr", atomic.private_folder
    export(results_of(whole_file), path)

    @contextmanager
    def meanwhile(target: Path):
        with made(target) as folder:
            shutil.rmtree(path)
            path.mkdir()
            (path / "thesis.tex").write_text("theirs")
            yield folder

    monkeypatch.setattr(zarr, "private_folder", meanwhile)
    with pytest.raises(ResultError, match="exists by now"):
        export(results_of(whole_file), path, force=True)
    assert (path / "thesis.tex").read_text() == "theirs"


def test_two_writers_of_one_name_do_not_both_succeed(whole_file, tmp_path) -> None:
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


def test_a_folder_of_a_similar_name_is_not_a_leftover(tmp_path) -> None:
    kept = [tmp_path / f".out.nc{middle}.part" for middle in (".mine", ".old.copy1", "")]
    for folder in kept:
        folder.mkdir()
        (folder / "data").write_text("x")
    atomic.check_writable(tmp_path / "out.nc", force=True)
    with atomic.replacing(tmp_path / "out.nc") as temporary:
        assert re.fullmatch(r"\.out\.nc\.[a-z0-9_]{8}\.part", temporary.parent.name)
        temporary.write_text("x")
    assert all((folder / "data").read_text() == "x" for folder in kept)


def test_a_process_that_is_asked_to_end_leaves_nothing(whole_file, tmp_path) -> None:
    script = (
        "import os, signal; from sweep.cli import main; from sweep.files import netcdf_stream\n"
        "def end(*_): os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "netcdf_stream._fill = end; main.main()"
    )
    words = [sys.executable, "-c", script, "merge", str(whole_file), str(tmp_path / "out.nc")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 143
    assert ended.stderr == "llm-sweep: terminated\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_so(tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(ResultError, match="No space left"), atomic.replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.slow
def test_an_odd_name_or_closed_output_leaves_no_traceback(whole_file, tmp_path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.nc"
    command = [sys.executable, "-m", "sweep"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shell = '"$@" >&-'
    for words in (
        [*command, "export", whole_file, odd],
        [*command, "check", odd],
        ["sh", "-c", shell, "sh", *command, "check", whole_file],
        ["sh", "-c", shell, "sh", *command, "list", "hardware"],
    ):
        ended = subprocess.run(
            words, capture_output=True, check=False, timeout=600, env=environment
        )
        assert ended.returncode in (0, 2), ended.stderr
        assert ended.stderr.count(b"\n") <= 1 and b"Traceback" not in ended.stderr, ended.stderr
