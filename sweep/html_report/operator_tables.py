"""The layers of a model at some cells of a result: what each operator costs, and what binds it.

A result keeps times of whole steps; the operators are computed anew for the page, from the
specifications that its names stand for.
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

from sweep.decisions.candidate_sweep import computes
from sweep.decisions.candidate_table import look_up
from sweep.decisions.explain import mean_context
from sweep.engines.calibration_file import FittedEfficiency
from sweep.evaluation.single_point import cell
from sweep.kernel import phases
from sweep.kernel.block import Block
from sweep.kernel.operator_time import host_latency
from sweep.kernel.params import Point
from sweep.kernel.phases import Work
from sweep.kernel.roofline import Seconds, slowest
from sweep.models.read import read_blocks
from sweep.schema.axes import LAYOUT, LENGTHS
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import PrecisionSpec

MOST_CELLS = 1500
"""Cells of all models, accelerators and layouts that are taken apart. [count]"""
PLACES = {"load": 6, "length": 5}
"""Places of an axis that are taken apart, both ends among them. [count]"""
LOADS = ("batch_size", "concurrency")
"""Axes that say how many sequences a pass takes, the first that a result has."""
USUAL_LOADS = [1, 8, 64, 256]
"""Sequences where a result has no such axis. [count]"""
CLOSE = 0.01
"""Share by which a time may be off that of the result; beyond, the specification is another. [1]"""
PHASES = ("prefill", "decode_step")
AMOUNTS = ("seconds", "flops", "memory_bytes", "network_bytes", "bound")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """Layers that run the same operators one after another.

    Attributes:
        title: What they are.
        layers: How many run one after another. [count]
        operators: In the order they run.
    """

    title: str
    layers: int
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """One model taken apart.

    Attributes:
        model: Its name.
        groups: Its layers, in the order they run.
        amounts: By phase and amount of `AMOUNTS`, over hardware, precision, the axes of the
            layout, the load, the lengths, and `node`: the operators of all groups in turn, then
            the host. Missing where a combination could not be computed. In SI units, of all
            layers on each GPU.
    """

    model: str
    groups: tuple[Group, ...]
    amounts: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True)
class Anatomy:
    """All models taken apart.

    Attributes:
        axes: Labels and numbers of every axis but `model` and `node`.
        models: Those that could be computed.
        notes: What could not be, in words.
    """

    axes: Mapping[str, Sequence[Any]]
    models: tuple[Layers, ...]
    notes: tuple[str, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the amounts."""
        return (*self.axes, "node")


@dataclass(frozen=True)
class Specs:
    """Specifications behind the names of a result, as far as a catalog has them."""

    models: Mapping[str, ModelSpec]
    hardware: Mapping[str, HardwareSpec]
    precision: Mapping[str, PrecisionSpec]


def specs_of(grid: Mapping[str, Sequence[Any]], catalog: Catalog) -> Specs:
    """Look up what a result names, which may be from elsewhere."""
    return Specs(
        look_up(catalog.model, grid["model"]),
        look_up(catalog.hardware, grid["hardware"]),
        look_up(catalog.precision, grid.get("precision", [])),
    )


def anatomy(
    dataset: xr.Dataset,
    grid: Mapping[str, Sequence[Any]],
    specs: Specs,
    efficiency: FittedEfficiency | None,
) -> Anatomy | None:
    """Take the cells of a result apart, evenly picked along load and lengths.

    Args:
        dataset: A result, in memory.
        grid: Labels and numbers along its axes.
        specs: What its names stand for.
        efficiency: What predicted it; ideal rooflines if not given.
    """
    if not any(axis in grid for axis in LENGTHS[:2]) or "precision" not in grid:
        return None
    axes, load = _axes(grid)
    models, notes = [], _unknown(grid, specs)
    for name, spec in specs.models.items():
        found = _layers(name, spec, axes, load, specs, efficiency)
        strange = _strange(dataset, found, axes, load)
        notes += [f"{name} on {', '.join(strange)}"] if strange else []
        models.append(found)
    return Anatomy(axes, tuple(models), tuple(notes))


def _axes(grid: Mapping[str, Sequence[Any]]) -> tuple[dict[str, list[Any]], str]:
    """The axes of the cells to take apart, as many as `MOST_CELLS` allows."""
    load = next((axis for axis in LOADS if axis in grid), LOADS[0])
    known = {**grid, load: grid.get(load, USUAL_LOADS)}
    kept = ("hardware", "precision", *LAYOUT, load, *LENGTHS)
    axes = {axis: list(known[axis]) for axis in kept if axis in known}
    lengths = [axis for axis in LENGTHS if axis in axes]
    combinations = len(grid["model"]) * prod(
        len(values) for axis, values in axes.items() if axis not in (load, *lengths)
    )
    places = {load: PLACES["load"], **dict.fromkeys(lengths, PLACES["length"])}
    places = {axis: min(most, len(axes[axis])) for axis, most in places.items()}
    while combinations * prod(places.values()) > MOST_CELLS and max(places.values()) > 1:
        longest = max(places, key=lambda axis: places[axis])
        places[longest] -= 1
    for axis, most in places.items():
        picked = np.linspace(0, len(axes[axis]) - 1, most).round().astype(int)
        axes[axis] = [axes[axis][place] for place in picked]
    return axes, load


def _unknown(grid: Mapping[str, Sequence[Any]], specs: Specs) -> list[str]:
    known = {"model": specs.models, "hardware": specs.hardware, "precision": specs.precision}
    return [name for axis, found in known.items() for name in grid[axis] if name not in found]


def _layers(
    name: str,
    spec: ModelSpec,
    axes: Mapping[str, Sequence[Any]],
    load: str,
    specs: Specs,
    efficiency: FittedEfficiency | None,
) -> Layers:
    blocks = read_blocks(spec.config, spec.where)
    numbers = _cells({axis: axes[axis] for axis in axes if axis not in ("hardware", "precision")})
    nodes = sum(len(block.operators) for block in blocks) + 1
    shape = *(len(values) for values in axes.values()), nodes
    amounts = {phase: {what: np.full(shape, np.nan) for what in AMOUNTS} for phase in PHASES}
    for (i, machine), (j, recipe) in product(
        enumerate(axes["hardware"]), enumerate(axes["precision"])
    ):
        hardware, precision = specs.hardware.get(machine), specs.precision.get(recipe)
        if hardware is None or precision is None or not computes(hardware, precision):
            continue
        one = {axis: float(values[0]) for axis, values in numbers.items()}
        point = cell(blocks, hardware, precision, _as_pass(one, load), efficiency)
        apart = _apart(point, {k: jnp.asarray(v) for k, v in _as_pass(numbers, load).items()})
        for phase, what in product(PHASES, AMOUNTS):
            amounts[phase][what][i, j] = np.asarray(apart[phase][what]).reshape(shape[2:])
    return Layers(name, tuple(map(_group, blocks, range(len(blocks)))), amounts)


def _group(block: Block, place: int) -> Group:
    title = "layer" if block.in_transformer else ("head" if place else "embedding")
    return Group(title, int(block.count), block.operators)


def _cells(axes: Mapping[str, Sequence[float]]) -> dict[str, Array]:
    """Every cell of the outer product, as one list of numbers for each axis."""
    meshes = np.meshgrid(*axes.values(), indexing="ij")
    return {axis: mesh.ravel().astype(np.float32) for axis, mesh in zip(axes, meshes, strict=True)}


def _as_pass(numbers: Mapping[str, Any], load: str) -> dict[str, Any]:
    """The axes of a static batch: sequences, a prompt to prefill, a context to decode at."""
    found = {axis: numbers[axis] for axis in LAYOUT if axis in numbers}
    context = numbers.get("context_len")
    isl = numbers.get("isl", context)
    if context is None:
        context = mean_context(isl, numbers["osl"]) if "osl" in numbers else isl
    return {**found, "batch_size": numbers[load], "isl": isl, "context_len": context}


@eqx.filter_jit
def _apart(point: Point, numbers: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
    """Amounts of every node by phase, over the cells in `numbers`."""

    def one(numbers: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        here = Point(**{**vars(point), **numbers})
        host = host_latency(here, here.group_sequences / here.microbatches)
        every = {"prefill": phases.prefill(here), "decode_step": phases.decode_step(here)}
        return {name: _amounts(works, jnp.asarray(host)) for name, works in every.items()}

    return jax.vmap(one)(numbers)


def _amounts(works: Sequence[Work], host: jax.Array) -> dict[str, jax.Array]:
    found: dict[str, list[Any]] = {
        "seconds": [*(w.count * w.seconds.latency for w in works), host],
        "flops": [*(w.executed * w.cost.flops for w in works), 0.0],
        "memory_bytes": [*(w.executed * w.cost.memory_bytes for w in works), 0.0],
        "network_bytes": [*(w.executed * w.cost.network_bytes for w in works), 0.0],
        "bound": [*(_binds(w.seconds) for w in works), jnp.nan],
    }
    return {
        what: jnp.stack([jnp.asarray(value, jnp.float32) for value in values])
        for what, values in found.items()
    }


def _binds(spent: Seconds) -> jax.Array:
    return slowest(spent.memory, spent.compute, spent.communication)


def _strange(
    dataset: xr.Dataset, layers: Layers, axes: Mapping[str, Sequence[Any]], load: str
) -> list[str]:
    """Accelerators on which the result has other times; their amounts are taken out.

    Their specification, or the model's, is not the one that the result was computed from.
    """
    told = {"decode_step": "decode_step_latency", "prefill": "ttft"}
    strange: dict[str, None] = {}
    for phase, variable in told.items():
        if variable not in dataset or load not in dataset[variable].dims:
            continue
        if phase == "decode_step" and "context_len" not in axes:
            continue
        mine = np.asarray(layers.amounts[phase]["seconds"]).sum(-1)
        places = {axis: axes[axis] for axis in axes if axis in dataset[variable].dims}
        theirs = dataset[variable].sel({"model": layers.model, **places})
        whole = xr.DataArray(mine, {axis: list(axes[axis]) for axis in axes}, list(axes))
        off = abs(whole / theirs - 1) > CLOSE
        for name in axes["hardware"]:
            if bool(off.sel(hardware=name).any()):
                strange[name] = None
    for name in strange:
        place = list(axes["hardware"]).index(name)
        for phase, what in product(PHASES, AMOUNTS):
            layers.amounts[phase][what][place] = np.nan
    return list(strange)
