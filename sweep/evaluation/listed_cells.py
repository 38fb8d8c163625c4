"""Variables of a list of cells, which need not be the outer product of any axes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.kernel.params import Point
from sweep.kernel.request import Request


def variables_of(points: Sequence[Point], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Compute variables of each point, infeasible ones too.

    Args:
        points: Cells of models of one structure that have the same axes.
        names: Variables of `sweep.schema.variables.VARIABLES` with one value per cell.

    Returns:
        One value per point, by variable and in SI units.
    """
    if not points:
        return {name: np.empty(0) for name in names}
    # One compiled function computes all lists of up to a power of two.
    padded = [*points, *points[:1] * ((1 << (len(points) - 1).bit_length()) - len(points))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    found = _mapped(stacked, names)
    return {name: np.asarray(array)[: len(points)] for name, array in found.items()}


@partial(jax.jit, static_argnums=1)
def _mapped(points: Point, names: tuple[str, ...]) -> dict[str, jax.Array]:
    def one(point: Point) -> dict[str, Any]:
        request = Request(point, keep_infeasible=True)
        return {name: jnp.asarray(getattr(request, name)) for name in names}

    found: dict[str, jax.Array] = jax.vmap(one)(points)
    return found
