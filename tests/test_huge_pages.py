"""Huge pages: the tunable is asked for where it helps, and a command restarts itself once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.runs import huge_pages
from sweep.runs.huge_pages import RESTARTED, VARIABLE, restart_with_huge_pages, tunables

ROOT = Path(__file__).parent.parent


@pytest.fixture
def helpful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the tunable helps."""
    monkeypatch.setattr(huge_pages, "_linux_waits_to_be_asked", lambda: True)
    monkeypatch.setattr(huge_pages, "_library_has_tunable", lambda: True)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({VARIABLE: ""}, "glibc.malloc.hugetlb=1"),
        ({VARIABLE: "glibc.malloc.check=1"}, "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ({VARIABLE: "glibc.malloc.hugetlb=0"}, None),
        ({VARIABLE: "glibc.malloc.check=1:glibc.malloc.hugetlb=2"}, None),
    ],
)
def test_the_tunable_joins_those_of_the_user(helpful: None, given, wanted) -> None:
    assert tunables(given) == wanted


@pytest.mark.parametrize("name", ["_linux_waits_to_be_asked", "_library_has_tunable"])
def test_nothing_is_asked_for_where_it_does_not_help(helpful: None, monkeypatch, name) -> None:
    monkeypatch.setattr(huge_pages, name, lambda: False)
    assert tunables({}) is None


@pytest.mark.parametrize(
    ("content", "platform", "waits"),
    [
        ("always [madvise] never", "linux", True),
        ("[always] madvise never", "linux", False),
        ("always madvise [never]", "linux", False),
        (None, "linux", False),
        ("always [madvise] never", "darwin", False),
    ],
)
def test_the_setting_of_linux(monkeypatch, tmp_path, content, platform, waits) -> None:
    setting = tmp_path / "enabled"
    if content:
        setting.write_text(content)
    monkeypatch.setattr(huge_pages, "SETTING_OF_LINUX", setting)
    monkeypatch.setattr(sys, "platform", platform)
    assert huge_pages._linux_waits_to_be_asked() == waits


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("glibc 2.36", True),
        ("glibc 2.35", True),
        ("glibc 2.34", False),
        ("glibc 3.0", True),
        ("musl 2.40", False),
        (None, False),
        (ValueError("unrecognized configuration name"), False),
    ],
)
def test_the_version_of_the_library(monkeypatch, version, has) -> None:
    def confstr(name: str) -> str | None:
        if isinstance(version, Exception):
            raise version
        return version

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    assert huge_pages._library_has_tunable() == has


def restarts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], dict[str, str]]]:
    made: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: made.append(given))
    restart_with_huge_pages()
    return made


def test_a_restart_keeps_the_command_line_and_never_loops(helpful: None, monkeypatch) -> None:
    words = ["python", "-X", "dev", "-m", "sweep", "run", "a file"]
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(RESTARTED, raising=False)
    ((executable, given, environment),) = restarts(monkeypatch)
    assert (executable, given) == (sys.executable, words)
    assert environment[VARIABLE] == "glibc.malloc.hugetlb=1"
    kept = {name: value for name, value in environment.items() if name not in (VARIABLE, RESTARTED)}
    assert kept == {name: value for name, value in os.environ.items() if name in kept}
    # Something between removes the tunable: the process is known to have restarted.
    monkeypatch.setenv(RESTARTED, environment[RESTARTED])
    assert restarts(monkeypatch) == []
    # A child of that process is another one.
    monkeypatch.setenv(RESTARTED, "1")
    assert len(restarts(monkeypatch)) == 1
    monkeypatch.setenv(VARIABLE, "glibc.malloc.hugetlb=0")
    assert restarts(monkeypatch) == []


def test_a_command_goes_on_where_it_cannot_restart(helpful: None, monkeypatch) -> None:
    def refuse(*given: object) -> None:
        raise PermissionError

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(os, "execve", refuse)
    restart_with_huge_pages()


SHOW = """
import json, os, sys
from sweep.cli import main
main.main = lambda: print(json.dumps([sys.argv[1:], os.environ.get("GLIBC_TUNABLES", "")]))
from sweep.__main__ import command
command()
"""


@pytest.mark.skipif(huge_pages.tunables({}) is None, reason="The tunable does not help here.")
@pytest.mark.parametrize("tunable", ["", "glibc.malloc.check=0", "glibc.malloc.hugetlb=0"])
def test_a_process_has_the_tunable_and_its_own_words(tunable: str, tmp_path) -> None:
    script = tmp_path / "a script.py"
    script.write_text(SHOW)
    environment = {k: v for k, v in os.environ.items() if k not in (VARIABLE, RESTARTED)}
    environment |= {"PYTHONPATH": str(ROOT)} | ({VARIABLE: tunable} if tunable else {})
    words = ["run", "two words", "--flag=*", ""]
    said = subprocess.run(
        [sys.executable, "-W", "error", str(script), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found, has = json.loads(said.stdout)
    assert found == words
    wanted = tunables({VARIABLE: tunable}) if tunable else "glibc.malloc.hugetlb=1"
    assert has == (wanted or tunable)


@pytest.mark.parametrize("package", ["sweep", "calibration"])
def test_python_m_runs_the_command(package: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", package, "--version"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith({"sweep": "llm-sweep", "calibration": "llm-calibrate"}[package])
