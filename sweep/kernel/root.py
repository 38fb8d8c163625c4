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


class _Ends(NamedTuple):
    """An interval with a root, the function at its ends, and which of them moved last."""

    low: Scalar
    high: Scalar
    at_low: Scalar
    at_high: Scalar
    moved: Scalar


class _Search(NamedTuple):
    """Ends, and the last number between them with the function there.

    A compiler may compute the value again for every end that it decides about, each time with other
    rounding errors. What a round hands to the next is stored: all ends see the same value.
    """

    ends: _Ends
    number: Scalar
    value: Scalar


def root(function: Callable[[Scalar], Scalar], low: Scalar, high: Scalar, rounds: int) -> Scalar:
    """Number between two at which a function falls below 0; the higher one if it does not.

    The line through the function at both ends is 0 inside. An end that stays where it was for two
    rounds counts for less, so that the other does not creep [1]. Where the function is positive at
    both ends, the middle may have another sign.

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

    def narrower(now: _Search) -> _Ends:
        ends, number, value = now
        rises = value > 0
        # Between 0 and 1, but where the end is the root.
        less = 1 - value / jnp.where(rises, ends.at_low, ends.at_high)
        less = jnp.where((less > 0) & (less <= 1), less, 0.5)
        side = jnp.where(rises, 1.0, -1.0)
        again = (ends.moved * side > 0) & (ends.at_high <= 0)
        fewer = jnp.where(again, less, 1.0)
        return _Ends(
            low=jnp.where(rises, number, ends.low),
            high=jnp.where(rises, ends.high, number),
            at_low=jnp.where(rises, value, ends.at_low * fewer),
            at_high=jnp.where(rises, ends.at_high * fewer, value),
            moved=side,
        )

    def further(_: Array | int, now: _Search) -> _Search:
        ends = narrower(now)
        number = crossing(ends)
        return _Search(ends, number, function(number))

    ends = low, high, function(low), function(high)
    first = _Ends(*jnp.broadcast_arrays(*map(jnp.asarray, ends), jnp.zeros(())))
    start = _Search(first, number=first.low, value=first.at_low)
    last: _Search = jax.lax.fori_loop(0, rounds, further, start)
    return crossing(narrower(last))
