"""The live page: the report's template and pictures, with controls that ask the server."""

from dataclasses import asdict
from importlib.resources import files
from typing import Any

from sweep.explore.view import MOST, Names, View
from sweep.files.optional import needed
from sweep.html_report.report import EXTRA, PICTURES, page_file, rendered, script_of

FIELDS = {
    "model": "model",
    "first": "accelerator",
    "second": "against",
    "precision": "precision",
    "calibration": "calibration",
    "serving": "serving",
    "load": "requests at once",
    "isl": "input tokens",
    "osl": "output tokens",
    "tp": "tensor parallel",
    "pp": "pipeline stages",
    "ep": "expert parallel",
    "dp_attention": "attention groups",
}
"""Fields of a view in the order of the page, with their titles."""
SLIDERS = {"load": (1, 1024), "isl": (16, 131_072), "osl": (1, 8192)}
"""Ends of the sliders; the box beside each takes any number up to `MOST`."""
CHOICES = {
    "serving": {"server": "server, in-flight batching", "batch": "static batches"},
    "calibration": {"ideal": "none: bounds of the hardware"},
}
"""Titles of names that are no names of specifications."""


def live_page(names: Names, default: View) -> str:
    """The page as HTML.

    Args:
        names: Names to choose from.
        default: The view of an address without a query.
    """
    return rendered(
        live=True, title="llm-sweep explore", style=_style(), options=options(names, default)
    )


def options(names: Names, default: View) -> dict[str, Any]:
    """Controls of the page, as JSON."""
    view = asdict(default)
    controls = []
    for field, title in FIELDS.items():
        one: dict[str, Any] = {"field": field, "title": title, "value": view[field]}
        if field in MOST:
            one |= {"most": MOST[field], "slider": SLIDERS.get(field)}
        else:
            titles = CHOICES.get(field, {})
            one["choices"] = [[name, titles.get(name, name)] for name in names.of(field)]
        controls.append(one)
    return {"controls": controls}


def live_script() -> str:
    """Scripts of the page but Plotly."""
    own = files("sweep.explore").joinpath("web", "live.js").read_text(encoding="utf-8")
    return f"{script_of(*PICTURES)}\n{own}"


def plotly_script() -> str:
    """Plotly, as its package has it.

    Raises:
        ResultError: It is not installed.
    """
    script: str = needed("plotly.offline", EXTRA).get_plotlyjs()
    return script


def _style() -> Any:
    own = files("sweep.explore").joinpath("web", "live.css").read_text(encoding="utf-8")
    return needed("jinja2", EXTRA).utils.markupsafe.Markup(page_file("page.css") + own)
