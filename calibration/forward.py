"""What the kernel says of measured rows."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calibration.observations import Group
from sweep.params import Point
from sweep.request import Request


@lru_cache(maxsize=16)
def forward(variable: str) -> Any:
    """The kernel of one variable, mapped over rows."""

    def one_row(point: Point) -> jax.Array:
        return jnp.asarray(getattr(Request(point, keep_infeasible=True), variable))

    return jax.jit(jax.vmap(one_row))


def predict(groups: Sequence[Group]) -> np.ndarray[Any, Any]:
    """The figure of every row. [s-1 or s]"""
    found = np.full(sum(len(group.rows) for group in groups), np.nan)
    with jax.enable_x64(True):
        for group in groups:
            found[group.rows] = np.asarray(forward(group.variable)(group.point))
    return found
