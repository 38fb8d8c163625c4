"""Operator breakdowns of selected cells of a result.

A result has the times of whole steps. The report recomputes the operators of selected cells from
the specifications in the catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from sweep.decisions.machines_on_offer import computes
from sweep.decisions.operator_breakdown import (
    PHASES,
    Amounts,
    break_down,
    mean_context,
    row_names,
    without_overhead_bound,
)
from sweep.decisions.server_breakdown import SERVER_PHASES, break_down_server
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration
from sweep.evaluation.kernel_inputs import coded
from sweep.evaluation.single_cell import cell
from sweep.kernel.block import Block, running
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.read import read_model
from sweep.schema.axes import LAYOUT, LENGTHS, PREFIX, SERVER
from sweep.specs.model import ModelSpec

MOST_CELLS = 1500
"""Largest number of cells of all models, accelerators and layouts that are broken down. [count]"""
MOST_VALUES = {"load": 6, "length": 5}
"""Values of an axis that are broken down, both ends included. [count]"""
LOADS = ("batch_size", "concurrency")
"""Axes that give the sequences of a pass: the first of these that a result has."""
USUAL_LOADS = [1, 8, 64, 256]
"""Sequences of a pass if a result has no such axis. [count]"""
CLOSE = 0.01
"""Largest relative difference from a time of the result; a larger one means that the specification
is not that of the result. [1]"""
AMOUNTS = ("seconds", "flops", "memory_bytes", "network_bytes", "bound")
"""Fields of `Amounts` that a page shows."""
CHECKED = {
    "batch_size": {"decode_step_latency": "context_len", "ttft": "isl"},
    "concurrency": {"inflight_tpot": "osl", "inflight_iteration_latency": "osl"},
}
"""Variables by which a result is compared with the specifications, each with a length that the
cells need for it, by the axis of the load."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """Layers of one block.

    Attributes:
        title: Kind of layer.
        layers: Number of layers. [count]
        operators: Names in running order.
    """

    title: str
    layers: int
    operators: tuple[str, ...]


@dataclass(frozen=True)
class ModelTable:
    """Operator breakdowns of one model.

    Attributes:
        model: Its name.
        groups: Its layers in running order.
        amounts: By phase and name of `AMOUNTS`, over hardware, precision, the axes of the layout,
            the load, the lengths, and `node`: the operators of all groups in turn, then the host.
            NaN where a combination could not be computed. In SI units, of all layers, per GPU.
        checked: Variables of `CHECKED` of the same cells, over the same axes but `node`. [s]
    """

    model: str
    groups: tuple[Group, ...]
    amounts: Mapping[str, Mapping[str, Array]]
    checked: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorTables:
    """Operator breakdowns of all models.

    Attributes:
        phases: Names of the phases, those of a server if the result is of one.
        axes: Labels and numbers of every axis but `model` and `node`.
        models: Models whose specification is known.
        unknown: Names whose specification is missing, or is not that of the result.
    """

    phases: tuple[str, ...]
    axes: Mapping[str, Sequence[Any]]
    models: tuple[ModelTable, ...]
    unknown: tuple[str, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the amounts."""
        return (*self.axes, "node")


def operator_tables(
    dataset: xr.Dataset,
    grid: Mapping[str, Sequence[Any]],
    specs: SpecsByName,
    calibration: Calibration | None,
) -> OperatorTables | None:
    """Break cells of a result down, evenly spaced along load and lengths.

    Args:
        dataset: A result, in memory.
        grid: Labels and numbers along its axes.
        specs: Specifications of its names.
        calibration: The calibration that predicted it; ideal rooflines if not given.

    Returns:
        None if the result has no context or input length, or no precision.
    """
    if not any(axis in grid for axis in LENGTHS[:2]) or "precision" not in grid:
        return None
    axes, load = _axes(grid)
    models = []
    unknown = [
        name for axis, known in specs.by_axis.items() for name in grid[axis] if name not in known
    ]
    for name, spec in specs.models.items():
        table = _model_table(name, spec, axes, load, specs, calibration)
        changed = _drop_changed(dataset, table, axes, load)
        unknown += [f"{name} on {', '.join(changed)}"] if changed else []
        models.append(table)
    return OperatorTables(phases_of(load), axes, tuple(models), tuple(unknown))


def phases_of(load: str) -> tuple[str, ...]:
    """Names of the phases that a result with this load axis is broken down into."""
    return SERVER_PHASES if load == LOADS[1] else PHASES


def _axes(grid: Mapping[str, Sequence[Any]]) -> tuple[dict[str, list[Any]], str]:
    """Axes of the cells to break down, at most `MOST_CELLS`, and which of them is the load."""
    load = next((axis for axis in LOADS if axis in grid), LOADS["request_rate" in grid])
    known = {**grid, load: grid.get(load, USUAL_LOADS)}
    served = (*SERVER, *PREFIX) if load == LOADS[1] else ()
    kept = ("hardware", "precision", *LAYOUT, load, *served, *LENGTHS)
    axes = {axis: list(known[axis]) for axis in kept if axis in known}
    lengths = [axis for axis in LENGTHS if axis in axes]
    combinations = len(grid["model"]) * prod(
        len(values) for axis, values in axes.items() if axis not in (load, *lengths)
    )
    most = {load: MOST_VALUES["load"], **dict.fromkeys(lengths, MOST_VALUES["length"])}
    sizes = {axis: min(size, len(axes[axis])) for axis, size in most.items()}
    while combinations * prod(sizes.values()) > MOST_CELLS and max(sizes.values()) > 1:
        longest = max(sizes, key=lambda axis: sizes[axis])
        sizes[longest] -= 1
    for axis, size in sizes.items():
        picked = np.linspace(0, len(axes[axis]) - 1, size).round().astype(int)
        axes[axis] = [axes[axis][index] for index in picked]
    return axes, load


def _model_table(
    name: str,
    spec: ModelSpec,
    axes: Mapping[str, Sequence[Any]],
    load: str,
    specs: SpecsByName,
    calibration: Calibration | None,
) -> ModelTable:
    blocks = running(read_model(spec))
    numbers = _cells({axis: axes[axis] for axis in axes if axis not in ("hardware", "precision")})
    shape = *(len(values) for values in axes.values()), len(row_names(blocks))
    each = phases_of(load)
    amounts = {phase: {what: np.full(shape, np.nan) for what in AMOUNTS} for phase in each}
    checked = {variable: np.full(shape[:-1], np.nan) for variable in CHECKED[load]}
    for (i, machine), (j, recipe) in product(
        enumerate(axes["hardware"]), enumerate(axes["precision"])
    ):
        hardware, precision = specs.hardware.get(machine), specs.recipe(name, recipe)
        if hardware is None or precision is None or not computes(hardware, precision):
            continue
        first = {axis: float(values[0]) for axis, values in numbers.items()}
        point = cell(blocks, hardware, precision, as_pass(first, load), calibration)
        found = break_down_cells(point, as_pass(numbers, load))
        for phase, what in product(each, AMOUNTS):
            values = np.asarray(getattr(found.amounts[phase], what))
            amounts[phase][what][i, j] = values.reshape(shape[2:])
        for variable, times in found.checked.items():
            checked[variable][i, j] = np.asarray(times).reshape(shape[2:-1])
    groups = tuple(group_of(block, index) for index, block in enumerate(blocks))
    return ModelTable(name, groups, amounts, checked)


def group_of(block: Block, index: int) -> Group:
    """The layers of a block, which is at an index among those of its model."""
    title = "layer" if block.in_transformer else ("head" if index else "embedding")
    return Group(title, int(block.count), block.operators)


def _cells(axes: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
    """Every cell of the outer product, as one list of numbers for each axis."""
    meshes = np.meshgrid(*(coded(values, np.float32) for values in axes.values()), indexing="ij")
    return {axis: mesh.ravel() for axis, mesh in zip(axes, meshes, strict=True)}


def as_pass(numbers: Mapping[str, Any], load: str) -> dict[str, Any]:
    """The axes as the kernel reads them: of a server as they are, else of a static batch.

    A batch has the sequences of a pass, input tokens, and the context of the decode step.
    """
    if load == LOADS[1]:
        return dict(numbers)
    found = {axis: numbers[axis] for axis in LAYOUT if axis in numbers}
    context = numbers.get("context_len")
    isl = numbers.get("isl", context)
    if context is None:
        context = mean_context(isl, numbers["osl"]) if "osl" in numbers else isl
    return {**found, "batch_size": numbers[load], "isl": isl, "context_len": context}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Breakdown:
    """Operators of some cells, and times of the same cells by which they are checked.

    Attributes:
        amounts: By phase, over the cells.
        checked: By variable, over the cells. [s]
    """

    amounts: dict[str, Amounts]
    checked: dict[str, Float[jax.Array, "*cells"]]


def break_down_cells(point: Point, numbers: Mapping[str, Any]) -> Breakdown:
    """Break cells that differ in numbers down by operator; compiled once for a structure.

    Args:
        point: Model, accelerator, precision and factors of all cells.
        numbers: Values of each axis, one for each cell; with `concurrency` the cells are servers.
    """
    found: Breakdown = _break_down_each(point, {k: jnp.asarray(v) for k, v in numbers.items()})
    return found


@jax.jit
def _break_down_each(point: Point, numbers: dict[str, jax.Array]) -> Breakdown:
    def one(here: dict[str, jax.Array]) -> Breakdown:
        cell = Point(**{**vars(point), **here})
        if LOADS[1] not in here:
            amounts = _limited(break_down(cell))
            steps = zip(CHECKED[LOADS[0]], ("decode_step", "prefill"), strict=True)
            return Breakdown(amounts, {name: amounts[p].seconds.sum() for name, p in steps})
        served = Request(cell, keep_infeasible=True)
        checked = {name: getattr(served, name) for name in CHECKED[LOADS[1]]}
        return Breakdown(_limited(break_down_server(cell)), checked)

    return jax.vmap(one)(numbers)


def _limited(phases: Mapping[str, Amounts]) -> dict[str, Amounts]:
    return {name: without_overhead_bound(amounts) for name, amounts in phases.items()}


def _drop_changed(
    dataset: xr.Dataset,
    table: ModelTable,
    axes: Mapping[str, Sequence[Any]],
    load: str,
) -> list[str]:
    """Set the amounts to NaN on accelerators for which the result has other times.

    Their specification, or the model's, is not the one that the result was computed from.

    Returns:
        Names of these accelerators.
    """
    changed: dict[str, None] = {}
    for variable, length in CHECKED[load].items():
        if variable not in dataset or length not in axes:
            continue
        if load not in dataset[variable].dims:
            continue
        labels = {axis: axes[axis] for axis in axes if axis in dataset[variable].dims}
        recorded = dataset[variable].sel({"model": table.model, **labels})
        coordinates = {axis: list(axes[axis]) for axis in axes}
        whole = xr.DataArray(table.checked[variable], coordinates, list(axes))
        differs = abs(whole / recorded - 1) > CLOSE
        for name in axes["hardware"]:
            if bool(differs.sel(hardware=name).any()):
                changed[name] = None
    for name in changed:
        index = list(axes["hardware"]).index(name)
        for each in table.amounts.values():
            for what in AMOUNTS:
                each[what][index] = np.nan
    return list(changed)
