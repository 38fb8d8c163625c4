"""Pytrees of numbers as one array, since handing a device a hundred small ones takes its time."""

from collections.abc import Sequence
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from sweep.params import Numbers
from sweep.stacking import stack


class Packed(eqx.Module):
    """Pytrees of one structure.

    Attributes:
        numbers: Their leaves one after another, tree by tree.
        structure: The structure of a tree.
        leaves: Shape and type of each leaf.
    """

    numbers: Float[Numbers, "*grid number"]
    structure: jax.tree_util.PyTreeDef = eqx.field(static=True)
    leaves: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...] = eqx.field(static=True)


def packed(trees: Sequence[Any], dtype: DTypeLike) -> Packed:
    """The trees along a leading axis; whole numbers too as floats of `dtype`."""
    leaves, structure = jax.tree.flatten(stack(trees, dtype))
    return Packed(
        numbers=np.concatenate([leaf.reshape(len(trees), -1) for leaf in leaves], 1, dtype=dtype),
        structure=structure,
        leaves=tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves),
    )


def unpacked(value: Any) -> Any:
    """The tree in a packed one whose leading axis is mapped over; anything else as it is."""
    if not isinstance(value, Packed):
        return value
    ends = np.cumsum([prod(shape) for shape, _ in value.leaves])
    parts = jnp.split(jnp.asarray(value.numbers), ends[:-1])
    leaves = [
        part.reshape(shape).astype(dtype)
        for part, (shape, dtype) in zip(parts, value.leaves, strict=True)
    ]
    return jax.tree.unflatten(value.structure, leaves)
