"""The lower tail of gamma distributions, as exact as 32 bits allow for large shapes.

References:
    [1] Temme, "The asymptotic expansion of the incomplete gamma functions", SIAM Journal on
        Mathematical Analysis 10, 1979.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc

from sweep.kernel.stirling import Numbers, beyond_stirling, deviance

LARGE, NEAR = 20.0, 0.6
"""Shapes, and arguments over them, from which on the expansion for large shapes has six digits.
[1]"""
TERMS = 40
"""Terms of the series for smaller ones. [count]"""
FAR = 2.0
"""Arguments of the error function from which on its continued fraction has seven digits. [1]"""
FRACTIONS = 24
"""Steps of that fraction. [count]"""

State = TypeVar("State")


def lower_tail(shape: Numbers, used: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Probability P(a, x) for x = u · a below the mean, as a product. [1]

    Args:
        shape: The shape a, positive. [1]
        used: The argument x over it, from 0 to 1. [1]

    Returns:
        D = xᵃ e⁻ˣ / Γ(a + 1); P / D = 1 + x / (a + 1) + x² / ((a + 1) (a + 2)) + …; and
        (P − P(a + 1, x) / u) / D, where P(a + 1, x) is P − D: of the terms of that sum, the n-th
        times n / (a + n).
    """
    apart = deviance(shape * used, shape * (1 - used))
    point = jnp.exp(-apart - beyond_stirling(shape)) / jnp.sqrt(2 * jnp.pi * shape)
    series, excess = _series(shape, shape * used)
    large, near = _ratio(jnp.maximum(shape, LARGE), jnp.maximum(used, NEAR)), used >= NEAR
    beyond = jnp.maximum(1 - (1 - used) * large, 0.0) / jnp.maximum(used, NEAR)
    is_large = (shape >= LARGE) & near
    return point, jnp.where(is_large, large, series), jnp.where(is_large, beyond, excess)


def _series(shape: Numbers, x: Numbers) -> tuple[Numbers, Numbers]:
    """P / D and its excess, as in `lower_tail`, by the terms of their sums from the last on. [1]"""

    def one(term: Numbers, later: tuple[Numbers, Numbers]) -> tuple[Numbers, Numbers]:
        each = x / (shape + term)
        return 1 + each * later[0], term / (shape + term) + each * later[1]

    first: tuple[Numbers, Numbers] = jnp.ones_like(shape), jnp.zeros_like(shape)
    return from_the_last(TERMS, one, first)


def from_the_last(steps: int, one: Callable[[Numbers, State], State], first: State) -> State:
    """The result of `first` after steps that are counted down from `steps` to 1.

    A loop is a program of the size of one step, which takes less time to compile than all.
    """
    found: State = jax.lax.fori_loop(
        0, steps, lambda done, now: one(jnp.asarray(steps - done, float), now), first
    )
    return found


def _ratio(shape: Numbers, used: Numbers) -> Numbers:
    """P / D of a large shape and an argument near it, by Temme's expansion [1]. [1]"""
    half = jnp.maximum(deviance(used, 1 - used), 1e-24)
    eta = jnp.sqrt(2 * half)
    first = 1 / 3 + eta * (
        1 / 12 + eta * (2 / 135 + eta * (1 / 864 - eta * (1 / 2835 + eta * 139 / 777600)))
    )
    second = (1 / 540 - eta * (1 / 288 + eta / 378)) / shape
    lead = jnp.sqrt(jnp.pi * shape / 2) * _scaled_erfc(jnp.sqrt(shape * half))
    # The expansion is over D without what Stirling's formula lacks.
    return (lead + first + second) * jnp.exp(beyond_stirling(shape))


def _scaled_erfc(number: Numbers) -> Numbers:
    """Complement of the error function, times exp(y²), for y from 0 on. [1]"""
    near, far = jnp.minimum(number, FAR), jnp.maximum(number, FAR)
    fraction = from_the_last(FRACTIONS, lambda step, now: far + step / 2 / now, far)
    return jnp.where(number < FAR, erfc(near) * jnp.exp(near**2), 1 / (fraction * jnp.sqrt(jnp.pi)))
