"""Memory of one GPU of a server, by what it is used for."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.decisions.memory_parts import of_server
from sweep.kernel import memory
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.residents import held_requests

TITLES = (
    "weights",
    "activations and buffers",
    "KV cache of the running requests",
    "rest of the KV cache",
    "kept by the engine",
)
"""Uses of the memory of a server."""


def server_memory(point: Point, numbers: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Memory of one GPU of a server by its use, and what the device has.

    Args:
        point: Model, accelerator, precision and factors.
        numbers: One value for each other axis.

    Returns:
        `device`, and `parts` as pairs of a title and a size. [byte]
    """
    here = {axis: jnp.asarray(value[0]) for axis, value in numbers.items()}
    found = jax.device_get(_parts(point, here))
    device = float(point.hardware.memory)
    return {"device": device, "parts": list(zip(TITLES, map(float, found), strict=True))}


@jax.jit
def _parts(point: Point, here: dict[str, jax.Array]) -> tuple[Scalar, ...]:
    """Sizes in the order of `TITLES`; where no request fits, that of one runs over. [byte]"""
    point = Point(**{**vars(point), **here})
    found = of_server(point)
    tokens = point.length("isl") + point.server.reserved_osl * point.length("osl")
    held = held_requests(point)
    of_group = jnp.where(held < 1.0, 1.0, held / point.layout.dp_attention)
    running = of_group * memory.kv_bytes_per_sequence(point, tokens, served=True)
    spare = jnp.maximum(found["cache"] - running, 0.0)
    return found["weights"], found["activations"], running, spare, found["kept"]
