"""Directives that list the accelerators, models, precisions, sweeps and calibrations shipped."""

from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from sweep.cli import catalog_tables
from sweep.specs.catalog import Catalog
from sweep.specs.shipped import shipped_configs

LISTS = {
    "hardware": catalog_tables.hardware_rows,
    "models": catalog_tables.model_rows,
    "precisions": catalog_tables.precision_rows,
    "sweeps": catalog_tables.sweep_rows,
    "calibrations": catalog_tables.calibration_rows,
}


class CatalogList(SphinxDirective):
    """Table of one kind of entry."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table as part of the page."""
        return self.parse_text_to_nodes(markdown(self.arguments[0]))


def shipped_catalog() -> Catalog:
    """The catalog without folders of the user."""
    catalog = Catalog()
    catalog.folders = (shipped_configs(),)
    return catalog


def markdown(kind: str) -> str:
    """Table in Markdown."""
    rows = catalog_tables.for_people(LISTS[kind](shipped_catalog()))
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*map(_cell, row.items())] for row in rows)]
    return "\n".join(_line(line) for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(item: tuple[str, Any]) -> str:
    key, value = item
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"`{value}`" if key == "name" else str(value).replace("|", "\\|")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive with Sphinx."""
    app.add_directive("catalog-list", CatalogList)
    return {"parallel_read_safe": True}
