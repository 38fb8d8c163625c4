"""Pages for contributors: names and files in them exist, and what is stated twice agrees."""

import ast
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from minimum_versions import PYPROJECT, minimum_versions
from test_layers import BELOW, CALIBRATION_BELOW, everything_below

ROOT = Path(__file__).parent.parent
DEVELOPING = ROOT / "docs" / "developing.md"
PAGES = (DEVELOPING, ROOT / "CONTRIBUTING.md")
NAME = re.compile(r"`((?:sweep|calibration)(?:\.\w+)+)`")
"""A name of our code, in full, as in `sweep.kernel.request.Request`."""
FILE = re.compile(r"`([\w.-]*(?:/[\w.-]+)*(?:/|\.(?:cff|csv|md|py|toml|ya?ml)))`")
"""A folder that ends in a slash, or a file, seen from the top of the repository."""
SCRIPT = re.compile(r"`(\.ci/\w+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
"""Target of a link within the repository, seen from the page."""
NEW = "NAME"
"""Part of a path that stands for a file to be made."""
PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def found(page: Path, *patterns: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Every match of the patterns, with the page and line where it is."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        for pattern in patterns:
            for match in pattern.findall(line):
                yield f"{page.relative_to(ROOT)}:{number}", match


def missing(name: str) -> str | None:
    """The first part of a dotted name that does not exist, with similar names; `None` if all do."""
    parts = name.split(".")
    known: object = import_module(parts[0])
    for length, part in enumerate(parts[1:], start=2):
        so_far = ".".join(parts[:length])
        if hasattr(known, part):
            known = getattr(known, part)
        elif hasattr(known, "__path__") and find_spec(so_far):
            known = import_module(so_far)
        else:
            similar = get_close_matches(part, [*dir(known), *modules_in(known)], n=3, cutoff=0.5)
            return f"{so_far} does not exist; similar: {', '.join(similar) or 'nothing'}"
    return None


def modules_in(package: object) -> list[str]:
    folders = map(Path, getattr(package, "__path__", ()))
    return [path.stem for folder in folders for path in folder.iterdir()]


def exists(path: str) -> bool:
    """Whether a path exists; of a file to be made, whether its folder does."""
    target = ROOT / path
    return (target.parent if NEW in target.name else target).exists()


def house(top: str) -> list[list[str]]:
    """Packages on each line of the drawing of one top-level package, from the top down."""
    text = DEVELOPING.read_text(encoding="utf-8")
    drawing = re.search(rf"^Packages of `{top}`.*?^```text\n(.*?)^```", text, re.M | re.S)
    assert drawing, f"no drawing after the words 'Packages of `{top}`'"
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in drawing[1].splitlines()]
    return [line.split(" │ ") for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_on_a_page_exists(page: Path) -> None:
    names = list(found(page, NAME))
    wrong = [f"{where}: {problem}" for where, name in names if (problem := missing(name))]
    assert not wrong, "rename on the page:\n" + "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_on_a_page_exists(page: Path) -> None:
    links = [(where, (page.parent / link).resolve()) for where, link in found(page, LINK)]
    wrong = [f"{where}: {path}" for where, path in found(page, FILE, SCRIPT) if not exists(path)]
    wrong += [f"{where}: {path.relative_to(ROOT)}" for where, path in links if not path.exists()]
    assert not wrong, "no such file or folder:\n" + "\n".join(wrong)


def test_the_page_names_what_it_describes() -> None:
    assert len(list(found(DEVELOPING, NAME))) > 40
    assert len(list(found(DEVELOPING, FILE))) > 20


@pytest.mark.parametrize(("top", "below"), [("sweep", BELOW), ("calibration", CALIBRATION_BELOW)])
def test_the_drawn_order_is_that_of_the_layer_test(top: str, below: dict[str, str]) -> None:
    lines = house(top)
    drawn = [package for line in lines for package in line]
    assert sorted(drawn) == sorted(set(below) - {"__main__"})
    for number, line in enumerate(lines):
        lower = {package for further in lines[number + 1 :] for package in further}
        for package in line:
            above = everything_below(package, below) - lower
            assert not above, f"{top}: draw {package} above {', '.join(sorted(above))}"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sweep.kernel.request.Request.decode_step_latency", None),
        ("sweep.kernel.requests.Request", "sweep.kernel.requests does not exist; similar: request"),
        ("sweep.grid.axis_forms.expand", "sweep.grid.axis_forms.expand does not exist; similar: "),
    ],
)
def test_a_name_that_is_gone_is_reported_with_similar_ones(name: str, problem: str | None) -> None:
    reported = missing(name)
    assert reported == problem if problem is None else str(reported).startswith(problem)


def test_the_citation_agrees_with_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_version_is_written_in_one_place() -> None:
    stated = [
        path
        for top in ("sweep", "calibration", "docs")
        for path in (ROOT / top).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == PROJECT["version"]
    ]
    assert not stated, "take it from sweep.grid.dataset.package_version"


def test_workflows_run_every_supported_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    tested = workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"]
    prefix = "Programming Language :: Python :: "
    stated = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if prefix in line]
    assert tested == stated
    assert PROJECT["requires-python"] == f">={stated[0]}"


def test_every_dependency_declares_a_minimum() -> None:
    assert set(minimum_versions()) > {"click", "dask", "zarr", "pytest", "ruff"}
    build = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["build-system"]["requires"]
    assert build == [f"hatchling>={minimum_versions()['hatchling']}"]
