"""Processes that are interrupted, run out of disk, or meet one another.

`python -m pytest -m campaign tests/test_fuzz_*.py` ends processes at `FUZZ_MOMENTS` random moments,
100 if it says nothing, over `run`, `reduce`, `merge`, `export` and `fit`.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fuzzing import SEED
from interruptions import DEADLINE

import sweep
from sweep.engines.calibration_file import load_calibration
from sweep.runs.check_results import check_file
from sweep.specs.seal import fault_of_seal

MOMENTS = int(os.environ.get("FUZZ_MOMENTS", "100"))
"""Moments at which processes are ended in a campaign. [count]"""
PYTHON = sys.executable
SWEEP = """
models: [llama-3.1-8b]
hardware: [h20-96gb, l20]
precision: [fp16]
batch_size: [1, 8, 64]
isl: [128, 1000]
osl: [10, 100]
variables: [ttft, tpot, output_throughput, feasible]
"""
TABLE_LINES = 1 + 2 * 3 * 2 * 2
"""Lines of the exported table: its header, and a row for each cell."""
ROWS = "scenario,model,hardware,isl,osl,metric,value,engine,engine_version,concurrency\n" + "".join(
    f"inflight,llama-3.1-8b,h20-96gb,{isl},128,output_throughput,{value},vllm,0.9.1,{clients}\n"
    for isl, clients, value in ((128, 1, 130), (1024, 8, 900), (1024, 64, 3900))
)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
LATEST = 1.1
"""Latest moment of a signal, over the time that the command takes alone. [1]"""


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """Sound inputs of all commands: a sweep, a result, a folder of shards, a table."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "my.yaml").write_text(SWEEP)
    (folder / "mine.csv").write_text(ROWS)
    run = [PYTHON, "-m", "sweep", "run", "my.yaml"]
    for words in (["-o", "out.nc"], ["-o", "out", "--shards", "3"]):
        subprocess.run([*run, *words], cwd=folder, check=True, capture_output=True)
    return folder


COMMANDS: dict[str, tuple[str, list[str]]] = {
    "run": ("x.nc", ["-m", "sweep", "run", "{}/my.yaml", "-o", "x.nc"]),
    "reduce": ("x.nc", ["-m", "sweep", "reduce", "{}/out", "x.nc", "--reduce", "argmin:ttft"]),
    "merge": ("x.nc", ["-m", "sweep", "merge", "{}/out", "x.nc"]),
    "export": ("x.csv", ["-m", "sweep", "export", "{}/out.nc", "x.csv"]),
    "fit": (
        "x.nc",
        [
            *("-m", "calibration", "fit", "{}/mine.csv", "-o", "x.nc", "--from", "vllm"),
            *("--free", "software[]"),
        ],
    ),
}
"""File that each command writes, and its words."""


def words_of(command: str, given: Path) -> list[str]:
    return [PYTHON, *(word.format(given) for word in COMMANDS[command][1])]


@pytest.fixture(scope="module")
def lengths(given: Path, tmp_path_factory) -> dict[str, float]:
    """Time that each command takes once its kernels are compiled. [s]"""
    found = {}
    for command in COMMANDS:
        for _ in range(2):
            folder, begun = tmp_path_factory.mktemp(command), time.monotonic()
            subprocess.run(words_of(command, given), cwd=folder, check=True, capture_output=True)
            found[command] = time.monotonic() - begun
    return found


def check_left(command: str, folder: Path, *, killed: bool) -> None:
    """Check that the output is absent or sound, and that nothing else is left."""
    output = folder / COMMANDS[command][0]
    if output.exists() and command == "fit":
        assert fault_of_seal(output, needed=True) == "" and load_calibration(output) is not None
    elif output.exists() and output.suffix == ".nc":
        assert fault_of_seal(output, needed=True) == "" and check_file(output) == []
    elif output.exists():
        assert output.read_text().count("\n") == TABLE_LINES
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert killed or not hidden, hidden


def moments() -> list[tuple[str, signal.Signals, float]]:
    """Commands, signals and moments as parts of the command, the same ones in every process."""
    chance = random.Random(f"{SEED} {MOMENTS}")
    return [
        (
            list(COMMANDS)[place % len(COMMANDS)],
            SIGNALS[place // len(COMMANDS) % len(SIGNALS)],
            round(LATEST * chance.random(), 3),
        )
        for place in range(MOMENTS)
    ]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("command", "number", "moment"), moments(), ids=lambda value: str(getattr(value, "name", value))
)
def test_an_ended_process_leaves_nothing_or_all(
    command: str, number: signal.Signals, moment: float, given: Path, lengths: Any, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        words_of(command, given), cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        _, said = process.communicate(timeout=moment * lengths[command])
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE)
    killed = process.returncode == -signal.SIGKILL
    # Before the command has installed its handlers, the interpreter ends as it pleases.
    early = process.returncode in (-signal.SIGTERM, -signal.SIGINT) or b"KeyboardInterrupt" in said
    assert early or process.returncode in (0, 130, 143, -signal.SIGKILL), said
    assert early or b"Traceback" not in said, said
    check_left(command, tmp_path, killed=killed)
    again = subprocess.run(
        [*words_of(command, given), "--force"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert again.returncode == 0, again.stderr
    check_left(command, tmp_path, killed=False)


@pytest.mark.campaign
@pytest.mark.parametrize("size", [0, 100, 1000, 4000, 8000, 12000, 16000, 20000, 30000, 60000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_on_the_size_of_files_is_one_line(
    command: str, size: int, given: Path, tmp_path: Path
) -> None:
    """What a full disk is to a writer: a limit that it meets at one of ten moments."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    ended = subprocess.run(
        words_of(command, given),
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
        preexec_fn=limit,
    )
    assert ended.returncode in (0, 2), ended.stderr
    assert b"Traceback" not in ended.stderr
    if ended.returncode:
        assert ended.stderr.count(b"\n") == 1, ended.stderr
    check_left(command, tmp_path, killed=False)


@pytest.mark.campaign
@pytest.mark.parametrize("command", ["run", "merge", "export"])
def test_of_two_writers_of_one_file_one_succeeds(command: str, given: Path, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            words_of(command, given),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=DEADLINE)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 2], said
    assert any(b"exists" in line for line in said)
    check_left(command, tmp_path, killed=False)


@pytest.mark.campaign
def test_a_reader_during_a_run_sees_all_or_a_refusal(given: Path, tmp_path: Path) -> None:
    words = [PYTHON, "-m", "sweep", "run", str(given / "my.yaml"), "-o", "out", "--shards", "6"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    refused = 0
    while process.poll() is None:
        try:
            with sweep.open_results(tmp_path / "out") as found:
                found.compute()
        except sweep.ResultError as error:
            refused += 1
            assert "\n" not in str(error)
        time.sleep(0.05)
    assert process.returncode == 0 and refused
    with sweep.open_results(tmp_path / "out") as found, sweep.open_results(given / "out") as other:
        assert found.compute().equals(other.compute())


# What the environment may have broken.


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    return bytes(changed)


def zeros(content: bytes, chance: random.Random) -> bytes:
    del chance
    return bytes(len(content))


def another(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(len(content))


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", [cut, flipped, zeros, another])
def test_a_damaged_compilation_cache_changes_no_answer(
    damage: Any, seed: int, given: Path, tmp_path: Path
) -> None:
    """A kernel that cannot be read from the cache is compiled again."""
    cache, chance = tmp_path / "cache", random.Random(seed)
    kept = {"JAX_ENABLE_COMPILATION_CACHE": "true", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment = {**os.environ, **kept}
    words = [*words_of("run", given), "--force"]
    for _ in range(2):
        ended = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=DEADLINE
        )
        assert ended.returncode == 0 and b"Traceback" not in ended.stderr, ended.stderr
        with (
            sweep.open_results(tmp_path / "x.nc") as found,
            sweep.open_results(given / "out.nc") as o,
        ):
            assert found.compute().equals(o.compute())
        kernels = [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size]
        assert kernels
        for kernel in kernels:
            kernel.write_bytes(damage(kernel.read_bytes(), chance))


HOMES = ("/proc", "/sys", "/dev/null")
"""Homes in which nobody can write, not even an administrator."""


@pytest.mark.campaign
@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("command", [*COMMANDS, "compare", "report", "recommend"])
def test_a_home_that_cannot_be_written_to(
    home: str, command: str, given: Path, tmp_path: Path
) -> None:
    pair, lengths = ["--hardware", "h20-96gb,l20"], ["--isl", "128", "--osl", "10"]
    more = {
        "compare": ["compare", str(given / "out.nc"), *pair, "--variable", "ttft", "-o", "x.png"],
        "report": ["report", str(given / "out.nc"), "-o", "x.html"],
        "recommend": ["recommend", "--from", str(given / "out.nc"), *lengths],
    }
    words = [PYTHON, "-m", "sweep", *more[command]] if command in more else words_of(command, given)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "JAX_", "MPL"))}
    ended = subprocess.run(
        words,
        cwd=tmp_path,
        env={**kept, "HOME": home},
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert ended.returncode == 0 and b"Traceback" not in ended.stderr, ended.stderr
    if command in COMMANDS:
        check_left(command, tmp_path, killed=False)


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["plan.json", "shard-000000.nc", "shard-000005.nc"])
def test_a_link_in_a_folder_of_shards_is_not_written_through(
    name: str, given: Path, tmp_path: Path
) -> None:
    """A run that resumes replaces the link or refuses the folder; the other file stays."""
    victim, folder = tmp_path / "thesis.tex", tmp_path / "out"
    words = [PYTHON, "-m", "sweep", "run", str(given / "my.yaml"), "-o", "out", "--shards", "6"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    victim.write_text("mine")
    (folder / name).unlink()
    (folder / name).symlink_to(victim)
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=DEADLINE)
    assert ended.returncode in (0, 2) and b"Traceback" not in ended.stderr, ended.stderr
    assert victim.read_text() == "mine"
    if ended.returncode == 0:
        with sweep.open_results(folder) as found, sweep.open_results(given / "out") as other:
            assert found.compute().equals(other.compute())


@pytest.mark.campaign
@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "..", ".", "a/b", "\u202e", "-o"]
)
def test_names_with_paths_are_labels_only(name: str, given: Path, tmp_path: Path) -> None:
    """Nothing is read or written where the name of an accelerator or model points to."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    text = (given / "my.yaml").read_text()
    machine = f"{{base: l20, name: {json.dumps(name)}}}"
    (inside / "my.yaml").write_text(text.replace("l20]", f"{machine}]"))
    allowed = {"my.yaml", "x.nc", "x.html", "x.csv", "out"}
    for words in (
        ["run", "my.yaml", "-o", "x.nc"],
        ["run", "my.yaml", "-o", "out", "--shards", "2"],
        ["report", "x.nc", "-o", "x.html"],
        ["export", "x.nc", "x.csv"],
        ["recommend", "--from", "x.nc", "--emit", "vllm"],
    ):
        ended = subprocess.run(
            [PYTHON, "-m", "sweep", *words],
            cwd=inside,
            capture_output=True,
            check=False,
            timeout=DEADLINE,
        )
        assert ended.returncode in (0, 2) and b"Traceback" not in ended.stderr, ended.stderr
        assert "\u202e" not in (ended.stdout + ended.stderr).decode()
    assert {path.name for path in inside.iterdir()} <= allowed
    assert list(inside.parent.iterdir()) == [inside] and set(tmp_path.iterdir()) == {inside.parent}
    shutil.rmtree(inside)
