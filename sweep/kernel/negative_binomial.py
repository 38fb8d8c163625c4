"""The negative binomial distribution, with the digits of 32 bits that large numbers leave.

Tails are continued fractions of Stirling's formula.

References:
    [1] Press et al., "Numerical Recipes in C", 2nd edition, section 6.4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sweep.kernel.operators.cost import Scalar
from sweep.kernel.stirling import beyond_stirling, deviance

FRACTIONS = 400
"""Most steps of a continued fraction. [count]"""
LEAST = 1e-30
"""Stands for a denominator of 0."""


def share_waiting(number: Scalar, shape: Scalar, odds: Scalar, falling: Scalar) -> Scalar:
    """Probability that a number is reached or exceeded, if it falls geometrically from there. [1]

    Numbers below n are negative binomial, in proportion to P(k) = Γ(k + s) / (k! Γ(s)) · oᵏ ·
    (1 − o)ˢ; n and more have the sum P(n) / f. For a shape of 1 and o = 1 − f these are one
    geometric distribution, whose share is oⁿ.

    Args:
        number: n, positive, whole or not. [count]
        shape: Its shape s. [1]
        odds: Ratio o of successive probabilities at large numbers, below 1. [1]
        falling: 1 less the ratio f of those from n on. [1]
    """
    rest = 1 - odds
    log_point = _log_probability(number, shape, odds, rest)
    # Of the two tails the continued fraction has the one that is not nearly all.
    low = rest < (shape + 1) / (shape + number + 2)
    tail = _fraction(
        jnp.where(low, shape, number), jnp.where(low, number, shape), jnp.where(low, rest, odds)
    )
    # Those below n over P(n).
    inverse = jnp.exp(jnp.minimum(-log_point, 80.0))
    below = jnp.where(low, number / shape * tail, jnp.maximum(inverse - tail, 0.0))
    return 1 / (1 + falling * below)


def _log_probability(number: Scalar, shape: Scalar, odds: Scalar, rest: Scalar) -> Scalar:
    """Logarithm of Γ(n + s) / (n! Γ(s)) · oⁿ · (1 − o)ˢ. [1]"""
    total = number + shape
    distance = number * rest - shape * odds
    return (
        beyond_stirling(total)
        - beyond_stirling(number)
        - beyond_stirling(shape)
        - deviance(total * odds, distance)
        - deviance(total * rest, -distance)
        + jnp.log(shape / (2 * jnp.pi * number * total)) / 2
    )


class _Steps(NamedTuple):
    """State of a continued fraction."""

    step: Scalar
    above: Scalar
    below: Scalar
    value: Scalar
    change: Scalar


def _fraction(a: Scalar, b: Scalar, x: Scalar) -> Scalar:
    """Continued fraction of the incomplete beta function, by Lentz's method [1]. [1]

    It is I(x; a, b) · a · B(a, b) / (xᵃ · (1 − x)ᵇ).
    """
    a, b, x = jnp.broadcast_arrays(*map(jnp.asarray, (a, b, x)))
    # JAX has no types for `finfo`.
    precision = jnp.finfo(x.dtype).eps  # type: ignore[no-untyped-call]

    def inverse(value: Scalar) -> Scalar:
        return jnp.where(jnp.abs(value) < LEAST, LEAST, value)

    def further(now: _Steps, factor: Scalar) -> _Steps:
        below = 1 / inverse(1 + factor * now.below)
        above = inverse(1 + factor / now.above)
        change = above * below
        return _Steps(now.step, above, below, now.value * change, change)

    def one(now: _Steps) -> _Steps:
        m = now.step
        now = further(now, m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)))
        factor = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        return further(now, factor)._replace(step=m + 1)

    def goes_on(now: _Steps) -> Scalar:
        return (now.step < FRACTIONS) & (jnp.abs(now.change - 1) > precision)

    ones = jnp.ones_like(x)
    first = 1 / inverse(1 - (a + b) * x / (a + 1))
    found: _Steps = jax.lax.while_loop(goes_on, one, _Steps(ones, ones, first, first, ones * 2))
    return found.value
