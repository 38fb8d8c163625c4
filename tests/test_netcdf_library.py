"""The NetCDF library is entered by one thread at a time, and opens a file once."""

import ast
import copy
import gc
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import xarray as xr
from factories import hardware, model, precision

import sweep
from sweep.errors import ResultError
from sweep.grid.grid import Grid
from sweep.specs import netcdf_library
from sweep.specs.netcdf_library import LIBRARY, OpenFile, opened

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    """A small result, whose labels are text."""
    grid = Grid(
        models=[model("llama")],
        hardware=[hardware()],
        precision=[precision()],
        batch_size=[1, 2, 3],
        isl=[8, 9],
        osl=[10],
        variables=["ttft", "feasible"],
    )
    path = tmp_path_factory.mktemp("result") / "out.nc"
    sweep.write_netcdf(sweep.run(grid), path)
    return path


@pytest.fixture
def file(result: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(result, tmp_path / "out.nc"))


STRESS = """
import sys, threading
from pathlib import Path
import sweep
from sweep.errors import SweepError

file, folder, damaged, beside = map(Path, sys.argv[1:5])

def refused():
    try:
        sweep.open_results(damaged).load()
    except SweepError:
        return
    raise AssertionError("a damaged folder was read")

def read_folder():
    with sweep.open_results(folder) as found:
        found.load()

def read_file():
    with sweep.open_results(file) as found:
        found.load()

def drop():
    sweep.open_results(file).load()

def write():
    with sweep.open_results(file) as found:
        sweep.write_netcdf(found, beside / f"{threading.get_ident()}.nc", force=True)

# Tasks of the damaged folder still run when the next one is opened.
for _ in range(20):
    refused()
    read_folder()

failed = []

def work(number):
    jobs = [refused, read_folder, read_file, drop, write]
    try:
        for step in range(15):
            jobs[(step * (number + 1) + number) % len(jobs)]()
    except BaseException as error:
        failed.append(error)

threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed or "sound")
"""


@pytest.mark.slow
def test_many_threads_read_and_write(file: Path, whole_shards: Path, tmp_path: Path) -> None:
    """Without the lock, and with a handle for each reader, this crashes nearly every time."""
    damaged, beside = tmp_path / "damaged", tmp_path / "beside"
    shutil.copytree(whole_shards, damaged)
    beside.mkdir()
    shard = damaged / "shard-000001.nc"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    paths = [str(path) for path in (file, whole_shards, damaged, beside)]
    done = subprocess.run(
        [sys.executable, "-c", STRESS, *paths], capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stdout.strip()) == (0, "sound"), done.stderr[-2000:]


def test_readers_of_a_file_share_one_handle(file: Path) -> None:
    first, second = OpenFile(file), OpenFile(file.parent / "." / file.name)
    assert first.acquire() is second.acquire()
    first.close()
    first.close()
    assert second.acquire().isopen()
    handle = second.acquire()
    second.close()
    assert not handle.isopen()
    # A file that was closed is opened again when it is read.
    again = first.acquire()
    assert again.isopen() and again is not handle
    first.close()


def test_a_result_that_is_open_twice_outlives_the_one_that_is_closed(file: Path) -> None:
    kept = sweep.open_results(file)
    with sweep.open_results(file) as other:
        expected = other.load()
    xr.testing.assert_identical(kept.load(), expected)
    kept.close()


def test_a_reader_that_nobody_needs_closes_its_file(file: Path) -> None:
    handle = OpenFile(file).acquire()
    gc.collect()
    assert not handle.isopen()

    # While the library is in use, its file waits for the next reader.
    handle = OpenFile(file).acquire()
    with LIBRARY:
        reader = OpenFile(file)
        del reader
        gc.collect()
        assert not handle.isopen() or netcdf_library._left
    with opened(file) as found:
        assert found.isopen()
    assert not netcdf_library._left and not netcdf_library._handles


def test_a_file_that_is_replaced_is_not_read_in_place_of_the_first(file: Path) -> None:
    kept = sweep.open_results(file)
    other = file.with_name("other.nc")
    with sweep.open_results(file) as found:
        expected = found.ttft.values
        sweep.write_netcdf(found.assign(ttft=found.ttft * 2), other)
    os.replace(other, file)
    # The handle is that of the first file, until it is closed.
    assert (kept.ttft.values == expected).all()
    with sweep.open_results(file) as found:
        assert (found.ttft.values == 2 * expected).all()
    kept.close()
    lazy = sweep.open_results(file)
    lazy.close()
    shutil.copy(file, other)
    os.replace(other, file)
    with pytest.raises(ResultError, match="has been replaced since it was opened"):
        lazy.feasible.load()


def test_a_file_that_changes_while_it_is_open_is_refused(file: Path) -> None:
    kept = sweep.open_results(file)
    os.utime(file, (1, 1))
    with pytest.raises(ResultError, match="changed since this process opened it; close it"):
        sweep.open_results(file)
    kept.close()
    sweep.open_results(file).close()


def test_a_lazy_result_is_copied_and_pickled_with_the_lock(file: Path) -> None:
    assert copy.deepcopy(LIBRARY) is LIBRARY is pickle.loads(pickle.dumps(LIBRARY))
    with sweep.open_results(file) as found:
        twins = found.copy(deep=True), pickle.loads(pickle.dumps(found))
        for twin in twins:
            xr.testing.assert_identical(twin.load(), found.compute())


def test_a_pickled_result_is_not_read_from_another_file(file: Path) -> None:
    with sweep.open_results(file) as found:
        pickled = pickle.dumps(found)
    other = file.with_name("other.nc")
    shutil.copy(file, other)
    os.replace(other, file)
    with pytest.raises(OSError, match="has been replaced since it was opened"):
        pickle.loads(pickled)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_child_of_a_process_whose_thread_reads_has_the_lock() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LIBRARY:
            held.set()
            done.wait(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        os._exit(0 if LIBRARY.acquire(blocking=False) and LIBRARY.depth == 1 else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_another_thread_waits_for_the_lock(file: Path) -> None:
    entered = threading.Event()

    def read() -> None:
        with opened(file):
            entered.set()

    with LIBRARY, LIBRARY:
        thread = threading.Thread(target=read)
        thread.start()
        assert LIBRARY.depth == 2
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set() and LIBRARY.depth == 0


def test_a_file_that_cannot_be_opened_leaves_no_handle(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises((OSError, RuntimeError)), opened(path):
        pass
    assert not netcdf_library._handles


WITH_THE_LOCK = {
    "netCDF4": {"sweep/specs/netcdf_library.py", "sweep/files/netcdf_stream.py"},
    "open_dataset": {"sweep/files/netcdf.py"},
    "to_netcdf": set(),
}
"""Modules that open files of the library, by the name that they use for it."""


@pytest.mark.parametrize("name", WITH_THE_LOCK)
def test_no_other_module_opens_files_of_the_library(name: str) -> None:
    found = set()
    for path in (*(ROOT / "sweep").rglob("*.py"), *(ROOT / "calibration").rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if name in text else ():
            names = {alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")}
            names |= {getattr(node, "module", None), getattr(node, "attr", None)}
            if name in names:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == WITH_THE_LOCK[name]


def test_damaged_compressed_values_are_refused_in_one_line(result: Path, tmp_path: Path) -> None:
    """A file of another program has no seal: its damage is found where its values are used."""
    path = tmp_path / "theirs.nc"
    with xr.open_dataset(result, decode_times=False) as plain:
        packed = {"ttft": {"zlib": True, "fletcher32": True}}
        plain.load().to_netcdf(path, encoding=packed)
    content = path.read_bytes()
    places = [match.start() for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content)]
    refused = 0
    for place in places:
        path.write_bytes(
            content[: place + 4] + bytes([content[place + 4] ^ 255]) + content[place + 5 :]
        )
        with sweep.open_results(path) as found:
            try:
                found.load()
            except ResultError as error:
                refused += 1
                assert str(error).startswith(f"{path}: its values cannot be read: ")
                assert "\n" not in str(error)
    assert refused
