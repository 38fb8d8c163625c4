"""Configuration of the documentation site, built by `sphinx-build -W -b html docs docs/_build`."""

import sys
from pathlib import Path

from sweep.grid.dataset import package_version

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "llm-sweep"
version = release = package_version()
html_title = f"{project} {version}"
html_show_copyright = False
html_math_renderer = "mathml"

extensions = [
    "catalog_lists",
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
    "variable_list",
]
exclude_patterns = ["_build", "extensions", "gallery", "examples"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

# Single backticks in docstrings are code, the attributes of a class are one list, and docstrings of
# inherited methods are omitted.
default_role = "code"
napoleon_use_ivar = True
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "image_scrapers": ("figure_scraper",),
    "reset_modules": (),
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "copyfile_regex": r"",
}
