"""Imports point one way: a module uses what stands before it in this file, never after."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_types import MODULES

import sweep

PACKAGE = Path(sweep.__file__).parent
KERNEL = (
    ("errors", "judged"),
    ("variables",),
    ("operators.cost",),
    ("efficiency",),
    ("operators",),
    ("architecture",),
    ("params",),
    ("bindings.base",),
    ("bindings.pieces",),
    ("bindings",),
    ("transformer", "roofline"),
    ("global_roofline", "memory", "phases"),
    ("server",),
    ("request",),
    ("sensitivity",),
)
"""From sizes to prices: pure functions of arrays."""
READING = (
    ("resources",),
    ("specs",),
    ("traits",),
    ("families",),
    ("catalog",),
    ("fitted",),
    ("facts",),
)
"""From files to specifications, and what they tell at once."""
RUNNING = (
    ("stacking", "pages", "pieces"),
    ("packing",),
    ("grid",),
    ("mapping", "dataset", "cutting", "cell"),
    ("intervals",),
    ("rounding",),
    ("space", "blocks"),
    ("selection", "assembly"),
    ("subset", "outcome", "fronts"),
    ("best", "pareto", "quantile"),
    ("reduction",),
    ("asking",),
    ("plan", "netcdf", "compilation"),
    ("evaluation", "shards", "record"),
    ("directory",),
    ("opening",),
    ("execution",),
    ("extras", "storage"),
    ("netcdf_stream", "zarr_store", "tables"),
    ("export",),
    ("cluster", "probe", "comparison", "checking", "published"),
    ("article", "explanation", "prices"),
    ("candidates",),
    ("recommendation",),
    ("advice",),
    ("reporting",),
    ("plots", "listing", "progress", "launch"),
    ("article_plots", "decision_plots", "options"),
    ("running",),
    ("cli_article", "cli_decide", "cli_export"),
    ("cli",),
    ("__main__",),
)
"""From a grid to labelled results, files, pictures and a command."""
ORDER = (*KERNEL, *READING, *RUNNING)
ALLOWED_IN_KERNEL = {"jax", "equinox", "jaxtyping"}
READS_MODELS = {
    "judged",
    "variables",
    "efficiency",
    "transformer",
    "operators",
    "operators.cost",
    "architecture",
    "errors",
}
"""What reading a config may use of the kernel: the normal form and its weights."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, inside functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in whole if name.removeprefix("sweep.") in SOURCES}
            found |= inner or {str(node.module)}
    return found


def own(path: Path) -> set[str]:
    return {name.removeprefix("sweep.") for name in imports(path) if name.startswith("sweep.")}


def foreign(path: Path) -> set[str]:
    tops = {name.partition(".")[0] for name in imports(path)} - {"sweep"}
    return tops - set(sys.stdlib_module_names)


def layer_of(module: str) -> tuple[int, str]:
    """Place in `ORDER`, by the module's own name or else its package's."""
    for name in (module, module.partition(".")[0]):
        for place, names in enumerate(ORDER):
            if name in names:
                return place, name
    raise AssertionError(f"sweep/{module} has no place in the order of {Path(__file__).name}")


MODULE = pytest.mark.parametrize("module", [name for name in SOURCES if name])


@MODULE
def test_a_module_imports_only_from_its_left(module: str) -> None:
    place, name = layer_of(module)
    for used in own(SOURCES[module]):
        before, of = layer_of(used)
        within_package = name == of and module.partition(".")[0] == used.partition(".")[0]
        assert before < place or within_package, f"sweep/{module} imports {used}"


def in_layers(layers: tuple[tuple[str, ...], ...], module: str) -> bool:
    return any(layer_of(module)[1] in names for names in layers)


@pytest.mark.parametrize("module", [name for name in SOURCES if name and in_layers(KERNEL, name)])
def test_the_kernel_imports_only_arrays_and_itself(module: str) -> None:
    allowed = ALLOWED_IN_KERNEL | ({"numpy"} if module == "params" else set())
    assert foreign(SOURCES[module]) <= allowed
    assert all(in_layers(KERNEL, used) for used in own(SOURCES[module]))


@pytest.mark.parametrize("module", [name for name in SOURCES if name and in_layers(READING, name)])
def test_reading_needs_no_more_of_the_kernel_than_the_normal_form(module: str) -> None:
    used = {layer_of(name)[1] for name in own(SOURCES[module]) if in_layers(KERNEL, name)}
    assert used <= READS_MODELS


@pytest.mark.parametrize("module", [n for n in SOURCES if n.startswith("operators.")])
def test_an_operator_knows_no_machine_and_no_model(module: str) -> None:
    assert own(SOURCES[module]) <= {"operators.cost"}


@pytest.mark.parametrize("module", [n for n in SOURCES if n.startswith("families.")])
def test_a_family_knows_only_the_normal_form(module: str) -> None:
    beyond = {used for used in own(SOURCES[module]) if not used.startswith("families.")}
    assert beyond <= {"architecture", "errors"}


def test_families_do_not_import_one_another_in_a_circle() -> None:
    left = {name: own(SOURCES[name]) for name in SOURCES if name.startswith("families.")}
    while left:
        free = {name for name, used in left.items() if not used & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {name: used for name, used in left.items() if name not in free}


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("matplotlib", {"plots", "article_plots", "decision_plots"}),
        ("click", {"cli", "cli_article", "cli_decide", "cli_export", "launch", "options"}),
        ("yaml", {"catalog"}),
        ("psutil", {"execution"}),
        ("filelock", {"directory"}),
        ("dask", {"opening", "cluster"}),
        ("plotly", set()),
        ("jinja2", set()),
        ("distributed", {"cluster"}),
    ],
)
def test_a_heavy_package_has_one_home(package: str, homes: set[str]) -> None:
    users = {name for name, path in SOURCES.items() if package in foreign(path)}
    assert users <= homes


def test_types_are_checked_in_every_module_of_the_kernel() -> None:
    kernel = {name.partition(".")[0] for names in KERNEL for name in names} - {"errors"}
    assert {f"sweep.{name}" for name in kernel} <= set(MODULES)


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
    assert all(getattr(sweep, name).__module__.startswith("sweep.") for name in functions())
    with pytest.raises(AttributeError, match="'sweep' has no attribute 'nothing'"):
        _ = sweep.nothing


def functions() -> list[str]:
    return [name for name in sweep.__all__ if name != "VARIABLES"]


def test_no_name_of_the_package_hides_a_module() -> None:
    assert not set(sweep.__all__) & {name for name in SOURCES if name}


CALIBRATION = (
    ("keys", "naming"),
    ("reports",),
    ("tools",),
    ("measurements",),
    ("observations", "parameters", "selection", "settings"),
    ("forward",),
    ("solver",),
    ("dataset", "judgement"),
    ("spreads",),
    ("coverage",),
    ("predictions", "validation"),
    ("accuracy",),
    ("result", "plots"),
    ("cli",),
    ("__main__",),
)
"""The same for the package beside it, which imports this one and is not imported by it."""


def test_calibration_builds_on_the_sweep_and_not_the_other_way() -> None:
    assert not {
        name for path in SOURCES.values() for name in imports(path) if "calibration" in name
    }


def test_calibration_imports_one_way() -> None:
    rank = {name: place for place, layer in enumerate(CALIBRATION) for name in layer}
    folder = PACKAGE.parent / "calibration"
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    assert set(files) == set(rank)
    for name, path in files.items():
        used = {n.split(".")[1] for n in imports(path) if n.startswith("calibration.")}
        assert all(rank[other] < rank[name] for other in used), (name, used)
