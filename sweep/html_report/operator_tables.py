"""Operator breakdowns of selected cells of a result.

A result has the times of whole steps. The report recomputes the operators of selected cells from
the specifications in the catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sweep.decisions.machines_on_offer import computes
from sweep.decisions.operator_breakdown import (
    PHASES,
    Amounts,
    break_down,
    mean_context,
    row_names,
)
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration
from sweep.evaluation.single_cell import cell
from sweep.kernel.block import Block, running
from sweep.kernel.params import Point
from sweep.models.read import read_model
from sweep.schema.axes import LAYOUT, LENGTHS
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
    """

    model: str
    groups: tuple[Group, ...]
    amounts: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class OperatorTables:
    """Operator breakdowns of all models.

    Attributes:
        axes: Labels and numbers of every axis but `model` and `node`.
        models: Models whose specification is known.
        unknown: Names whose specification is missing, or is not that of the result.
    """

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
    return OperatorTables(axes, tuple(models), tuple(unknown))


def _axes(grid: Mapping[str, Sequence[Any]]) -> tuple[dict[str, list[Any]], str]:
    """Axes of the cells to break down, at most `MOST_CELLS`, and which of them is the load."""
    load = next((axis for axis in LOADS if axis in grid), LOADS[0])
    known = {**grid, load: grid.get(load, USUAL_LOADS)}
    kept = ("hardware", "precision", *LAYOUT, load, *LENGTHS)
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
    amounts = {phase: {what: np.full(shape, np.nan) for what in AMOUNTS} for phase in PHASES}
    for (i, machine), (j, recipe) in product(
        enumerate(axes["hardware"]), enumerate(axes["precision"])
    ):
        hardware, precision = specs.hardware.get(machine), specs.recipe(name, recipe)
        if hardware is None or precision is None or not computes(hardware, precision):
            continue
        first = {axis: float(values[0]) for axis, values in numbers.items()}
        point = cell(blocks, hardware, precision, _as_pass(first, load), calibration)
        every = {axis: jnp.asarray(values) for axis, values in _as_pass(numbers, load).items()}
        found = _break_down_each(point, every)
        for phase, what in product(PHASES, AMOUNTS):
            values = np.asarray(getattr(found[phase], what))
            amounts[phase][what][i, j] = values.reshape(shape[2:])
    return ModelTable(name, tuple(map(_group, blocks, range(len(blocks)))), amounts)


def _group(block: Block, index: int) -> Group:
    title = "layer" if block.in_transformer else ("head" if index else "embedding")
    return Group(title, int(block.count), block.operators)


def _cells(axes: Mapping[str, Sequence[float]]) -> dict[str, Array]:
    """Every cell of the outer product, as one list of numbers for each axis."""
    meshes = np.meshgrid(*axes.values(), indexing="ij")
    return {axis: mesh.ravel().astype(np.float32) for axis, mesh in zip(axes, meshes, strict=True)}


def _as_pass(numbers: Mapping[str, Any], load: str) -> dict[str, Any]:
    """The axes of a static batch: sequences, input tokens, context of the decode step."""
    found = {axis: numbers[axis] for axis in LAYOUT if axis in numbers}
    context = numbers.get("context_len")
    isl = numbers.get("isl", context)
    if context is None:
        context = mean_context(isl, numbers["osl"]) if "osl" in numbers else isl
    return {**found, "batch_size": numbers[load], "isl": isl, "context_len": context}


@eqx.filter_jit
def _break_down_each(point: Point, numbers: Mapping[str, jax.Array]) -> dict[str, Amounts]:
    """Amounts by phase, over the cells in `numbers`."""
    return jax.vmap(lambda here: break_down(Point(**{**vars(point), **here})))(dict(numbers))


def _drop_changed(
    dataset: xr.Dataset, table: ModelTable, axes: Mapping[str, Sequence[Any]], load: str
) -> list[str]:
    """Set the amounts to NaN on accelerators for which the result has other times.

    Their specification, or the model's, is not the one that the result was computed from.

    Returns:
        Names of these accelerators.
    """
    variables = {"decode_step": "decode_step_latency", "prefill": "ttft"}
    changed: dict[str, None] = {}
    for phase, variable in variables.items():
        if variable not in dataset or load not in dataset[variable].dims:
            continue
        if phase == "decode_step" and "context_len" not in axes:
            continue
        recomputed = np.asarray(table.amounts[phase]["seconds"]).sum(-1)
        labels = {axis: axes[axis] for axis in axes if axis in dataset[variable].dims}
        recorded = dataset[variable].sel({"model": table.model, **labels})
        whole = xr.DataArray(recomputed, {axis: list(axes[axis]) for axis in axes}, list(axes))
        differs = abs(whole / recorded - 1) > CLOSE
        for name in axes["hardware"]:
            if bool(differs.sel(hardware=name).any()):
                changed[name] = None
    for name in changed:
        index = list(axes["hardware"]).index(name)
        for phase, what in product(PHASES, AMOUNTS):
            table.amounts[phase][what][index] = np.nan
    return list(changed)
