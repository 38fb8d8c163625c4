"""Chance that any of several things happens, without a difference of two numbers near 1."""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Scalar


def any_of(number: Scalar, share: Scalar) -> Scalar:
    """Chance of any of `number` independent events: 1 − (1 − p)ⁿ. [1]

    Of four requests of which each is in a tenth of the iterations, 1 − 0.9⁴ = 0.34 have one. With
    z = −n·log(1 − p) it is 1 − e⁻ᶻ = 2t/(1 + t) of t = tanh(z/2): XLA computes tanh for many cells
    at once, but log1p and expm1 for one after another.

    Args:
        number: Events. [count]
        share: Chance of each. [1]
    """
    always = share >= 1
    rarely = jnp.tanh(number * _never(jnp.where(always, 0.0, share)) / 2)
    return jnp.where(always, jnp.where(number > 0, 1.0, 0.0), 2 * rarely / (1 + rarely))


def _never(share: Scalar) -> Scalar:
    """−log(1 − p), to the last digits of a small p too [1].

    References:
        [1] Goldberg, "What every computer scientist should know about floating-point arithmetic",
            Computing Surveys 23(1), 1991, theorem 4.
    """
    left = jnp.asarray(1 - share)
    tiny = left == 1
    return jnp.where(tiny, share, -jnp.log(left) * share / jnp.where(tiny, 1.0, 1 - left))
