"""Computes any region of a grid with the kernel, tile by tile.

Tiles go in turn to every device that JAX sees here: processors, or the accelerators of a machine.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from math import prod
from typing import Any

import jax
import numpy as np

from sweep.evaluation.intervals import Table, interval_tables
from sweep.evaluation.kernel_inputs import coded
from sweep.evaluation.packing import Inputs, inputs
from sweep.evaluation.plan import Plan
from sweep.evaluation.result_memory import ResultMemory, handed_over
from sweep.evaluation.stored_function import StoredFunction
from sweep.evaluation.structures import FACTOR, TABLE, Structure
from sweep.evaluation.vmapped_kernel import FEW, kernel
from sweep.evaluation.workspaces import PER_DEVICE, Computed, Workspace, tile_limit, workspaces
from sweep.grid.resolved import Resolved
from sweep.grid.tiling import Region, Tiling, halves, offset, overlap, split_by_extent
from sweep.schema.axes import AXES
from sweep.schema.variables import VARIABLES

Array = np.ndarray[Any, Any]
ABSENT = -1
"""Value of a category where the model has no such operator."""

Arrays = dict[str, Array]
Progress = Callable[[int, int], None]
Described = dict[str, jax.ShapeDtypeStruct]


class Evaluation:
    """The kernel over the grid of a plan, divided into tiles that every region is made from.

    Every region is assembled from the same tiles, so the bits of a cell do not depend on the
    region: compiled for another shape, the kernel may differ in the last bit. Where a region is
    one large tile, the kernel's output is the result. Other results are assembled from small
    tiles, which stay in the cache of a processor until they are copied.
    """

    def __init__(self, plan: Plan) -> None:
        """Stack the numbers that the kernel reads, structure by structure."""
        self._plan, grid = plan, plan.grid
        self._dtype = np.dtype(plan.dtype)
        self._sizes = grid.sizes
        self.dims = {each.name: grid.dims(each.name) for each in plan.variables}
        calibration = plan.calibration
        self._factors = (
            {}
            if calibration is None
            else {name: calibration.axes(name) for name in calibration.used}
        )
        intervals = {} if calibration is None else interval_tables(grid, calibration, self._dtype)
        self._tables = {name: table.axes for name, table in intervals.items()}
        self._kernel = kernel(
            tuple(self.dims.items()),
            plan.keep_infeasible,
            tuple(self._factors.items()),
            tuple(self._tables.items()),
            few=plan.points <= FEW,
        )
        devices = jax.local_devices()
        self._tile_limit = tile_limit(devices)
        self._workspaces = workspaces(devices)
        given, self._operators = _inputs(grid, self._dtype), grid.operators
        shared = {
            "hardware": given.hardware,
            **{axis: coded(values, self._dtype) for axis, values in grid.numbers.items()},
        }
        self._structures = [
            Structure(
                models=kind.models,
                operators=[grid.operators.index(name) for name in kind.operators],
                numbers={
                    "model": kind.packed,
                    "precision": kind.precision,
                    **shared,
                    **self._factors_of(kind.models),
                    **{TABLE + name: _of(kind.models, table) for name, table in intervals.items()},
                },
            )
            for kind in given.kinds
        ]
        self._large: dict[Structure, Tiling | None] = {}
        self._small: dict[Structure, Tiling] = {}

    @property
    def structures(self) -> int:
        """Structures among the models, each with a compiled kernel. [count]"""
        return len(self._structures)

    @property
    def whole(self) -> dict[str, range]:
        """The whole grid as a region."""
        return {axis: range(size) for axis, size in self._sizes.items()}

    def empty(self, region: Region, memory: ResultMemory | None = None) -> Arrays:
        """Arrays for the variables of a region, in the dimensions of the grid.

        Args:
            region: Index range of each axis.
            memory: Memory of an earlier result to use again.
        """
        lengths = {axis: len(indices) for axis, indices in region.items()}
        lengths["operator"] = len(self._operators)
        arrays = {}
        for name, dims in self.dims.items():
            shape, dtype = tuple(lengths[d] for d in dims), self.type_of(name)
            spare = None if memory is None else memory.take(name, shape, dtype, np.ndarray)
            arrays[name] = np.empty(shape, dtype) if spare is None else spare
            if dtype.kind == "i":
                arrays[name].fill(ABSENT)
            elif dims[-1] == "operator":
                arrays[name].fill(np.nan)
        return arrays

    def compute(
        self,
        region: Region,
        memory: ResultMemory | None = None,
        progress: Progress | None = None,
    ) -> Arrays:
        """Compute the variables of a region, in the dimensions of the grid.

        Args:
            region: Index range of each axis.
            memory: Memory to compute in, whose last result nobody needs any more; its arrays may
                be read-only. Fresh memory if not given, in arrays that may be edited.
            progress: Called with tiles done and tiles in all.
        """
        with self.types():
            found = self._one_tile(region, memory)
            if found is None:
                return self._assembled(region, memory, progress)
        if progress is not None:
            progress(1, 1)
        return found

    def types(self) -> AbstractContextManager[Any]:
        """The context in which JAX computes in the type of the results."""
        return jax.enable_x64(True) if self._dtype == np.float64 else nullcontext()

    def _factors_of(self, members: Sequence[int]) -> Arrays:
        """Factors of the models of one structure, over the axes along which each varies."""
        calibration, grid = self._plan.calibration, self._plan.grid
        if calibration is None:
            return {}
        models = [grid.models[i][1] for i in members]
        found = calibration.grid(models, grid.hardware, grid.recipes[members[0]])
        return {FACTOR + name: array.astype(self._dtype) for name, array in found.items()}

    # A region that is one large tile.

    def _one_tile(self, region: Region, memory: ResultMemory | None) -> Arrays | None:
        """The output of one kernel call, without a copy; `None` if the region is no large tile."""
        inside = self._inside(region)
        if len(inside) > 1:
            return None
        ((structure, own),) = inside.items()
        tiles = self._large_tiles(structure, in_place=memory is not None)
        if tiles is None or list(tiles.overlapping(own)) != [own]:
            return None
        tile = tiles.padded(own)
        described = self._described(structure, tile)
        buffers = {} if memory is None else _buffers(described, memory)
        results = self._kernel(buffers, *self._read(structure, tile))
        if memory is None:
            arrays = handed_over(results)
        else:
            memory.keep(results)
            arrays = {name: np.asarray(result) for name, result in results.items()}
        where = {axis: offset(own[axis], tile[axis]) for axis in own}
        return {
            name: array[tuple(where.get(d, slice(None)) for d in self.dims[name])]
            for name, array in arrays.items()
        }

    def _large_tiles(self, structure: Structure, *, in_place: bool) -> Tiling | None:
        """Tiles as large as shards, if a structure is computed in them.

        It is where one processor computes, where the models of a tile are consecutive in the
        grid, and where the kernel needs less memory for intermediate values than for results:
        those of small tiles stay in the cache.
        """
        if structure not in self._large:
            tiles = self._plan.large_tiles(len(structure.models))
            if tiles is not None:
                consecutive = len(self._structures) == 1 or tiles.shape["model"] == 1
                complete = len(structure.operators) == len(self._operators)
                if not (consecutive and complete and self._is_lean(structure, tiles, in_place)):
                    tiles = None
            self._large[structure] = tiles
        return self._large[structure]

    def _is_lean(self, structure: Structure, tiles: Tiling, in_place: bool) -> bool:
        """Whether the kernel needs few intermediate values."""
        results = self._tile_bytes(tiles.shape)
        platforms = {workspace.device.platform for workspace in self._workspaces}
        one_processor = platforms == {"cpu"} and len(self._workspaces) == PER_DEVICE
        if not one_processor or results <= self._tile_limit:
            return False
        tile = tiles.padded(tiles.region(0))
        described = self._described(structure, tile) if in_place else {}
        leaves, tree = jax.tree.flatten((described, *self._read(structure, tile)))
        types = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        return _intermediate_bytes(self._kernel, types, tree) < results

    # A region that is assembled from small tiles.

    def _assembled(
        self, region: Region, memory: ResultMemory | None, progress: Progress | None
    ) -> Arrays:
        """Arrays into which every tile that overlaps the region is copied."""
        arrays = self.empty(region, memory)
        inside = self._inside(region).items()
        steps = sum(1 for each, own in inside for _ in self._tiles(each).overlapping(own))
        for done, _ in enumerate(self._fill(arrays, region), start=1):
            if progress is not None:
                progress(done, steps)
        if memory is not None:
            memory.keep(arrays)
        return arrays

    def _fill(self, arrays: Arrays, region: Region) -> Iterator[None]:
        """Compute and copy tile after tile, yielding after each."""
        for computed in self.tiles(region):
            self._collect(computed, arrays, region)
            yield

    def tiles(self, region: Region) -> Iterator[Computed]:
        """Compute the tiles that overlap a region, each while the one before it is read.

        The memory of a tile is used again once the next but one is asked for.
        """
        for structure, inside in self._inside(region).items():
            free, busy = list(self._workspaces), deque[Workspace]()
            for own in self._tiles(structure).overlapping(inside):
                if not free:
                    free.append(busy.popleft())
                    yield free[-1].read()
                workspace = next((each for each in free if each.holds(structure, own)), free[0])
                free.remove(workspace)
                with self.types():
                    self._start(workspace, structure, own)
                busy.append(workspace)
            for workspace in busy:
                yield workspace.read()

    def _start(self, workspace: Workspace, structure: Structure, own: Region) -> None:
        """Begin to compute a tile where `workspace` has the last one, which is overwritten."""
        if workspace.holds(structure, own):
            return
        last, workspace.computed = workspace.computed, None
        tile = self._tiles(structure).padded(own)
        if last is not None and last.structure is structure:
            buffers = last.results
        elif self._large[structure] is not None:
            buffers = {}
        else:
            buffers = {
                name: _fresh(like, workspace.device)
                for name, like in self._described(structure, tile).items()
            }
        results = self._kernel(buffers, *self._read(structure, tile))
        workspace.computed = Computed(structure, own, tile, results)

    def _collect(self, computed: Computed, arrays: Arrays, region: Region) -> None:
        """Copy what a tile and the region have in common."""
        structure, own, tile, results = computed
        kept = {axis: overlap(own[axis], region[axis]) for axis in own if axis != "model"}
        members = [
            (i - tile["model"].start, structure.models[i] - region["model"].start)
            for i in own["model"]
            if structure.models[i] in region["model"]
        ]
        for name, result in results.items():
            dims = [d for d in self.dims[name] if d not in ("model", "operator")]
            source: tuple[Any, ...] = tuple(offset(kept[d], tile[d]) for d in dims)
            target: tuple[Any, ...] = tuple(offset(kept[d], region[d]) for d in dims)
            values, array = np.asarray(result), arrays[name]
            for in_tile, in_region in members:
                if self.dims[name][-1] == "operator":
                    array[in_region][target][..., structure.operators] = values[in_tile][source]
                else:
                    array[(in_region, *target)] = values[(in_tile, *source)]

    # Tiles.

    def _tiles(self, structure: Structure) -> Tiling:
        """The tiles that the results of a structure are assembled from."""
        if structure not in self._small:
            large = self._large_tiles(structure, in_place=True)
            sizes = {**self._sizes, "model": len(structure.models)}
            self._small[structure] = large or self._small_tiles(sizes)
        return self._small[structure]

    def _small_tiles(self, sizes: Mapping[str, int]) -> Tiling:
        """Halve axis after axis until a tile is small enough, axes needed whole last."""
        whole = self._plan.axes_needed_whole
        return split_by_extent(
            sizes,
            lambda tiles: self._tile_bytes(tiles.shape) <= self._tile_limit,
            sorted(sizes, key=lambda axis: axis in whole),
            lambda axis: halves(sizes[axis]),
        )

    def _tile_bytes(self, shape: Mapping[str, int]) -> int:
        lengths = {**shape, "operator": len(self._operators)}
        return sum(
            prod(lengths[d] for d in dims) * self.type_of(name).itemsize
            for name, dims in self.dims.items()
        )

    def _inside(self, region: Region) -> dict[Structure, dict[str, range]]:
        """Structures with models in a region, and the region by the index of their own models."""
        return {each: own for each in self._structures if (own := each.own(region)) is not None}

    def _read(self, structure: Structure, tile: Region) -> tuple[Any, ...]:
        """Arguments of the kernel for a tile, after the buffers."""
        factors = {n: structure.read(FACTOR + n, over, tile) for n, over in self._factors.items()}
        tables = {n: structure.read(TABLE + n, over, tile) for n, over in self._tables.items()}
        return factors, tables, *(structure.read(axis, (axis,), tile) for axis in AXES)

    def _described(self, structure: Structure, tile: Region) -> Described:
        """Shapes and types of the kernel's results for a tile."""
        lengths = {axis: len(indices) for axis, indices in tile.items()}
        lengths["operator"] = len(structure.operators)
        return {
            name: jax.ShapeDtypeStruct(tuple(lengths[d] for d in dims), self.type_of(name))
            for name, dims in self.dims.items()
        }

    def type_of(self, name: str) -> np.dtype[Any]:
        """Type of the values of a variable."""
        return np.dtype(VARIABLES[name].dtype or self._dtype)


def _of(models: Sequence[int], table: Table) -> Array:
    """A table of intervals for some of the models."""
    return table.values[list(models)] if "model" in table.axes else table.values


@lru_cache(maxsize=8)
def _inputs(grid: Resolved, dtype: np.dtype[Any]) -> Inputs:
    models = [blocks for _, blocks in grid.models]
    drafts = "draft_tokens" in grid.numbers
    return inputs(models, grid.hardware, grid.recipes, dtype, drafts=drafts, draft=grid.draft)


@lru_cache(maxsize=64)
def _intermediate_bytes(
    call: StoredFunction, types: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...], tree: Any
) -> int:
    """Memory that the kernel needs beside arguments of these types and its results. [byte]"""
    given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in types]
    return call.temporary_bytes(*jax.tree.unflatten(tree, given))


def _buffers(described: Described, memory: ResultMemory) -> dict[str, jax.Array]:
    """Arrays for the kernel to write into, from `memory` where it has them."""
    buffers = {}
    for name, like in described.items():
        spare = memory.take(name, like.shape, like.dtype, jax.Array)
        buffers[name] = _fresh(like) if spare is None else spare
    return buffers


def _fresh(like: jax.ShapeDtypeStruct, device: jax.Device | None = None) -> jax.Array:
    """An array for the kernel to write into, without a compiled function that fills it."""
    zeros = np.zeros(like.shape, like.dtype)
    made: jax.Array = jax.device_put(zeros, device, may_alias=False)
    return made
