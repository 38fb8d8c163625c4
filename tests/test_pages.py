"""What README and docs show runs: each page from top to bottom, in a folder of its own."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import click
import jax
import pages
import pytest

import sweep
from sweep.schema.axes import AXES, LONGEST
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import default_catalog

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
    for name in pages.OF_A_SHELL:
        monkeypatch.delenv(name, raising=False)
    # Names are looked up in the files, not in what an earlier test has left in memory.
    default_catalog.cache_clear()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page: Path, folder: Path) -> None:
    # As a user runs it, without the stricter arrays of the other tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        pages.run_page(page)
    assert Path.cwd() == folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    files = [name for name in targets if not name.startswith(("https://", "auto_gallery/"))]
    assert {name for name in files if not (page.parent / name).exists()} == set()


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("sh\nllm-sweep list hardwares", "hardwares"),
        ("sh\nllm-sweep run long-context --workerz 2", "--workerz"),
        ("sh\nllm-sweep run long-context -o x.nc --scheduler a --shards b", "'b'"),
        ("sh\nllm-sweep show hardware h21", "h21"),
        ("sh\nrm -r x", "rm -r x"),
        ("sh\npip install x; rm -r x", "unknown operator"),
        ("python\n1 / 0", "division"),
        ("yaml\nmodels: [llama-2-7b]\nhardware: [h21]\nvariables: [ttft]", "h21"),
        ("yaml\npeak_flops_per_s: {fp16: 1}\nmemory_bytes: 1", "memory_bandwidth_bytes_per_s"),
        ("ruby\nputs 1", "ruby"),
        ("\nplain", "no language"),
    ],
)
def test_a_wrong_block_fails(block: str, told: str, folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(f"# Page\n\n```{block}\n```\n", encoding="utf-8")
    with pytest.raises(BaseException) as failure:
        pages.run_page(page)
    assert told in "\n".join([str(failure.value), *getattr(failure.value, "__notes__", [])])


@pytest.mark.parametrize(("shown", "right"), [("1 … 3", True), ("1\n2 3", True), ("1 3", False)])
def test_an_output_is_what_was_printed(shown: str, right: bool, folder: Path) -> None:
    page = folder / "page.md"
    text = f"```python\nprint('1 2', 3)\n```\n\n```output\n{shown}\n```\n"
    page.write_text(text, encoding="utf-8")
    if right:
        assert pages.run_page(page) == 2
        return
    with pytest.raises(AssertionError):
        pages.run_page(page)


@pytest.fixture
def narrow_shell(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")


def test_a_page_prints_the_same_in_any_shell(narrow_shell, folder: Path) -> None:
    page, row = folder / "page.md", {"one": "a" * 24, "two": "b" * 24}
    text = "from sweep.cli.print_tables import print_table"
    text = f"```python\n{text}\nprint_table([{row}])\n```\n\n"
    page.write_text(f"{text}```output\none two … {row['one']} {row['two']}\n```\n", "utf-8")
    assert pages.run_page(page) == 2


def test_the_glossary_has_every_axis() -> None:
    terms = re.findall(r"^(\w+)\n  \w", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert {axis for axis in AXES if axis not in terms} == set()


def test_the_list_of_variables_tells_all_of_each(monkeypatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "extensions")
    entries = pytest.importorskip("variable_list").markdown().split("\n\n")
    for entry, (name, variable) in zip(entries, VARIABLES.items(), strict=True):
        assert entry.startswith(f"`{name}` [{variable.units}]\n: ")
        assert variable.long_name[1:] in entry
        assert all(f"`{dim}`" in entry for dim in variable.dims if dim != LONGEST)


@pytest.mark.parametrize(
    "kind",
    ["hardware", pytest.param("models", marks=pytest.mark.slow), "precisions", "sweeps"],
)
def test_the_catalog_page_lists_every_shipped_entry(kind: str, monkeypatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "extensions")
    lists = pytest.importorskip("catalog_lists")
    table = lists.markdown(kind).splitlines()
    shipped = {path.stem for path in (ROOT / "configs" / kind).glob("*.yaml")}
    assert {line.split("`")[1] for line in table[2:]} == shipped
    assert len({line.count("|") for line in table}) == 1
    assert f"{{catalog-list}} {kind}" in (DOCS / "catalog.md").read_text("utf-8")


def test_the_command_reference_is_made_from_the_commands() -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    targets = re.findall(r"^```\{click\} (\S+):(\S+)$", page, re.MULTILINE)
    assert len(targets) == 2
    assert all(isinstance(getattr(import_module(m), name), click.Group) for m, name in targets)


def test_every_public_name_is_documented() -> None:
    told = re.findall(r"^\.\. \S+:: sweep\.(\w+)$", (DOCS / "api.md").read_text("utf-8"), re.M)
    assert set(sweep.__all__) <= set(told)


def test_every_page_has_its_place() -> None:
    listed = (DOCS / "index.md").read_text("utf-8")
    pages_of = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    assert {name for name in pages_of if f"\n{name}\n" not in listed} == set()


def test_pages_followed_in_one_folder_write_different_files() -> None:
    written: dict[str, set[str]] = {}
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            found = re.match(r"llm-(sweep|calibrate) .*-o (\S+)", line)
            if found and "--force" not in line:
                written.setdefault(found[2], set()).add(page.name)
    assert len(written) > 20
    assert {name: on for name, on in written.items() if len(on) > 1} == {}
