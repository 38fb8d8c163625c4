"""The figures of a 2024 article on choosing accelerators by rooflines: what goes into them.

The article compares accelerators by two methods, a global roofline of the decode and the rooflines
of all operators, and holds the second against measurements. `docs/article.md` sets its findings
beside ours. How the figures are drawn stands in `article_plots`.
"""

from collections.abc import Sequence

from sweep.article.published import ComparedRow, PublishedTable, compare_published
from sweep.decisions.compare import METHODS, Comparison, compare
from sweep.runs.run import load_grid, run
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.shipped import shipped_configs

ROOFS = ("a100-sxm-80gb", "h20-96gb", "a800-sxm-80gb", "l40s", "l20", "rtx-4090")
"""Accelerators whose rooflines the article draws."""
PAIR = ("a100-sxm-80gb", "h20-96gb")
"""Accelerators of its meshes."""
MESH_SWEEP = "a100-vs-h20"
"""The sweep with the batches, context lengths and models of its meshes."""
TABLE = "trtllm-article-table"


def roofs(catalog: Catalog) -> list[HardwareSpec]:
    """The accelerators of the rooflines.

    Raises:
        SpecError: One of the catalog is malformed.
    """
    return [catalog.hardware(name) for name in ROOFS]


def meshes(catalog: Catalog, models: Sequence[str] = ()) -> list[list[Comparison]]:
    """A100 against H20 on each model, by both methods.

    Args:
        catalog: Where to look names up.
        models: Names or paths in place of the article's four models.

    Returns:
        A row per model, in it the operator roofline and the global one.

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
    """The published throughputs of TensorRT-LLM, with other estimates and ours.

    Raises:
        SpecError: The table, its sweep or its calibration is malformed.
    """
    return compare_published(TABLE, catalog)
