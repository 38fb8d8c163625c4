"""Computes views: a sweep of the grid around a cell, and the operators of the cell."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sweep.decisions.operator_breakdown import row_names
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration, recorded_name
from sweep.errors import SpecError
from sweep.evaluation.plan import make_plan
from sweep.evaluation.single_cell import cell
from sweep.explore.memory import server_memory
from sweep.explore.view import BATCH, Names, View
from sweep.grid.dataset import variable_attributes
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.html_report.calibration_quality import Quality, quality_of
from sweep.html_report.contents import described, quality_json, start_at
from sweep.html_report.operator_tables import (
    AMOUNTS,
    ModelTable,
    OperatorTables,
    as_pass,
    break_down_cells,
    group_of,
    phases_of,
)
from sweep.html_report.packed_arrays import Bundle
from sweep.html_report.thinning import grid_of
from sweep.kernel.block import Block, running
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.context import beyond_context
from sweep.models.read import read_model
from sweep.runs.run import run_plan
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

COMMENT = "For a static decode step in the middle of the output."


@dataclass(frozen=True, eq=False)
class Named:
    """Specifications of the names of a view.

    Attributes:
        model: The model.
        blocks: Its blocks that run.
        hardware: The two accelerators.
        precision: The recipe, or the one that stands for that of the model's own file.
    """

    model: ModelSpec
    blocks: tuple[Block, ...]
    hardware: tuple[HardwareSpec, HardwareSpec]
    precision: PrecisionSpec

    @property
    def specs(self) -> SpecsByName:
        """The same by name."""
        return SpecsByName(
            {self.model.name: self.model},
            {machine.name: machine for machine in self.hardware},
            {self.precision.name: self.precision},
        )


class Engine:
    """Computes views of one catalog; it may be used from several threads.

    Attributes:
        names: Names that views can have.
        default: The view to begin with.
    """

    def __init__(self, catalog: Catalog, calibrations: Mapping[str, Calibration | None]) -> None:
        """Read the names of the catalog.

        Args:
            catalog: Where names are looked up.
            calibrations: By name, with `None` for bounds.
        """
        self._catalog, self._calibrations = catalog, calibrations
        self.names = Names(
            model=tuple(catalog.paths("models")),
            hardware=tuple(catalog.paths("hardware")),
            precision=(CHECKPOINT.name, *catalog.paths("precisions")),
            calibration=tuple(calibrations),
            published=catalog.published(),
        )
        self.default = View()
        self._qualities: dict[str, Quality] = {}
        self._compiled: set[tuple[str, str, bool]] = set()
        self._compiling = Lock()
        self._named = lru_cache(maxsize=64)(self._look_up)
        self._resolved = lru_cache(maxsize=64)(self._resolve)
        self._point = lru_cache(maxsize=64)(self._read_point)

    def dataset(self, view: View) -> xr.Dataset:
        """The result of the grid around a view, as `sweep.run` computes it.

        Raises:
            SweepError: The names of the view do not fit together.
        """
        names = view.model, view.first, view.second, view.precision
        known = self._resolved(*names, view.serving)
        numbers = Grid(**view.axes).numbers
        grid = replace(known, numbers=numbers)
        return run_plan(make_plan(grid, calibration=self.calibration(view)))

    def calibration(self, view: View) -> Calibration | None:
        """The calibration of a view; `None` for bounds."""
        return self._calibrations[view.calibration]

    def contents(self, view: View) -> tuple[dict[str, Any], bytes]:
        """The JSON of the page for a view, and the arrays that it refers to.

        Raises:
            SweepError: The names of the view do not fit together.
        """
        key = view.model, view.serving, self.calibration(view) is None
        if key in self._compiled:
            return self._contents(view)
        # Two threads that need the same kernel would both compile it.
        with self._compiling:
            found = self._contents(view)
        self._compiled.add(key)
        return found

    def _contents(self, view: View) -> tuple[dict[str, Any], bytes]:
        named = self._named(view.model, view.first, view.second, view.precision)
        calibration, bundle = self.calibration(view), Bundle()
        found = self.dataset(view)
        grid = grid_of(found)
        tables, memory = self._cell(view, named)
        found = found.assign(bound=self._bounds(view))
        data = described(found, grid, named.specs, tables, bundle)
        labels = {"model": view.model, "hardware": view.first, "precision": view.precision}
        data |= {
            "view": view.query,
            "about": {"calibration": recorded_name(found.attrs)},
            "start": start_at({**labels, **view.cell}, grid, across="isl", up=view.load_axis),
            "memory": memory,
            "note": beyond_context(named.model, view.isl + view.osl),
            "quality": None if calibration is None else self._quality(view.calibration, bundle),
            "bounded": calibration is None,
        }
        return data, bundle.raw()

    def _cell(self, view: View, named: Named) -> tuple[OperatorTables, dict[str, Any] | None]:
        """Operators of the cell of a view on both accelerators, and the memory of a server."""
        numbers = {axis: np.asarray([value], np.float32) for axis, value in view.cell.items()}
        load, phases = view.load_axis, phases_of(view.load_axis)
        rows = row_names(named.blocks)
        axes: dict[str, list[Any]] = {
            "hardware": [view.first, view.second],
            "precision": [view.precision],
            **{axis: [value] for axis, value in view.cell.items()},
        }
        shape = *(len(values) for values in axes.values()), len(rows)
        amounts = {phase: {what: np.full(shape, np.nan) for what in AMOUNTS} for phase in phases}
        memory: dict[str, Any] = {}
        for index, machine in enumerate(named.hardware):
            point = self._point(
                view.model, machine.name, view.precision, view.calibration, view.serving
            )
            found = break_down_cells(point, as_pass(numbers, load))
            for phase in phases:
                for what in AMOUNTS:
                    values = np.asarray(getattr(found.amounts[phase], what))
                    amounts[phase][what][index] = values.reshape(shape[1:])
            if view.serving != BATCH:
                memory[machine.name] = server_memory(point, numbers)
        groups = tuple(group_of(block, index) for index, block in enumerate(named.blocks))
        table = ModelTable(view.model, groups, amounts)
        return OperatorTables(phases, axes, (table,), ()), memory or None

    def _quality(self, calibration: str, bundle: Bundle) -> dict[str, Any]:
        if calibration not in self._qualities:
            found = self._calibrations[calibration]
            assert found is not None
            self._qualities[calibration] = quality_of(found, None)
        return quality_json(self._qualities[calibration], bundle)

    def _bounds(self, view: View) -> xr.Variable:
        """The resource that binds decode steps around the cell of a view, as `bound` has it."""
        axes = view.axes
        loads, lengths = np.meshgrid(axes[view.load_axis], axes["isl"], indexing="ij")
        numbers = {
            axis: np.full(loads.size, value, np.float32)
            for axis, value in view.cell.items()
            if axis not in (view.load_axis, "isl", "osl")
        }
        numbers["batch_size"] = loads.ravel().astype(np.float32)
        numbers["context_len"] = (lengths.ravel() + view.osl / 2).astype(np.float32)
        found = [
            bounds(self._point(view.model, name, view.precision, view.calibration, BATCH), numbers)
            for name in (view.first, view.second)
        ]
        shape = 1, 2, *loads.shape
        values = np.stack([np.asarray(each) for each in found]).astype(np.int8).reshape(shape)
        attributes = variable_attributes(VARIABLES["bound"], {}) | {"comment": COMMENT}
        return xr.Variable(("model", "hardware", view.load_axis, "isl"), values, attributes)

    def _resolve(
        self, model: str, first: str, second: str, precision: str, serving: str
    ) -> Resolved:
        """The grid of a view with its names looked up; its numbers are replaced."""
        named = self._named(model, first, second, precision)
        axes: dict[str, Any] = {
            **replace(self.default, serving=serving).axes,
            "models": [named.model],
            "hardware": list(named.hardware),
            "precision": [named.precision],
        }
        return resolve(Grid(**axes), self._catalog)

    def _look_up(self, model: str, first: str, second: str, precision: str) -> Named:
        spec = self._catalog.model(model)
        blocks = running(read_model(spec))
        if int(blocks[0].token_pixels):
            raise SpecError(f"{model}: generates images; this page is for models of text")
        machines = self._catalog.hardware(first), self._catalog.hardware(second)
        return Named(spec, blocks, machines, self._catalog.precision(precision))

    def _read_point(
        self, model: str, machine: str, precision: str, calibration: str, serving: str
    ) -> Point:
        """Model, accelerator, recipe and factors of a cell; its numbers are replaced."""
        named = self._named(model, machine, machine, precision)
        recipe = named.specs.recipe(named.model.name, named.precision.name)
        assert recipe is not None
        view = replace(self.default, serving=serving)
        numbers = as_pass(dict.fromkeys(view.cell, 1.0), view.load_axis)
        return cell(
            named.blocks, named.hardware[0], recipe, numbers, self._calibrations[calibration]
        )


def bounds(point: Point, numbers: Mapping[str, np.ndarray[Any, Any]]) -> jax.Array:
    """Index in `terms.BOUNDS` of the resource that binds a decode step, for each cell.

    Args:
        point: Model, accelerator, precision and factors.
        numbers: Values of each axis, one for each cell.
    """
    found: jax.Array = _bounds(point, {axis: jnp.asarray(v) for axis, v in numbers.items()})
    return found


@jax.jit
def _bounds(point: Point, numbers: dict[str, jax.Array]) -> jax.Array:
    return jax.vmap(lambda here: Request(Point(**{**vars(point), **here})).bound)(numbers)
