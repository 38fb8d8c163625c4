"""Per-operator rooflines of LLM inference over large grids.

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.article.figures import article_meshes as article_meshes
    from sweep.article.figures import article_rooflines as article_rooflines
    from sweep.article.figures import article_table as article_table
    from sweep.decisions.questions import compare as compare
    from sweep.decisions.questions import explain as explain
    from sweep.decisions.questions import recommend as recommend
    from sweep.engines.calibration_file import Calibration as Calibration
    from sweep.engines.calibration_file import FittedEfficiency as FittedEfficiency
    from sweep.engines.calibration_file import load_calibration as load_calibration
    from sweep.engines.calibration_file import load_efficiency as load_efficiency
    from sweep.errors import GridError as GridError
    from sweep.errors import ResultError as ResultError
    from sweep.errors import SpecError as SpecError
    from sweep.errors import SweepError as SweepError
    from sweep.files.categories import labels as labels
    from sweep.files.netcdf import write_netcdf as write_netcdf
    from sweep.grid.grid import Grid as Grid
    from sweep.html_report.report import report as report
    from sweep.queries.reduction_request import reduce as reduce
    from sweep.runs.open_results import open_results as open_results
    from sweep.runs.run import load_grid as load_grid
    from sweep.runs.run import run as run
    from sweep.schema.variables import VARIABLES as VARIABLES
    from sweep.specs.catalog import Catalog as Catalog
    from sweep.specs.catalog import hardware as hardware
    from sweep.specs.catalog import model as model
    from sweep.specs.hardware import HardwareSpec as HardwareSpec
    from sweep.specs.model import ModelSpec as ModelSpec
    from sweep.specs.precision import PrecisionSpec as PrecisionSpec

_HOMES = {
    "article.figures": ("article_meshes", "article_rooflines", "article_table"),
    "decisions.questions": ("compare", "explain", "recommend"),
    "engines.calibration_file": (
        "Calibration",
        "FittedEfficiency",
        "load_calibration",
        "load_efficiency",
    ),
    "errors": ("GridError", "ResultError", "SpecError", "SweepError"),
    "files.categories": ("labels",),
    "files.netcdf": ("write_netcdf",),
    "grid.grid": ("Grid",),
    "html_report.report": ("report",),
    "queries.reduction_request": ("reduce",),
    "runs.open_results": ("open_results",),
    "runs.run": ("load_grid", "run"),
    "schema.variables": ("VARIABLES",),
    "specs.catalog": ("Catalog", "hardware", "model"),
    "specs.hardware": ("HardwareSpec",),
    "specs.model": ("ModelSpec",),
    "specs.precision": ("PrecisionSpec",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    return getattr(import_module(f"sweep.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
