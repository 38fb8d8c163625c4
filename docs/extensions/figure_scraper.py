"""Scraper of a gallery script's matplotlib figures, which our functions create without pyplot."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

RESOLUTION = 130
"""Resolution of a figure. [dots per inch]"""


def scrape(block: Any, block_vars: Mapping[str, Any], gallery_conf: Mapping[str, Any]) -> str:
    """Save each figure that a block of a script has named; return their reStructuredText."""
    del block
    paths = []
    for found in block_vars["example_globals"].values():
        if isinstance(found, Figure) and not hasattr(found, "in_gallery"):
            path = next(block_vars["image_path_iterator"])
            found.savefig(path, dpi=RESOLUTION)
            found.in_gallery = True
            paths.append(path)
    return str(figure_rst(paths, gallery_conf["src_dir"]))


def _get_sg_image_scraper() -> Any:
    """Return the scraper; sphinx-gallery looks this function up by name."""
    return scrape
