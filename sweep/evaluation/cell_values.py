"""Variables of the only cell of a grid, by NumPy instead of a compiled kernel."""

from typing import Any

import jax
import numpy as np

from sweep.engines.calibration_file import Calibration
from sweep.evaluation.intervals import ends, interval_tables, interval_variables
from sweep.evaluation.numpy_cell import computed
from sweep.evaluation.single_cell import bare_cell
from sweep.evaluation.vmapped_kernel import given_of
from sweep.grid.resolved import Resolved
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.schema.variables import VARIABLES


def cell_values(grid: Resolved, calibration: Calibration | None = None) -> dict[str, float]:
    """Compute the variables of the only cell of a grid in float64, with intervals and flags.

    Values agree with those of a sweep to rounding errors. Throughputs are computed where the cell
    cannot run, too.

    Args:
        grid: Axes of one value each; its variables have one value per cell.
        calibration: A calibration; ideal rooflines if not given.

    Returns:
        One number by variable, in SI units.
    """
    numbers = {axis: values[0] for axis, values in grid.numbers.items()}
    (_, blocks), machine, recipe = grid.models[0], grid.hardware[0], grid.recipes[0][0]
    tables = {}
    if calibration is not None:
        found_tables = interval_tables(grid, calibration, np.dtype(np.float64))
        tables = {name: table.values.reshape(()) for name, table in found_tables.items()}

    def variables(point: Point, tables: dict[str, Any]) -> dict[str, Any]:
        request = Request(point, keep_infeasible=True, asked=grid.variables)
        values = {name: getattr(request, name) for name in grid.variables}
        if not tables:
            return values
        return {**values, **ends(values, tables, *given_of(request, grid.variables))}

    with jax.enable_x64(True):
        cell = bare_cell(blocks, machine, recipe, numbers, calibration, draft=grid.draft)
        found = computed(variables, cell, tables, name=repr(("variables", grid.variables)))
    names = (*grid.variables, *(interval_variables(grid.variables) if tables else ()))
    return {name: float(found[name].astype(VARIABLES[name].dtype or float)) for name in names}
