"""Requests that a server holds at once."""

import dataclasses

import jax.numpy as jnp

from sweep.kernel import memory
from sweep.kernel.keeps_step import sent_together
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point


def at_capacity(point: Point) -> Point:
    """The same server with as many requests as fit, without end."""
    return dataclasses.replace(
        point, concurrency=None, num_requests=None, request_rate=None, burstiness=None
    )


def held_requests(point: Point) -> Scalar:
    """Requests that one replica holds: what clients send, as far as they fit. [count]

    Those that are all sent at once are at one stage, but in a long run.
    """
    held = memory.max_concurrency(point)
    if point.num_requests is not None:
        together = sent_together(point, held)
        whole = memory.max_concurrency(point, together=together)
        held = jnp.maximum(whole, jnp.minimum(held, 1.0))
    for limit in (point.concurrency, point.num_requests):
        if limit is not None:
            held = jnp.minimum(held, limit)
    return held
