"""What README and docs show runs: each page from top to bottom, in a folder of its own."""

import shutil
from pathlib import Path

import jax
import pages
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the example files, both as a clone has them and at hand."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    shutil.copytree(EXAMPLES, tmp_path / EXAMPLES.relative_to(ROOT))
    (tmp_path / "shared").mkdir()
    for name, value in pages.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page: Path, folder: Path) -> None:
    # As a user runs it: the stricter arrays of the other tests would reach users' own code.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        pages.run_page(page)
    assert Path.cwd() == folder
