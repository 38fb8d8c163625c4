"""Roots of falling functions, by the same few evaluations at every point.

References:
    [1] Anderson and Björck, "A new high order method of regula falsi type for computing a root of
        an equation", BIT Numerical Mathematics 13, 1973.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sweep.kernel.operators.cost import Scalar

ROUNDING = 4
"""Values that are rounding errors, over those of the least end and the digits of a number. [1]"""
LEAST_WEIGHT = 0.1
"""Least factor by which an end counts for less; half in place of a smaller one. [1]"""


class _Ends(NamedTuple):
    """An interval with a root, the function at its ends, and which of them moved last."""

    low: Scalar
    high: Scalar
    at_low: Scalar
    at_high: Scalar
    moved: Scalar


def root(function: Callable[[Scalar], Scalar], low: Scalar, high: Scalar, rounds: int) -> Scalar:
    """Number between two at which a function falls below 0; the higher one if it does not.

    The line through the function at both ends is 0 inside. An end that stays where it was for two
    rounds counts for less, so that the other does not creep [1]. Where the function is positive at
    both ends, the middle may have another sign. A value that is nothing but rounding ends the
    search: to weigh an end by such values would lead anywhere.

    Args:
        function: A function that is not negative at `low`.
        low: Lower end.
        high: Higher end.
        rounds: Evaluations, beside those at both ends.
    """

    def crossing(now: _Ends) -> Scalar:
        fell = now.at_low - now.at_high
        share = now.at_low / jnp.where(fell > 0, fell, 1.0)
        inside = now.low + (now.high - now.low) * jnp.clip(share, 0.0, 1.0)
        outside = jnp.where(now.low > low, now.high, (now.low + now.high) / 2)
        return jnp.where(now.at_high > 0, outside, inside)

    def narrower(_: Array | int, now: _Ends) -> _Ends:
        number = crossing(now)
        value = function(number)
        found = jnp.abs(value) <= noise
        rises = value > 0
        less = 1 - value / jnp.where(rises, now.at_low, now.at_high)
        less = jnp.where(less > LEAST_WEIGHT, less, 0.5)
        side = jnp.where(rises, 1.0, -1.0)
        fewer = jnp.where((now.moved == side) & (now.at_high <= 0), less, 1.0)
        return _Ends(
            low=jnp.where(rises | found, number, now.low),
            high=jnp.where(rises & ~found, now.high, number),
            at_low=jnp.where(rises, value, now.at_low * fewer),
            at_high=jnp.where(rises, now.at_high * fewer, value),
            moved=side,
        )

    ends = low, high, function(low), function(high)
    first = _Ends(*jnp.broadcast_arrays(*map(jnp.asarray, ends), jnp.zeros(())))
    least = jnp.asarray(jnp.minimum(jnp.abs(first.at_low), jnp.abs(first.at_high)))
    noise = ROUNDING * 2.0 ** (-52 if least.dtype.itemsize == 8 else -23) * least
    last: _Ends = jax.lax.fori_loop(0, rounds, narrower, first)
    return crossing(last)
