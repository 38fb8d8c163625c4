"""Fills arrays with what the kernel finds for any part of a grid, block by block.

Blocks go in turn to every device that JAX sees here: processors, or the accelerators of a machine.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

from sweep.evaluation.buffers import owner, shared, unfilled
from sweep.evaluation.packing import Inputs, inputs
from sweep.evaluation.plan import Plan
from sweep.evaluation.tiles import FACTOR, Blocks, Family, Places, common, every, within
from sweep.evaluation.vmapped_kernel import kernel
from sweep.grid.resolved import Resolved
from sweep.kernel.factors import FACTORS
from sweep.schema.axes import AXES
from sweep.schema.variables import VARIABLES

BLOCK_BYTES = 2**22
"""Output of one call of the kernel: small enough to stay warm until it is copied off. [byte]"""
ACCELERATOR_BLOCK_BYTES = 2**26
"""The same on an accelerator, where a call should outlast the time it takes to begin. [byte]"""
SHARE_OF_DEVICE = 16
"""A block is at most one in so many parts of an accelerator's memory. [1]"""
ABSENT = -1
"""Value of a category where the model has no such operator."""

Arrays = dict[str, np.ndarray[Any, Any]]
Progress = Callable[[int, int], None]


class Evaluation:
    """The kernel over the grid of a plan, cut into blocks that any part of the grid is made from.

    A part is filled from the very blocks the whole is filled from, so that both hold the same
    bits: compiled for another shape, the kernel may differ in the last one. Where a part is one
    large block, the kernel writes into the very arrays that are given out; others are put
    together from small blocks, which stay in the cache of a processor until they are copied.
    """

    def __init__(self, plan: Plan) -> None:
        """Stack what the kernel reads, model family by model family."""
        self._plan, grid = plan, plan.grid
        self._dtype = np.dtype(plan.dtype)
        self._sizes = grid.sizes
        self._dims = {name: grid.dims(name) for name in grid.variables}
        fitted = plan.efficiency
        self._factors = {} if fitted is None else {name: fitted.axes(name) for name in FACTORS}
        self._kernel = kernel(
            tuple(self._dims.items()), plan.keep_infeasible, tuple(self._factors.items())
        )
        devices = jax.local_devices()
        self._block_limit = _block_limit(devices)
        self._lanes = _lanes(devices)
        given, self._operators = _inputs(grid, self._dtype), grid.operators
        alike = {
            "hardware": given.hardware,
            "precision": given.precision,
            **{axis: np.asarray(values, self._dtype) for axis, values in grid.numbers.items()},
        }
        self._families = [
            Family(
                models=kind.models,
                operators=[grid.operators.index(name) for name in kind.operators],
                numbers={
                    "model": kind.packed,
                    **alike,
                    **self._efficiency(kind.models),
                },
            )
            for kind in given.kinds
        ]
        self._large: dict[Family, Blocks | None] = {}
        self._cut: dict[Family, Blocks] = {}

    @property
    def families(self) -> int:
        """Kinds of models, each of which is compiled for. [count]"""
        return len(self._families)

    @property
    def whole(self) -> dict[str, range]:
        """Every place of every axis."""
        return {axis: range(size) for axis, size in self._sizes.items()}

    def empty(self, part: Places, spare: Arrays | None = None) -> Arrays:
        """Arrays for the variables of `part`, in the dimensions of the grid.

        Args:
            part: What of each axis.
            spare: Arrays whose memory may be used again: fresh pages cost more than the kernel.
        """
        sizes = {axis: len(places) for axis, places in part.items()}
        sizes["operator"] = len(self._operators)
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

    def compute(
        self, part: Places, spare: Arrays | None = None, progress: Progress | None = None
    ) -> Arrays:
        """The variables over `part`, in the dimensions of the grid.

        Args:
            part: What of each axis.
            spare: Arrays of an earlier call that nobody reads any more.
            progress: Called with blocks done and blocks in all.
        """
        with self._types():
            found = self._one_block(part, spare)
            if found is None:
                return self._copied(part, spare, progress)
        if progress is not None:
            progress(1, 1)
        return found

    def _types(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if self._dtype == np.float64 else nullcontext()

    def _efficiency(self, members: Sequence[int]) -> Arrays:
        """Factors of the models of one family, over the axes along which each varies."""
        fitted, grid = self._plan.efficiency, self._plan.grid
        if fitted is None:
            return {}
        models = [grid.models[i][1] for i in members]
        found = fitted.grid(models, grid.hardware, grid.precision)
        return {FACTOR + name: array.astype(self._dtype) for name, array in found.items()}

    # A part that is one large block.

    def _one_block(self, part: Places, spare: Arrays | None) -> Arrays | None:
        """The block that `part` is, where the kernel wrote it; nothing if it is not one."""
        met = self._met(part)
        if len(met) > 1:
            return None
        ((family, own),) = met.items()
        blocks = self._large_blocks(family)
        if blocks is None or list(blocks.meeting(own)) != [own]:
            return None
        block = blocks.around(own)
        buffers = {
            name: _buffer(like, None if spare is None else spare[name])
            for name, like in self._described(family, block).items()
        }
        results = self._kernel(buffers, *self._read(family, block))
        where = {axis: within(own[axis], block[axis]) for axis in own}
        return {
            name: shared(result)[tuple(where.get(d, slice(None)) for d in self._dims[name])]
            for name, result in results.items()
        }

    def _large_blocks(self, family: Family) -> Blocks | None:
        """Blocks as large as shards, if `family` is computed in them.

        It is on a single processor, where its results lie together, and where the kernel needs
        less memory beside them than they take: what it needs stays in the cache for small blocks.
        """
        if family not in self._large:
            cut = self._plan.blocks(len(family.models))
            blocks = None if cut is None else Blocks({n: cut.ranges(n) for n in cut.sizes})
            if blocks is not None:
                together = len(self._families) == 1 or blocks.lengths["model"] == 1
                complete = len(family.operators) == len(self._operators)
                if not (together and complete and self._is_lean(family, blocks)):
                    blocks = None
            self._large[family] = blocks
        return self._large[family]

    def _is_lean(self, family: Family, blocks: Blocks) -> bool:
        """Whether the kernel needs little beside its results; a calibrated one never does."""
        results = self._block_bytes(blocks.lengths)
        on_one_processor = [lane.device.platform for lane in self._lanes] == ["cpu", "cpu"]
        if self._factors or not on_one_processor or results <= self._block_limit:
            return False
        block = blocks.around(next(blocks.meeting(self._met(self.whole)[family])))
        given = self._described(family, block), *self._read(family, block)
        leaves, structure = jax.tree.flatten(given)
        types = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        return _memory_beside(self._kernel, types, structure) < results

    # A part that is put together.

    def _copied(self, part: Places, spare: Arrays | None, progress: Progress | None) -> Arrays:
        """Arrays into which what `part` meets is copied, block by block."""
        arrays = self.empty(part, spare)
        met = self._met(part).items()
        steps = sum(1 for family, own in met for _ in self._blocks(family).meeting(own))
        for done, _ in enumerate(self._fill(arrays, part), start=1):
            if progress is not None:
                progress(done, steps)
        return arrays

    def _fill(self, arrays: Arrays, part: Places) -> Iterator[None]:
        """Compute and copy block after block, yielding after each."""
        for family, inside in self._met(part).items():
            free, busy = list(self._lanes), deque[_Lane]()
            for own in self._blocks(family).meeting(inside):
                if not free:
                    free.append(busy.popleft())
                    self._collect(free[-1], arrays, part)
                    yield
                lane = next((lane for lane in free if lane.holds(family, own)), free[0])
                free.remove(lane)
                self._start(lane, family, own)
                busy.append(lane)
            for lane in busy:
                self._collect(lane, arrays, part)
                yield

    def _start(self, lane: "_Lane", family: Family, own: Places) -> None:
        """Begin to compute a block where `lane` has the one before it, which is overwritten."""
        if lane.holds(family, own):
            return
        held, lane.held = lane.held, None
        block = self._blocks(family).around(own)
        if held is not None and held.family is family:
            buffers = held.results
        else:
            buffers = {
                name: jax.device_put(unfilled(like.shape, like.dtype), lane.device)
                for name, like in self._described(family, block).items()
            }
        lane.held = _Held(family, own, block, self._kernel(buffers, *self._read(family, block)))

    def _collect(self, lane: "_Lane", arrays: Arrays, part: Places) -> None:
        """Copy what a lane computed for `part` to its place there."""
        assert lane.held is not None
        family, own, block, results = lane.held
        kept = {axis: common(own[axis], part[axis]) for axis in own if axis != "model"}
        members = [
            (i - block["model"].start, family.models[i] - part["model"].start)
            for i in own["model"]
            if family.models[i] in part["model"]
        ]
        for name, result in results.items():
            dims = [d for d in self._dims[name] if d not in ("model", "operator")]
            taken: tuple[Any, ...] = tuple(within(kept[d], block[d]) for d in dims)
            given: tuple[Any, ...] = tuple(within(kept[d], part[d]) for d in dims)
            values, target = np.asarray(result), arrays[name]
            for place, member in members:
                if self._dims[name][-1] == "operator":
                    target[member][given][..., family.operators] = values[place][taken]
                else:
                    target[(member, *given)] = values[(place, *taken)]

    # Blocks.

    def _blocks(self, family: Family) -> Blocks:
        """What the results of a family are computed in."""
        if family not in self._cut:
            sizes = {**self._sizes, "model": len(family.models)}
            lengths = self._block_lengths(sizes)
            small = {axis: every(size, lengths[axis]) for axis, size in sizes.items()}
            self._cut[family] = self._large_blocks(family) or Blocks(small)
        return self._cut[family]

    def _block_lengths(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Axes halved, the first first, until a block is small enough."""
        lengths, uncut = dict(sizes), self._plan.axes_needed_whole
        for axis in sorted(sizes, key=lambda axis: axis in uncut):
            while lengths[axis] > 1 and self._block_bytes(lengths) > self._block_limit:
                lengths[axis] = -(-lengths[axis] // 2)
        return lengths

    def _block_bytes(self, lengths: Mapping[str, int]) -> int:
        sizes = {**lengths, "operator": len(self._operators)}
        return sum(
            prod(sizes[d] for d in dims) * self._type_of(name).itemsize
            for name, dims in self._dims.items()
        )

    def _met(self, part: Places) -> dict[Family, dict[str, range]]:
        """Families of which something lies in `part`, and what, in their own places."""
        return {family: own for family in self._families if (own := family.of(part)) is not None}

    def _read(self, family: Family, block: Places) -> tuple[Any, ...]:
        """What the kernel reads for a block."""
        factors = {n: family.read(FACTOR + n, over, block) for n, over in self._factors.items()}
        return factors, *(family.read(axis, (axis,), block) for axis in AXES)

    def _described(self, family: Family, block: Places) -> dict[str, jax.ShapeDtypeStruct]:
        """What the kernel writes for a block."""
        lengths = {axis: len(places) for axis, places in block.items()}
        lengths["operator"] = len(family.operators)
        return {
            name: jax.ShapeDtypeStruct(tuple(lengths[d] for d in dims), self._type_of(name))
            for name, dims in self._dims.items()
        }

    def _type_of(self, name: str) -> np.dtype[Any]:
        return np.dtype(VARIABLES[name].dtype or self._dtype)


@lru_cache(maxsize=8)
def _inputs(grid: Resolved, dtype: np.dtype[Any]) -> Inputs:
    models = [blocks for _, blocks in grid.models]
    return inputs(models, grid.hardware, grid.precision, dtype)


class _Held(NamedTuple):
    """What was computed last, whose buffers the next block of the family takes over."""

    family: Family
    own: Places
    block: Places
    results: dict[str, jax.Array]


class _Lane:
    """Buffers on one device, and the block that was computed into them last."""

    def __init__(self, device: jax.Device) -> None:
        self.device = device
        self.held: _Held | None = None

    def holds(self, family: Family, own: Places) -> bool:
        """Whether the block need not be computed again."""
        return self.held is not None and self.held.family is family and self.held.own == own


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


@lru_cache(maxsize=64)
def _memory_beside(
    call: Any, types: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...], structure: Any
) -> int:
    """Memory that the kernel needs for arguments of such types, beside them and results. [byte]"""
    given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in types]
    compiled = call.lower(*jax.tree.unflatten(structure, given)).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def _buffer(like: jax.ShapeDtypeStruct, spare: np.ndarray[Any, Any] | None) -> jax.Array:
    """Memory to write into: that of a spare array, if it is as large as is needed."""
    again = None if spare is None else owner(spare)
    if again is not None and (again.shape, again.dtype) == (like.shape, like.dtype):
        return again
    return unfilled(like.shape, like.dtype)
