"""Runs that are killed, interrupted, or out of disk, and the command that resumes them."""

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
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from interruptions import DEADLINE, hold_after, interrupt_at, sweep_in
from shard_folders import ROOT, contents, forget, marks, sharded, tiny, truncate, twin

import sweep
from sweep.errors import ResultError, SweepError
from sweep.runs.check_results import check_directory
from sweep.runs.run_folder import begun

# Processes that die. They are forked from one that has imported everything, so as to start at once.

SWEEP = {
    "models": ["llama-2-7b"],
    "hardware": ["a100-sxm-80gb", "h20-96gb"],
    "batch_size": {"start": 1, "stop": 101, "step": 1},
    "context_len": [128, 4096],
    "variables": ["kv_cache_memory"],
}
SHARDS = 200
KILLS = 6
"""Processes of a run that are killed one after another; campaigns kill a hundred. [count]"""


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory) -> Path:
    return sweep_in(tmp_path_factory.mktemp("sweep"), SWEEP)


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
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
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
    for _ in range(KILLS):
        before = marks(out)
        process = forked(*arguments, writes=9)
        wait_for_shards(out, len(before) + chance.randrange(9))
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.join()
        cut_short += process.exitcode == -signal.SIGKILL
        after = marks(out)
        assert {name: after[name] for name in before} == before
    assert cut_short == KILLS
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
    let_on(last, run)
    wait_for_shards(out, 20)
    assert len(workers_of(run.pid)) == 2
    workers_of(run.pid)[0].kill()
    let_on(last, run)
    _, said = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, said
    assert contents(out) == contents(reference)


def let_on(pipe: Path, run: subprocess.Popen[str]) -> None:
    """Let who waits to read a pipe go on: it is empty."""
    end = time.monotonic() + DEADLINE
    while run.poll() is None and time.monotonic() < end:
        try:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # Nobody reads yet.
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody read {pipe.name}: {run.returncode}")


def workers_of(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
        return [p for p in below if "spawn_main" in " ".join(p.cmdline())]
    return []


def test_an_error_of_a_task_is_that_of_the_run() -> None:
    distributed = pytest.importorskip("distributed")
    from sweep.runs.on_dask import _raise

    dead = distributed.KilledWorker("shard", SimpleNamespace(address="tcp://there"), 3)
    for error, raised in ((dead, ResultError), (SweepError("no power"), SweepError)):
        with pytest.raises(raised, match=r"tcp://there|no power"):
            _raise(SimpleNamespace(status="error", exception=lambda error=error: error))
    _raise(SimpleNamespace(status="finished"))


@pytest.mark.slow
def test_dask_is_configured_for_the_run_alone(tmp_path, monkeypatch) -> None:
    import dask

    from sweep.runs import huge_pages, on_dask

    # It adds its defaults to the configuration when it is imported.
    pytest.importorskip("distributed")
    monkeypatch.setattr(huge_pages, "_linux_waits_to_be_asked", lambda: True)
    monkeypatch.setattr(huge_pages, "_library_has_tunable", lambda: True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    before, seen, variables = deepcopy(dask.config.config), [], set(os.environ)
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
    # Dask sets those of workers, such as OMP_NUM_THREADS, where it starts them.
    assert set(os.environ) == variables
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
        (["--only", f"1/{'9' * 5000}"], "K/N"),
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
