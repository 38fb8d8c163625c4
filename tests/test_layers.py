"""Imports point one way: each package uses those below it, and no two modules use each other."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from runtime_types import MODULES as TYPE_CHECKED

import sweep
from sweep.runs.formulas import COMPUTING, REDUCING

ROOT = Path(str(sweep.__file__)).parents[1]
BELOW = {
    "errors": "",
    "schema": "errors",
    "specs": "schema",
    "kernel": "schema",
    "models": "kernel specs",
    "engines": "kernel specs",
    "grid": "models engines",
    "files": "grid",
    "queries": "files",
    "evaluation": "queries",
    "runs": "evaluation",
    "decisions": "runs",
    "article": "decisions",
    "html_report": "decisions",
    "explore": "html_report",
    "cli": "article explore",
    "__main__": "cli",
}
"""What each package of `sweep` imports at most: the packages named, and all that those import."""
CALIBRATION_BELOW = {
    "benchmark_reports": "",
    "measurements": "benchmark_reports",
    "fit": "measurements",
    "validation": "fit",
    "calibrate": "validation",
    "files": "calibrate",
    "figures": "",
    "cli": "files figures",
    "__main__": "cli",
}
"""The same inside `calibration`, whose packages import any of `sweep` but its command."""
MODULES_OF_THE_COMMAND = {
    *("sweep.cli.launch", "sweep.cli.options", "sweep.cli.parameters"),
    *("sweep.cli.print_tables", "sweep.cli.sections"),
}
"""Of the command of `sweep`, what the command of `calibration` shares."""
LONGEST_MODULE = 400
"""Lines of a module, but the table of variables. [count]"""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {
    module_name(path): path
    for package in ("sweep", "calibration")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, inside functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in whole if name in SOURCES} or {str(node.module)}
    return found


@cache
def imported() -> dict[str, set[str]]:
    """Imports of every module, read by the first test that needs them."""
    return {name: imports(path) for name, path in SOURCES.items()}


def package_of(module: str) -> str:
    """The package directly below the top level: `kernel` of `sweep.kernel.request`."""
    return module.split(".")[1]


def foreign(module: str) -> set[str]:
    tops = {name.partition(".")[0] for name in imported()[module]} - {"sweep", "calibration"}
    return tops - set(sys.stdlib_module_names)


def everything_below(package: str, below: dict[str, str]) -> set[str]:
    found = set(below[package].split())
    return found.union(*(everything_below(lower, below) for lower in found))


def modules(*packages: str) -> list[str]:
    """Modules of packages named in full, those of packages inside them too."""
    return [
        name
        for name in SOURCES
        if any(name == package or name.startswith(f"{package}.") for package in packages)
    ]


@pytest.mark.parametrize(("top", "below"), [("sweep", BELOW), ("calibration", CALIBRATION_BELOW)])
def test_every_folder_has_its_place(top: str, below: dict[str, str]) -> None:
    assert {package_of(name) for name in modules(top) if name != top} == set(below)


def test_the_top_level_holds_packages_only() -> None:
    files = {path.stem for path in (ROOT / "sweep").glob("*.py")}
    assert files == {"__init__", "__main__", "errors"}


def from_above(top: str, below: dict[str, str]) -> set[str]:
    """Imports between packages of `top` that the table does not allow."""
    allowed = {package: {package, *everything_below(package, below)} for package in below}
    return {
        f"{module} imports {used}"
        for module in modules(top)
        if module != top
        for used in imported()[module]
        if used.startswith(f"{top}.") and package_of(used) not in allowed[package_of(module)]
    }


def test_a_module_imports_only_from_below() -> None:
    assert not from_above("sweep", BELOW)


def test_calibration_imports_only_from_below() -> None:
    assert not from_above("calibration", CALIBRATION_BELOW)


def test_only_the_command_of_calibration_uses_the_command_of_the_sweep() -> None:
    used = {
        (package_of(module), name)
        for module in modules("calibration")
        if module != "calibration"
        for name in imported()[module]
        if name.startswith("sweep.cli")
    }
    assert used
    assert used <= {("cli", name) for name in MODULES_OF_THE_COMMAND}


def test_no_modules_import_one_another_in_a_circle() -> None:
    left = {name: used & set(SOURCES) for name, used in imported().items()}
    while left:
        free = {name for name, used in left.items() if not used & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {name: used for name, used in left.items() if name not in free}


def test_the_sweep_does_not_know_of_calibration() -> None:
    tops = {used.split(".")[0] for name in modules("sweep") for used in imported()[name]}
    assert "calibration" not in tops


def test_the_kernel_imports_only_arrays_and_the_schema() -> None:
    used = {(module, name) for module in modules("sweep.kernel") for name in foreign(module)}
    others = {(module, name) for module, name in used if name not in ("jax", "jaxtyping")}
    assert others == {("sweep.kernel.params", "numpy")}


def own_imports(package: str) -> set[tuple[str, str]]:
    """Modules of a package, and the modules of `sweep` that each of them imports."""
    return {
        (module, name)
        for module in modules(package)
        for name in imported()[module]
        if name.startswith("sweep.")
    }


def test_an_operator_knows_no_machine_and_no_model() -> None:
    shared = {f"sweep.kernel.operators.{name}" for name in ("cost", "any_of")}
    used = own_imports("sweep.kernel.operators")
    assert {pair for pair in used if pair[1] not in shared} == set()


def test_a_family_knows_only_blocks() -> None:
    used = own_imports("sweep.models.families")
    others = {pair for pair in used if package_of(pair[1]) != "models"}
    assert {pair for pair in others if pair[1] != "sweep.kernel.block"} == set()


def test_a_module_is_short() -> None:
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in SOURCES.items()
    }
    longer = {name: count for name, count in lines.items() if count > LONGEST_MODULE}
    assert set(longer) <= {"sweep.schema.variables"}, longer


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("matplotlib", ("sweep.article.figures", "sweep.decisions.figures", "calibration.figures")),
        ("click", ("sweep.cli", "calibration.cli")),
        ("yaml", ("sweep.specs.files", "calibration.files")),
        ("psutil", ("sweep.runs.limits",)),
        ("filelock", ("sweep.runs.run_folder",)),
        ("dask", ("sweep.runs.open_results", "sweep.runs.on_dask")),
        ("distributed", ("sweep.runs.on_dask",)),
        ("plotly", ()),
        ("jinja2", ()),
        ("starlette", ("sweep.explore.server",)),
        ("uvicorn", ("sweep.explore.server",)),
    ],
)
def test_a_heavy_package_has_one_home(package: str, homes: tuple[str, ...]) -> None:
    users = {name for name in SOURCES if package in foreign(name)}
    assert users <= set(modules(*homes))


def test_what_runs_inside_the_kernel_is_type_checked() -> None:
    assert {"sweep.schema", "sweep.kernel", "sweep.models"} == set(TYPE_CHECKED)


def test_lists_of_packages_name_folders() -> None:
    assert {*COMPUTING, *REDUCING} <= set(BELOW)
    uncounted = everything_below("evaluation", BELOW) - {*COMPUTING, *REDUCING}
    assert uncounted == {"errors", "files"}, "results follow from every other package below"


def test_importing_the_package_loads_nothing_heavy() -> None:
    probe = (
        "import sys, sweep; dir(sweep); "
        "print(*{'jax', 'numpy', 'xarray', 'pydantic', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_every_public_name_has_its_home() -> None:
    functions = [name for name in sweep.__all__ if name != "VARIABLES"]
    assert all(getattr(sweep, name).__module__.startswith("sweep.") for name in functions)
    with pytest.raises(AttributeError, match="'sweep' has no attribute 'nothing'"):
        _ = sweep.nothing


def test_no_public_name_hides_a_package() -> None:
    assert not set(sweep.__all__) & set(BELOW)
