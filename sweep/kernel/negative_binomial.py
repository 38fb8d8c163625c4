"""The negative binomial distribution, with the digits of 32 bits that large numbers leave.

Tails are continued fractions of Stirling's formula.

References:
    [1] Press et al., "Numerical Recipes in C", 2nd edition, section 6.4.
"""

import jax.numpy as jnp
from jaxtyping import Array

from sweep.kernel.gamma_tail import from_the_last
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.stirling import beyond_stirling, deviance


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


def _fraction(a: Scalar, b: Scalar, x: Scalar) -> Scalar:
    """Continued fraction of the incomplete beta function [1]. [1]

    It is I(x; a, b) · a · B(a, b) / (xᵃ · (1 − x)ᵇ). What is left of it after the last step is
    that of two steps which repeat for ever, and nearly do.
    """
    a, b, x = jnp.broadcast_arrays(*map(jnp.asarray, (a, b, x)))
    # Half as many as the type has bits.
    steps = 4 * x.dtype.itemsize

    def odd(m: Scalar) -> Scalar:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))

    def even(m: Scalar) -> Scalar:
        return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))

    def one(m: Scalar, later: Array) -> Array:
        return jnp.asarray(1 + even(m) / (1 + odd(m) / later))

    last = jnp.asarray(steps + 1, x.dtype)
    half = (1 + even(last) - odd(last)) / 2
    left = half + jnp.sqrt(jnp.maximum(half**2 + odd(last), 0.0))
    return 1 / (1 + odd(0.0) / from_the_last(steps, one, left))
