"""What is built holds what the tree holds, and every way to install finds the shipped configs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROBE = (
    "import sweep; from sweep.specs.shipped import shipped_configs;"
    "print(sweep.hardware('h20-96gb').name, sweep.model('llama-2-7b').name, shipped_configs())"
)


def tree_files() -> set[str]:
    """Files that belong in a wheel, under the names they have there."""
    sources = {"sweep": "sweep", "calibration": "calibration", "configs": "sweep/_configs"}
    return {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in sources.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a source distribution built from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_tree_and_nothing_else(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == tree_files()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_unpacked_wheel_finds_its_own_configs(wheel, tmp_path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    found = probe(tmp_path / "site", tmp_path)
    assert found == f"h20-96gb llama-2-7b {tmp_path / 'site' / 'sweep' / '_configs'}"


def test_a_clone_finds_the_configs_beside_the_package(tmp_path) -> None:
    assert probe(ROOT, tmp_path) == f"h20-96gb llama-2-7b {ROOT / 'configs'}"


def test_the_build_leaves_no_workplace_files(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "configs/"))]


def probe(path: Path, folder: Path) -> str:
    """What the package at `path` finds, run from another folder."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment,
    )
    return run.stdout.strip()
