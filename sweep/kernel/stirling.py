"""Stirling's formula, what it lacks, and deviances: sums of logarithms of gamma functions.

Such sums have no digits left in 32 bits: the logarithm of 2,000! is 13,200, of which 32 bits keep
0.001. Probabilities are therefore written as Stirling's formula, times what it lacks and how far a
number is from the mean [1].

References:
    [1] Loader, "Fast and Accurate Computation of Binomial Probabilities", 2000.
"""

from math import prod

import jax.numpy as jnp
from jaxtyping import Array, Float

Numbers = Float[Array, "..."] | float
"""One number, or several."""
LARGE = 8
"""Numbers from which on the series of what Stirling's formula lacks has seven digits."""
SMALL = 0.1
"""Relative distances up to which the series of a deviance has seven digits. [1]"""
TERMS = 9
"""Terms of that series. [count]"""


def beyond_stirling(number: Numbers) -> Numbers:
    """Logarithm of n! over Stirling's formula √(2πn) (n/e)ⁿ. [1]"""
    is_small = number < LARGE
    # A small one by the series of a number that is larger by as many factors.
    large = jnp.where(is_small, number + LARGE, number)
    inverse = 1 / large
    series = inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 / 1260))
    small = jnp.minimum(number, LARGE)
    factors = prod(small + each for each in range(1, LARGE + 1))
    more = (small + 0.5) * jnp.log1p(LARGE / small) + LARGE * jnp.log(small + LARGE)
    return series + jnp.where(is_small, more - LARGE - jnp.log(factors), 0.0)


def deviance(mean: Numbers, distance: Numbers) -> Numbers:
    """Deviance of a number x from its mean m, x · log(x / m) − (x − m). [1]

    Args:
        mean: The mean m. [1]
        distance: By how much the number is larger. [1]
    """
    relative = distance / mean
    near = jnp.clip(relative, -SMALL, SMALL)
    series = jnp.zeros_like(near)
    for power in range(TERMS + 1, 1, -1):
        series = (-1) ** power / (power * (power - 1)) + near * series
    far = jnp.maximum(relative, -1 + 1e-7)
    direct = (1 + far) * jnp.log1p(far) - far
    return mean * jnp.where(jnp.abs(relative) < SMALL, near**2 * series, direct)
