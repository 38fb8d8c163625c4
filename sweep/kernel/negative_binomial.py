"""The negative binomial distribution, with the digits of 32 bits that large numbers leave.

Sums of logarithms of gamma functions have none: that of 2,000 is 13,000, of which 32 bits keep
0.001. Probabilities are therefore those of Stirling's formula, times what it lacks and how far a
number is from the mean [1], and tails are continued fractions of them.

References:
    [1] Loader, "Fast and Accurate Computation of Binomial Probabilities", 2000.
    [2] Press et al., "Numerical Recipes in C", 2nd edition, section 6.4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from sweep.kernel.operators.cost import Scalar

LARGE = 8.0
"""Numbers from which on the series of what Stirling's formula lacks has seven digits."""
SMALL = 0.1
"""Relative distances up to which the series of a deviance has seven digits. [1]"""
TERMS = 9
"""Terms of that series. [count]"""
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
        _beyond_stirling(total)
        - _beyond_stirling(number)
        - _beyond_stirling(shape)
        - _deviance(total * odds, distance)
        - _deviance(total * rest, -distance)
        + jnp.log(shape / (2 * jnp.pi * number * total)) / 2
    )


def _beyond_stirling(number: Scalar) -> Scalar:
    """Logarithm of n! over Stirling's formula √(2πn) (n/e)ⁿ. [1]"""
    small = jnp.minimum(number, LARGE)
    direct = gammaln(small + 1) - (small + 0.5) * jnp.log(small) + small
    direct = direct - jnp.log(2 * jnp.pi) / 2
    inverse = 1 / jnp.maximum(number, LARGE)
    series = inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 / 1260))
    return jnp.where(number < LARGE, direct, series)


def _deviance(mean: Scalar, distance: Scalar) -> Scalar:
    """Deviance of a number x from its mean m, x · log(x / m) − (x − m). [1]"""
    relative = distance / mean
    near = jnp.clip(relative, -SMALL, SMALL)
    series = jnp.zeros_like(near)
    for power in range(TERMS + 1, 1, -1):
        series = (-1) ** power / (power * (power - 1)) + near * series
    far = jnp.maximum(relative, -1 + 1e-7)
    direct = (1 + far) * jnp.log1p(far) - far
    return mean * jnp.where(jnp.abs(relative) < SMALL, near**2 * series, direct)


class _Steps(NamedTuple):
    """State of a continued fraction."""

    step: Scalar
    above: Scalar
    below: Scalar
    value: Scalar
    change: Scalar


def _fraction(a: Scalar, b: Scalar, x: Scalar) -> Scalar:
    """Continued fraction of the incomplete beta function, by Lentz's method [2]. [1]

    It is I(x; a, b) · a · B(a, b) / (xᵃ · (1 − x)ᵇ).
    """
    a, b, x = jnp.broadcast_arrays(*map(jnp.asarray, (a, b, x)))
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
