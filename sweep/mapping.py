"""Maps the kernel over the outer product of its axes, block by block into reused buffers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.efficiency import FACTORS, Efficiency
from sweep.fitted import FittedEfficiency
from sweep.grid import Resolved
from sweep.params import Point
from sweep.request import Request
from sweep.stacking import hardware_params, model_params, precision_params, stack
from sweep.transformer import operator_names
from sweep.variables import AXES, VARIABLES

BLOCK_BYTES = 2**24
"""Output of one call of the kernel: small enough to stay warm in reused memory. [byte]"""
ABSENT = -1
"""Value of a category where the model has no such operator."""

Arrays = dict[str, np.ndarray[Any, Any]]
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
        given = dict(zip(AXES, axes, strict=True))
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

    return jax.jit(outer_product, donate_argnums=0, keep_unused=True)


def _stored(value: Any, name: str) -> jax.Array:
    """Flags as small integers, quantities as they are."""
    dtype = VARIABLES[name].dtype
    return jnp.asarray(value) if dtype is None else jnp.asarray(value).astype(dtype)


class Evaluation:
    """The arrays of a resolved grid, and the blocks that fill them.

    Attributes:
        operators: Names along the `operator` axis: every model's, in the order they run.
        arrays: Results by variable, filled as `run` goes on.
        steps: Blocks to run. [count]
    """

    def __init__(
        self,
        grid: Resolved,
        *,
        dtype: np.dtype[Any],
        keep_infeasible: bool = False,
        efficiency: FittedEfficiency | None = None,
    ) -> None:
        """Allocate the arrays and cut the work into blocks."""
        self._grid = grid
        self._dtype = dtype
        models = [model_params(blocks) for _, blocks in grid.models]
        names = [operator_names(model) for model in models]
        self.operators = tuple(_merged(names))
        self._dims = {name: grid.dims(name) for name in grid.variables}
        self._factors = {} if efficiency is None else {n: efficiency.axes(n) for n in FACTORS}
        self._kernel = kernel(
            tuple(self._dims.items()), keep_infeasible, tuple(self._factors.items())
        )
        sizes = {**grid.sizes, "operator": len(self.operators)}
        self.arrays: Arrays = {
            name: self._empty(name, [sizes[d] for d in dims]) for name, dims in self._dims.items()
        }
        shared = {
            "hardware": stack([hardware_params(spec) for spec in grid.hardware], dtype),
            "precision": stack([precision_params(spec) for spec in grid.precision], dtype),
            **{axis: np.asarray(values, dtype) for axis, values in grid.numbers.items()},
        }
        self._families = [
            _Family(
                models=members,
                operators=[self.operators.index(n) for n in names[members[0]]],
                axes={"model": stack([models[i] for i in members], dtype), **shared},
                efficiency=self._efficiency(efficiency, members),
            )
            for members in _by_structure(models)
        ]
        self._blocks = [(family, where) for family in self._families for where in self._cut(family)]
        self.steps = len(self._blocks)

    def run(self) -> Iterator[None]:
        """Compute block after block, yielding after each."""
        buffers: dict[tuple[Any, ...], dict[str, jax.Array]] = {}
        for family, where in self._blocks:
            arguments = [_slice(family.axes.get(axis), where.get(axis)) for axis in AXES]
            key = (id(family), tuple(len(v) for v in where.values()))
            if key not in buffers:
                buffers[key] = self._buffers(family, where)
            factors = {
                name: array[
                    tuple(slice(where[a].start, where[a].stop) for a in self._factors[name])
                ]
                for name, array in family.efficiency.items()
            }
            buffers[key] = self._kernel(buffers[key], factors, *arguments)
            self._collect(family, where, buffers[key])
            yield

    def _efficiency(self, fitted: FittedEfficiency | None, members: Sequence[int]) -> Arrays:
        """Factors of the models of one family, over the axes along which each varies."""
        if fitted is None:
            return {}
        models = [self._grid.models[i][1] for i in members]
        found = fitted.grid(models, self._grid.hardware, self._grid.precision)
        return {name: array.astype(self._dtype) for name, array in found.items()}

    def _collect(
        self, family: "_Family", where: Mapping[str, range], results: dict[str, jax.Array]
    ) -> None:
        for name, result in results.items():
            places: list[Any] = [
                slice(where[d].start, where[d].stop)
                for d in self._dims[name]
                if d not in ("model", "operator")
            ]
            members = [family.models[i] for i in where["model"]]
            block = np.asarray(result)
            target = self.arrays[name]
            for place, member in enumerate(members):
                into: tuple[Any, ...] = (member, *places)
                if self._dims[name][-1] == "operator":
                    target[into][..., family.operators] = block[place]
                else:
                    target[into] = block[place]

    def _empty(self, name: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
        if VARIABLES[name].dtype is not None:
            return np.full(shape, ABSENT, VARIABLES[name].dtype)
        if self._dims[name][-1] == "operator":
            return np.full(shape, np.nan, self._dtype)
        return np.empty(shape, self._dtype)

    def _buffers(self, family: "_Family", where: Mapping[str, range]) -> dict[str, jax.Array]:
        lengths = {axis: len(places) for axis, places in where.items()}
        lengths["operator"] = len(family.operators)
        return {
            name: jax.device_put(np.zeros([lengths[d] for d in dims], self.arrays[name].dtype))
            for name, dims in self._dims.items()
        }

    def _cut(self, family: "_Family") -> Iterator[dict[str, range]]:
        """Blocks of equal shape: cut along the first axes until one fits `BLOCK_BYTES`."""
        sizes = {**self._grid.sizes, "model": len(family.models)}
        lengths = dict(sizes)
        for axis in sizes:
            while lengths[axis] > 1 and self._block_bytes(lengths) > BLOCK_BYTES:
                lengths[axis] = -(-lengths[axis] // 2)
        cuts = {
            axis: [min(first, size - lengths[axis]) for first in range(0, size, lengths[axis])]
            for axis, size in sizes.items()
        }
        for firsts in product(*cuts.values()):
            yield {
                axis: range(first, first + lengths[axis])
                for axis, first in zip(cuts, firsts, strict=True)
            }

    def _block_bytes(self, lengths: Mapping[str, int]) -> int:
        sizes = {**lengths, "operator": len(self.operators)}
        return sum(
            int(np.prod([sizes[d] for d in dims])) * self.arrays[name].itemsize
            for name, dims in self._dims.items()
        )


class _Family:
    """Models of one structure, which share a compiled kernel."""

    def __init__(
        self, models: list[int], operators: list[int], axes: dict[str, Any], efficiency: Arrays
    ) -> None:
        self.models = models
        self.operators = operators
        self.axes = axes
        self.efficiency = efficiency


def _by_structure(models: Sequence[Any]) -> list[list[int]]:
    families: dict[Any, list[int]] = {}
    for place, model in enumerate(models):
        families.setdefault(jax.tree.structure(model), []).append(place)
    return list(families.values())


def _slice(tree: Any, where: range | None) -> Any:
    if tree is None or where is None:
        return None
    return jax.tree.map(lambda leaf: leaf[where.start : where.stop], tree)


def _merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Names of several ordered lists in one order that keeps each list's own where it can."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged
