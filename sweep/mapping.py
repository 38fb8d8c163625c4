"""Maps the kernel over the outer product of its axes, block by block into reused buffers.

Blocks go in turn to every device that JAX sees here: processors, or the accelerators of a machine.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.efficiency import FACTORS, Efficiency
from sweep.fitted import FittedEfficiency
from sweep.grid import Resolved
from sweep.packing import packed, unpacked
from sweep.params import Point
from sweep.request import Request
from sweep.stacking import hardware_params, merged, model_params, precision_params
from sweep.transformer import operator_names
from sweep.variables import AXES, VARIABLES

BLOCK_BYTES = 2**22
"""Output of one call of the kernel: small enough to stay warm until it is copied off. [byte]"""
ACCELERATOR_BLOCK_BYTES = 2**26
"""The same on an accelerator, where a call should outlast the time it takes to begin. [byte]"""
SHARE_OF_DEVICE = 16
"""A block is at most one in so many parts of an accelerator's memory. [1]"""
COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""Where a processor has vectors of 512 bits, LLVM keeps to half of them unless it is told: the
kernel, which divides at every point, takes twice as long. Results are the same, bit for bit."""
FACTOR = "efficiency."
"""Before the name of a factor, some of which axes have too."""
ABSENT = -1
"""Value of a category where the model has no such operator."""

Arrays = dict[str, np.ndarray[Any, Any]]
Places = Mapping[str, range]
"""What of each axis is meant."""
Kernel = Callable[..., dict[str, jax.Array]]


@lru_cache(maxsize=64)
def kernel(
    dims: tuple[tuple[str, tuple[str, ...]], ...],
    keep_infeasible: bool,
    factors: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Kernel:
    """The kernel mapped over every axis its arguments have, compiled on first use.

    Each variable is mapped over its own dimensions only; JAX refuses one that varies over an
    axis it does not declare. The first argument is a set of buffers that the result overwrites.

    Args:
        dims: Names and dimensions of the variables to compute.
        keep_infeasible: Whether throughputs stand where the point cannot run.
        factors: Efficiency factors, each with the axes it varies along; none for the ideal.
    """

    def one_point(efficiency: dict[str, Any], *axes: Any) -> dict[str, jax.Array]:
        given = {name: unpacked(value) for name, value in zip(AXES, axes, strict=True)}
        point = Point(**given, efficiency=Efficiency(**efficiency))
        request = Request(point, keep_infeasible=keep_infeasible)
        return {name: _stored(getattr(request, name), name) for name, _ in dims}

    def outer_product(
        buffers: dict[str, jax.Array], efficiency: dict[str, Any], *axes: Any
    ) -> dict[str, jax.Array]:
        del buffers
        mapped: Callable[..., dict[str, jax.Array]] = one_point
        for place, axis in reversed(list(enumerate(AXES))):
            if axes[place] is None:
                continue
            over_factors = {name: 0 if axis in over else None for name, over in factors}
            in_axes = (over_factors, *(0 if i == place else None for i in range(len(AXES))))
            out_axes = {name: 0 if axis in over else None for name, over in dims}
            mapped = jax.vmap(mapped, in_axes, out_axes)
        return mapped(efficiency, *axes)

    return jax.jit(
        outer_product, donate_argnums=0, keep_unused=True, compiler_options=COMPILER_OPTIONS
    )


def _stored(value: Any, name: str) -> jax.Array:
    """Flags as small integers, quantities as they are."""
    dtype = VARIABLES[name].dtype
    return jnp.asarray(value) if dtype is None else jnp.asarray(value).astype(dtype)


class Evaluation:
    """The kernel over a resolved grid, cut into blocks that any part of the grid is made from.

    A part is filled from the very blocks the whole is filled from, so that both hold the same
    bits: compiled for another shape, the kernel may differ in the last one.

    Attributes:
        operators: Names along the `operator` axis: every model's, in the order they run.
    """

    def __init__(
        self,
        grid: Resolved,
        *,
        dtype: np.dtype[Any],
        keep_infeasible: bool = False,
        efficiency: FittedEfficiency | None = None,
        uncut: Collection[str] = (),
    ) -> None:
        """Stack what the kernel reads, model family by model family.

        Args:
            grid: The resolved grid.
            dtype: Type of the results.
            keep_infeasible: Whether throughputs stand where a configuration cannot run.
            efficiency: A calibration; ideal rooflines if not given.
            uncut: Axes that parts of the grid hold whole, which blocks too cut last.
        """
        self._grid = grid
        self._uncut = uncut
        self._dtype = dtype
        models = [model_params(blocks) for _, blocks in grid.models]
        names = [operator_names(blocks) for _, blocks in grid.models]
        self.operators = tuple(merged(names))
        self._dims = {name: grid.dims(name) for name in grid.variables}
        self._factors = {} if efficiency is None else {n: efficiency.axes(n) for n in FACTORS}
        self._kernel = kernel(
            tuple(self._dims.items()), keep_infeasible, tuple(self._factors.items())
        )
        shared = {
            "hardware": packed([hardware_params(spec) for spec in grid.hardware], dtype),
            "precision": packed([precision_params(spec) for spec in grid.precision], dtype),
            **{axis: np.asarray(values, dtype) for axis, values in grid.numbers.items()},
        }
        self._families = [
            _Family(
                models=members,
                operators=[self.operators.index(n) for n in names[members[0]]],
                numbers={
                    "model": packed([models[i] for i in members], dtype),
                    **shared,
                    **self._efficiency(efficiency, members),
                },
            )
            for members in _by_structure(models)
        ]
        devices = jax.local_devices()
        self._block_limit = _block_limit(devices)
        self._lanes = _lanes(devices)

    @property
    def families(self) -> int:
        """Kinds of models, each of which is compiled for. [count]"""
        return len(self._families)

    @property
    def whole(self) -> dict[str, range]:
        """Every place of every axis."""
        return {axis: range(size) for axis, size in self._grid.sizes.items()}

    def steps(self, part: Places) -> int:
        """Blocks that `fill` computes for `part`. [count]"""
        return sum(1 for family in self._families for _ in self._blocks(family, part))

    def empty(self, part: Places, spare: Arrays | None = None) -> Arrays:
        """Arrays for the variables of `part`, in the dimensions of the grid.

        Args:
            part: What of each axis.
            spare: Arrays whose memory may be used again: fresh pages cost more than the kernel.
        """
        sizes = {axis: len(places) for axis, places in part.items()}
        sizes["operator"] = len(self.operators)
        arrays = {}
        for name, dims in self._dims.items():
            shape = tuple(sizes[d] for d in dims)
            if spare is not None and spare[name].shape == shape:
                arrays[name] = spare[name]
            else:
                arrays[name] = np.empty(shape, self._type_of(name))
            if self._type_of(name).kind == "i":
                arrays[name].fill(ABSENT)
            elif dims[-1] == "operator":
                arrays[name].fill(np.nan)
        return arrays

    def fill(self, arrays: Arrays, part: Places) -> Iterator[None]:
        """Compute block after block of `part` into `arrays`, yielding after each."""
        for family in self._families:
            free, busy = list(self._lanes), deque[_Lane]()
            for block in self._blocks(family, part):
                if not free:
                    free.append(busy.popleft())
                    self._collect(free[-1], arrays, part)
                    yield
                lane = next((lane for lane in free if lane.holds(family, block)), free[0])
                free.remove(lane)
                self._start(lane, family, block)
                busy.append(lane)
            for lane in busy:
                self._collect(lane, arrays, part)
                yield

    def _start(self, lane: "_Lane", family: "_Family", block: Places) -> None:
        """Begin to compute a block where `lane` has the one before it, which is overwritten."""
        held, lane.held = lane.held, None
        if held is None or held.family is not family:
            held = _Held(family, {}, self._buffers(family, block, lane.device))
        if held.block != block:
            arguments = [family.part(axis, (axis,), block) for axis in AXES]
            factors = {
                name: family.part(FACTOR + name, over, block)
                for name, over in self._factors.items()
            }
            held = _Held(family, block, self._kernel(held.results, factors, *arguments))
        lane.held = held

    def _efficiency(self, fitted: FittedEfficiency | None, members: Sequence[int]) -> Arrays:
        """Factors of the models of one family, over the axes along which each varies."""
        if fitted is None:
            return {}
        models = [self._grid.models[i][1] for i in members]
        found = fitted.grid(models, self._grid.hardware, self._grid.precision)
        return {FACTOR + name: array.astype(self._dtype) for name, array in found.items()}

    def _collect(self, lane: "_Lane", arrays: Arrays, part: Places) -> None:
        """Copy what of the block of a lane lies in `part` to its place there."""
        assert lane.held is not None
        family, block, results = lane.held.family, lane.held.block, lane.held.results
        common = {axis: _common(block[axis], part[axis]) for axis in block if axis != "model"}
        members = [
            (place, family.models[i] - part["model"].start)
            for place, i in enumerate(block["model"])
            if family.models[i] in part["model"]
        ]
        for name, result in results.items():
            dims = [d for d in self._dims[name] if d not in ("model", "operator")]
            taken: tuple[Any, ...] = tuple(_within(common[d], block[d]) for d in dims)
            given: tuple[Any, ...] = tuple(_within(common[d], part[d]) for d in dims)
            values, target = np.asarray(result), arrays[name]
            for place, member in members:
                if self._dims[name][-1] == "operator":
                    target[member][given][..., family.operators] = values[place][taken]
                else:
                    target[(member, *given)] = values[(place, *taken)]

    def _buffers(
        self, family: "_Family", block: Places, device: jax.Device
    ) -> dict[str, jax.Array]:
        lengths = {axis: len(places) for axis, places in block.items()}
        lengths["operator"] = len(family.operators)
        return {
            name: jax.device_put(np.zeros([lengths[d] for d in dims], self._type_of(name)), device)
            for name, dims in self._dims.items()
        }

    def _blocks(self, family: "_Family", part: Places) -> Iterator[dict[str, range]]:
        """Blocks of equal shape that meet `part`: the last along an axis may overlap another."""
        sizes = {**self._grid.sizes, "model": len(family.models)}
        lengths = self._block_lengths(sizes)
        inside = [i for i, member in enumerate(family.models) if member in part["model"]]
        if not inside:
            return
        wanted = {**part, "model": range(inside[0], inside[-1] + 1)}
        cuts = {
            axis: [
                range(first, first + lengths[axis])
                for first in _firsts(size, lengths[axis])
                if _common(range(first, first + lengths[axis]), wanted[axis])
            ]
            for axis, size in sizes.items()
        }
        for places in product(*cuts.values()):
            yield dict(zip(cuts, places, strict=True))

    def _block_lengths(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Axes halved, the first first, until a block is small enough."""
        lengths = dict(sizes)
        for axis in sorted(sizes, key=lambda axis: axis in self._uncut):
            while lengths[axis] > 1 and self._block_bytes(lengths) > self._block_limit:
                lengths[axis] = -(-lengths[axis] // 2)
        return lengths

    def _block_bytes(self, lengths: Mapping[str, int]) -> int:
        sizes = {**lengths, "operator": len(self.operators)}
        return sum(
            prod(sizes[d] for d in dims) * self._type_of(name).itemsize
            for name, dims in self._dims.items()
        )

    def _type_of(self, name: str) -> np.dtype[Any]:
        return np.dtype(VARIABLES[name].dtype or self._dtype)


class _Family:
    """Models of one structure, which share a compiled kernel.

    Attributes:
        models: Their places in the grid.
        operators: Places of their operators among all.
    """

    def __init__(self, models: list[int], operators: list[int], numbers: dict[str, Any]) -> None:
        """Keep what the kernel reads, by name of an axis or `FACTOR` and that of a factor."""
        self.models = models
        self.operators = operators
        self._numbers = numbers
        self._parts: dict[tuple[Any, ...], Any] = {}

    def part(self, name: str, axes: Sequence[str], block: Places) -> Any:
        """What of `name` a block reads, which many blocks share; none if the grid lacks it."""
        if name not in self._numbers:
            return None
        key = (name, *(block[axis] for axis in axes))
        if key not in self._parts:
            where = tuple(slice(block[axis].start, block[axis].stop) for axis in axes)
            self._parts[key] = jax.tree.map(lambda leaf: leaf[where], self._numbers[name])
        return self._parts[key]


@dataclass(frozen=True)
class _Held:
    """The block computed last, whose buffers the next one of its family takes over."""

    family: _Family
    block: Places
    results: dict[str, jax.Array]


class _Lane:
    """Buffers on one device, and the block that was computed into them last."""

    def __init__(self, device: jax.Device) -> None:
        self.device = device
        self.held: _Held | None = None

    def holds(self, family: _Family, block: Places) -> bool:
        """Whether the block need not be computed again."""
        held = self.held
        return held is not None and held.family is family and held.block == block


def _lanes(devices: Sequence[jax.Device]) -> list[_Lane]:
    """Where blocks are computed, in turn: two on each device, one while the other is copied off."""
    return [_Lane(device) for _ in range(2) for device in devices]


def _block_limit(devices: Sequence[jax.Device]) -> int:
    """Output of one call of the kernel on such devices. [byte]"""
    if all(device.platform == "cpu" for device in devices):
        return BLOCK_BYTES
    stated = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    shares = [limit // SHARE_OF_DEVICE for limit in stated if limit]
    return int(min([ACCELERATOR_BLOCK_BYTES, *shares]))


def _firsts(size: int, length: int) -> list[int]:
    """Where equal lengths begin that cover `size`; the last one is moved back to end there."""
    return [min(first, size - length) for first in range(0, size, length)]


def _common(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _within(places: range, whole: range) -> slice:
    return slice(places.start - whole.start, places.stop - whole.start)


def _by_structure(models: Sequence[Any]) -> list[list[int]]:
    families: dict[Any, list[int]] = {}
    for place, model in enumerate(models):
        families.setdefault(jax.tree.structure(model), []).append(place)
    return list(families.values())
