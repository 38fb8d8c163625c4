"""Requests that start and end together: which servers and clients keep them in step."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sweep.kernel.operators.cost import Scalar, is_nothing
from sweep.kernel.params import Point
from sweep.kernel.spread import LEAST_SPREAD, stay_deviation

KEEPS_STEP, LOSES_STEP = 9, 20
"""Clients up to which equal requests of a server that prefills first keep step in a long run, and
from which they do not: those of SGLang 0.5.6, as measured. [count]"""
LONG = 50
"""Waves of requests from which a run is long: those of SGLang 0.5.1 with ten keep step. [count]"""


def prefill_first(point: Point) -> Bool[Array, ""] | None:
    """Whether iterations with prompts decode nothing; `None` where no scheduler is named.

    A scheduler of the grid replaces that of a calibration's engine.
    """
    if point.scheduler is not None:
        return jnp.asarray(point.scheduler) == 1
    first = point.factors.prefill_first
    return None if is_nothing(first) else jnp.asarray(first) > 0


def staggered(point: Point) -> Bool[Array, ""] | None:
    """Whether requests start one at a time; `None` where nothing says so.

    A run without clients keeps as many requests as fit, and these keep step, as those of a run do
    that are all sent at once.
    """
    apart = point.factors.staggered
    if is_nothing(apart) or point.concurrency is None:
        return None
    clients = jnp.asarray(point.concurrency)
    singly = (jnp.asarray(apart) > 0) & jnp.isfinite(clients)
    if point.num_requests is None:
        return singly
    return singly & (jnp.asarray(point.num_requests) > clients)


def sent_together(point: Point, held: Scalar) -> Bool[Array, ""]:
    """Whether the requests of a run, of which a server holds `held`, are at one stage.

    They are where all are sent at once, but in a long run.
    """
    requests = jnp.asarray(point.num_requests)
    clients = jnp.inf if point.concurrency is None else point.concurrency
    return (requests <= clients) & (requests <= LONG * held)


def loses_step(point: Point) -> Bool[Array, ""]:
    """Whether equal requests of a server that prefills first end one by one in the end.

    They keep step in a run of ten waves, and few of them in a long one. Those that decode once
    always do: all decode when no prompt waits, and end then.
    """
    clients = jnp.asarray(point.length("concurrency"))
    many = (clients > KEEPS_STEP) & (jnp.asarray(point.decode_passes) > 1)
    if point.num_requests is None:
        return many
    return many & (jnp.asarray(point.num_requests) > LONG * clients)


def may_lose_step(point: Point) -> Bool[Array, ""]:
    """Whether nobody measured if equal requests with so many clients keep step."""
    first, singly = prefill_first(point), staggered(point)
    if first is None or singly is None:
        return jnp.asarray(False)
    clients = jnp.asarray(point.length("concurrency"))
    between = (clients > KEEPS_STEP) & (clients < LOSES_STEP)
    if point.num_requests is not None:
        between = between & (jnp.asarray(point.num_requests) > LONG * clients)
    varied = _varied(point)
    return singly & first & between & (True if varied is None else ~varied)


class Order(NamedTuple):
    """Order in which requests of a server start and end; `None` where nothing says so.

    Attributes:
        prefill_first: Whether iterations with prompts decode nothing.
        staggered: Whether requests of one length start one at a time.
        apart: Whether requests start and end one by one, as those of varied lengths do and equal
            ones that have lost step.
        lost: Whether equal requests have lost step.
        out_of_step: Whether a request finds an iteration running when it comes.
    """

    prefill_first: Bool[Array, ""] | None
    staggered: Bool[Array, ""] | None
    apart: Bool[Array, ""] | None
    lost: Bool[Array, ""] | None
    out_of_step: Bool[Array, ""] | None


def order_of(point: Point) -> Order:
    """Order in which requests of clients, or those that fill a server, start and end.

    Args:
        point: Lengths, scheduler and clients.
    """
    first, singly, varied = prefill_first(point), staggered(point), _varied(point)
    if singly is None:
        return Order(first, None, varied, None, None)
    if first is None:
        mixed, lost, apart = singly, None, varied
    else:
        mixed, lost = singly & ~first, singly & first & loses_step(point)
        apart = lost
        if varied is not None:
            lost, apart = lost & ~varied, lost | varied
    if apart is None:
        return Order(first, mixed, None, None, singly)
    return Order(first, mixed & ~apart, apart, lost, mixed | apart & singly)


def arriving_order(point: Point) -> Order:
    """Order in which requests that come one by one start and end.

    A server that prefills first then has prompts between the steps of others, and does not gather
    them as clients in step do.

    Args:
        point: Lengths and scheduler.
    """
    first, varied = prefill_first(point), _varied(point)
    apart = varied if first is None else first if varied is None else first | varied
    return Order(first, None, apart, None, None)


def _varied(point: Point) -> Bool[Array, ""] | None:
    """Whether lengths vary so much that requests end one by one; `None` where nothing says so."""
    deviation = stay_deviation(point)
    return None if deviation is None else jnp.asarray(deviation) >= LEAST_SPREAD
