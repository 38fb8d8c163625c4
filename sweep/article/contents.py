"""Data of the figures of a 2024 article on choosing accelerators by rooflines.

The article compares accelerators by two methods, a global roofline of the decode and the rooflines
of all operators, and checks the second against measurements. `docs/article.md` compares its
findings with ours. `figures.py` draws.
"""

from collections.abc import Sequence

from sweep.article.published import ComparedRow, PublishedTable, compare_published
from sweep.decisions.compare import METHODS, compare
from sweep.decisions.comparison import Comparison
from sweep.runs.run import load_grid, run
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.shipped import shipped_configs

ROOFS = ("a100-sxm-80gb", "h20-96gb", "a800-sxm-80gb", "l40s", "l20", "rtx-4090")
"""Accelerators in the article's roofline figure."""
PAIR = ("a100-sxm-80gb", "h20-96gb")
"""Accelerators in its maps."""
MESH_SWEEP = "a100-vs-h20"
"""Name of the sweep with the batch sizes, context lengths and models of its maps."""
TABLE = "trtllm-article-table"
"""Name of the published throughputs in `configs/measurements/`."""


def roofs(catalog: Catalog) -> list[HardwareSpec]:
    """Accelerators of the roofline figure.

    Raises:
        SpecError: A specification in the catalog is malformed.
    """
    return [catalog.hardware(name) for name in ROOFS]


def meshes(catalog: Catalog, models: Sequence[str] = ()) -> list[list[Comparison]]:
    """Compare A100 with H20 on each model, by both methods.

    Args:
        catalog: Where to look names up.
        models: Names or paths; the article's four models if not given.

    Returns:
        A row per model: by the operator roofline and by the global roofline.

    Raises:
        SpecError: A model is unknown, or a file of the catalog is malformed.
    """
    grid = load_grid(shipped_configs() / "sweeps" / f"{MESH_SWEEP}.yaml")
    wanted = {"models": list(models) or grid.models, "variables": [*METHODS, "feasible"]}
    dataset = run(grid.model_copy(update=wanted), catalog=catalog)
    return [
        [compare(dataset, PAIR, model=name, variable=method, chosen={}) for method in METHODS]
        for name in dataset["model"].values.tolist()
    ]


def table(catalog: Catalog) -> tuple[PublishedTable, list[ComparedRow]]:
    """Published throughputs of TensorRT-LLM, with the article's estimates and ours.

    Raises:
        SpecError: The table, its sweep or its calibration is malformed.
    """
    return compare_published(TABLE, catalog)
