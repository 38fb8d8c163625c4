"""The cycle of a server: of the kinds of cycles the one that its scheduler and lengths make."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from sweep.kernel.cycle import Cycle, cycle, prefill_first_cycle
from sweep.kernel.gates import looks_apart
from sweep.kernel.keeps_step import Order
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.spread import spread_cycle, spread_prefill_first_cycle, stay_deviation
from sweep.kernel.staggered import staggered_cycle

Sizes = tuple[Scalar, Scalar, Scalar, Scalar, Scalar]
"""Requests held, tokens in and out, tokens of an iteration and of a sequence in it. [count]"""


def server_cycle(point: Point, order: Order, residents: Scalar) -> Cycle:
    """Compute the mean iterations of one microbatch of one attention group.

    Args:
        point: Lengths, their spread, drafts, and limits of an iteration.
        order: The order in which its requests start and end.
        residents: Requests that it holds. [count]
    """
    steps, limit = point.decode_passes, point.server.max_num_tokens
    sizes = residents, point.new_tokens, 1 + steps, limit, point.pass_tokens
    found = cycle(*sizes)
    if order.staggered is not None:
        found = _where(order.staggered, staggered_cycle(*sizes), found)
    if order.prefill_first is not None:
        found = _where(order.prefill_first, prefill_first_cycle(*sizes[:4]), found)
    if order.apart is not None:
        found = _where(order.apart, _one_by_one(point, order, sizes), found)
    return found


def _one_by_one(point: Point, order: Order, sizes: Sizes) -> Cycle:
    """Mean iterations of requests that start and end one by one."""
    variation = 0.0 if point.isl_cv is None else point.isl_cv
    if order.prefill_first is None:
        return spread_cycle(*sizes, variation)
    first = spread_prefill_first_cycle(*sizes[:4], variation, looks_apart(point))
    if stay_deviation(point) is None:
        # Equal requests lose step only where prompts come first.
        return first
    return _where(order.prefill_first, first, spread_cycle(*sizes, variation))


def _where(holds: Bool[Array, ""], chosen: Cycle, other: Cycle) -> Cycle:
    found: Cycle = jax.tree.map(partial(jnp.where, holds), chosen, other)
    return found
