"""Pytrees of numbers packed into one array, which reaches a device sooner than many small ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from sweep.evaluation.kernel_inputs import hardware_params, model_params, precision_params
from sweep.kernel.block import Block
from sweep.kernel.operator_table import operator_names
from sweep.kernel.params import Numbers
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """Pytrees of one structure.

    Attributes:
        numbers: Leaves of each tree, one after another.
        structure: The structure of each tree.
        leaves: Shape and type of each leaf.
    """

    numbers: Float[Numbers, "*grid number"]
    structure: jax.tree_util.PyTreeDef = field(metadata={"static": True})
    leaves: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...] = field(metadata={"static": True})


def packed(trees: Sequence[Any], dtype: np.dtype[Any]) -> Packed:
    """Pack trees along a leading axis, integers too as floats of `dtype`."""
    leaves = [jax.tree.leaves(tree) for tree in trees]
    first = [np.asarray(leaf) for leaf in leaves[0]]
    return Packed(
        numbers=np.array([list(_numbers(each)) for each in leaves], dtype),
        structure=jax.tree.structure(trees[0]),
        leaves=tuple((leaf.shape, _unpacked_type(leaf, dtype)) for leaf in first),
    )


def _numbers(leaves: Iterable[Any]) -> Iterator[float]:
    for leaf in leaves:
        yield from leaf.ravel().tolist() if isinstance(leaf, np.ndarray) else (leaf,)


def _unpacked_type(leaf: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.dtype[Any]:
    return leaf.dtype if leaf.dtype == np.int32 else dtype


def unpacked(value: Any) -> Any:
    """Unpack trees, each leaf along the leading axis; return anything else unchanged."""
    if not isinstance(value, Packed):
        return value
    numbers, start, leaves = jnp.asarray(value.numbers), 0, []
    for shape, dtype in value.leaves:
        end = start + prod(shape)
        own = lax.slice_in_dim(numbers, start, end, axis=-1)
        leaves.append(own.reshape(*numbers.shape[:-1], *shape).astype(dtype))
        start = end
    return jax.tree.unflatten(value.structure, leaves)


class Kind(NamedTuple):
    """Models of one structure and of the same recipes, which share a compiled kernel.

    Attributes:
        models: Their indices along the `model` axis of the grid.
        operators: Names of their operators, in the order they run.
        packed: Numbers that the kernel reads of them.
        precision: Numbers that it reads of their recipes along the `precision` axis.
    """

    models: tuple[int, ...]
    operators: tuple[str, ...]
    packed: Packed
    precision: Packed


class Inputs(NamedTuple):
    """Numbers that the kernel reads of specifications."""

    kinds: tuple[Kind, ...]
    hardware: Packed


def inputs(
    models: Sequence[tuple[Block, ...]],
    hardware: Sequence[HardwareSpec],
    recipes: Sequence[tuple[PrecisionSpec, ...]],
    dtype: np.dtype[Any],
    *,
    drafts: bool = False,
    draft: tuple[Block, ...] | None = None,
) -> Inputs:
    """Pack the specifications along the axes of a grid, models of one structure together.

    Args:
        models: Blocks of each model.
        hardware: Accelerators.
        recipes: Recipes along the `precision` axis, as each model uses them.
        dtype: Type of the numbers.
        drafts: Whether models may decode speculatively.
        draft: Blocks of the model that drafts; a layer of each model's kind if not given.
    """
    read = [model_params(blocks, drafts=drafts, draft=draft) for blocks in models]
    alike: dict[Any, list[int]] = {}
    for index, model in enumerate(read):
        alike.setdefault((jax.tree.structure(model), recipes[index]), []).append(index)
    return Inputs(
        kinds=tuple(
            Kind(
                models=tuple(indices),
                operators=tuple(operator_names(models[indices[0]])),
                packed=packed([read[index] for index in indices], dtype),
                precision=packed([precision_params(spec) for spec in recipes[indices[0]]], dtype),
            )
            for indices in alike.values()
        ),
        hardware=packed([hardware_params(spec) for spec in hardware], dtype),
    )
