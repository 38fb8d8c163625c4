"""Variables of a list of cells, which need not be the outer product of any axes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.compiled_parts import in_parts
from sweep.evaluation.stored_function import StoredFunction
from sweep.evaluation.vmapped_kernel import FAST_TO_COMPILE
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
    length = 1 << (len(points) - 1).bit_length()
    padded = [*points, *[points[0]] * (length - len(points))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    found = _mapped(names)(stacked)
    return {name: np.asarray(array)[: len(points)] for name, array in found.items()}


@lru_cache(maxsize=16)
def _mapped(names: tuple[str, ...]) -> StoredFunction:
    """Variables as a function of points that are stacked."""

    def one(point: Point) -> dict[str, Any]:
        request = Request(point, keep_infeasible=True)
        return {name: jnp.asarray(getattr(request, name)) for name in names}

    named = repr(("listed cells", names))
    compiled = jax.jit(in_parts(jax.vmap(one)), compiler_options=FAST_TO_COMPILE)
    return StoredFunction(compiled, named, dict.fromkeys(names, 0.0))
