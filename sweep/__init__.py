"""Per-operator rooflines of LLM inference over large grids.

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.article_plots import article_meshes as article_meshes
    from sweep.article_plots import article_rooflines as article_rooflines
    from sweep.article_plots import article_table as article_table
    from sweep.asking import reduce as reduce
    from sweep.catalog import Catalog as Catalog
    from sweep.catalog import hardware as hardware
    from sweep.catalog import model as model
    from sweep.errors import GridError as GridError
    from sweep.errors import ResultError as ResultError
    from sweep.errors import SpecError as SpecError
    from sweep.errors import SweepError as SweepError
    from sweep.execution import load_grid as load_grid
    from sweep.execution import run as run
    from sweep.fitted import FittedEfficiency as FittedEfficiency
    from sweep.fitted import load_efficiency as load_efficiency
    from sweep.grid import Grid as Grid
    from sweep.netcdf import write_netcdf as write_netcdf
    from sweep.opening import open_results as open_results
    from sweep.outcome import labels as labels
    from sweep.reporting.making import report as report
    from sweep.specs import HardwareSpec as HardwareSpec
    from sweep.specs import ModelSpec as ModelSpec
    from sweep.specs import PrecisionSpec as PrecisionSpec
    from sweep.variables import VARIABLES as VARIABLES

_HOMES = {
    "article_plots": ("article_meshes", "article_rooflines", "article_table"),
    "asking": ("reduce",),
    "catalog": ("Catalog", "hardware", "model"),
    "errors": ("GridError", "ResultError", "SpecError", "SweepError"),
    "execution": ("load_grid", "run"),
    "fitted": ("FittedEfficiency", "load_efficiency"),
    "grid": ("Grid",),
    "netcdf": ("write_netcdf",),
    "opening": ("open_results",),
    "outcome": ("labels",),
    "reporting.making": ("report",),
    "specs": ("HardwareSpec", "ModelSpec", "PrecisionSpec"),
    "variables": ("VARIABLES",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    return getattr(import_module(f"sweep.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
