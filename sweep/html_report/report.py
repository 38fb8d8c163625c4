"""Write a result as one HTML page that opens without a network."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr

from sweep.files.atomic import check_writable, replacing
from sweep.files.optional import needed
from sweep.html_report.calibration_quality import calibration_of, quality_of
from sweep.html_report.contents import contents
from sweep.html_report.packed_arrays import compressed
from sweep.specs.catalog import Catalog, current_catalog

PICTURES = (
    *("figures", "words", "theme", "labels", "map", "memory", "roofline", "layers", "front"),
    *("quality", "main"),
)
"""Files of the script that every page has, in the order they run."""
EXTRA = "report"


def report(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    catalog: Catalog | None = None,
    calibration: str | Path | None = None,
    force: bool = False,
    efficiency: str | Path | None = None,
) -> None:
    """Write a result as one interactive HTML page, atomically.

    Args:
        dataset: A result of `run`.
        path: The HTML file.
        catalog: Where names in the result are looked up, to break its cells down by operator; the
            user's and the shipped configs by default.
        calibration: Name or file of the calibration that predicted the result; the name that the
            result records if not given. The NetCDF file of a fit adds its measurements.
        force: Whether an existing file may be replaced.
        efficiency: The former name of `calibration`.

    Raises:
        ResultError: The file exists or cannot be written, the result has nothing to show, the
            calibration is not that of the result, or Plotly is not installed.
        SpecError: The calibration is unknown or malformed.
    """
    path = Path(path)
    check_writable(path, force=force)
    text = html(dataset, catalog=catalog, calibration=calibration, efficiency=efficiency)
    with replacing(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def html(
    dataset: xr.Dataset,
    *,
    catalog: Catalog | None = None,
    calibration: str | Path | None = None,
    efficiency: str | Path | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """The page as text, at a `chosen` cell if one is given; for the rest see `report`."""
    plotly: str = needed("plotly.offline", EXTRA).get_plotlyjs()
    jinja2 = needed("jinja2", EXTRA)
    given = efficiency if calibration is None else calibration
    found, caution = calibration_of(dataset, given)
    data, figures = contents(
        dataset,
        catalog=catalog or current_catalog(),
        calibration=found,
        quality=None if found is None else quality_of(found, given),
        caution=caution,
        chosen=chosen,
    )
    script = script_of(*PICTURES, "report")
    return rendered(
        live=False,
        title=data["title"],
        data=data,
        figures=figures.text(),
        plotly=compressed(plotly.encode()),
        hashes=[_hash(script), _hash(plotly)],
        style=style(),
        script=jinja2.utils.markupsafe.Markup(script),
    )


def rendered(**names: Any) -> str:
    """The page's template, filled.

    Raises:
        ResultError: Jinja is not installed.
    """
    jinja2 = needed("jinja2", EXTRA)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    page: str = environment.from_string(page_file("page.html")).render(**names)
    return page


def style() -> Any:
    """The style sheet of a page, as markup."""
    return needed("jinja2", EXTRA).utils.markupsafe.Markup(page_file("page.css"))


def script_of(*names: str) -> str:
    """Files of the page's script, one after another."""
    return "\n".join(page_file(f"{name}.js") for name in names)


def page_file(name: str) -> str:
    """Text of a file of the page."""
    return files("sweep.html_report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Hash by which the content security policy allows a script; others do not run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
