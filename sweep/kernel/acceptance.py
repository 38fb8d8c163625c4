"""Tokens that a pass of speculative decoding yields, in expectation.

A pass verifies k drafted tokens and yields one more than the first of them that are accepted. Each
is accepted with probability a, independently of the others, which is the model of [1].

References:
    [1] Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding",
        ICML 2023.
"""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Scalar

CONVEX_STEPS, LAST_STEPS = 10, 2
"""Steps of Newton's method for the probability of acceptance, of each of two equations. [count]"""
MOST_DRAFT_TOKENS = 32
"""Largest number of drafted tokens. [count]"""


def _moments(draft_tokens: Scalar, acceptance_rate: Scalar) -> tuple[Scalar, Scalar]:
    """Sums of a^j and of j·a^j for j from 0 to k."""
    power, total, weighted = jnp.ones(()), jnp.ones(()), jnp.zeros(())
    for j in range(1, MOST_DRAFT_TOKENS + 1):
        power = power * acceptance_rate
        term = jnp.where(j <= draft_tokens, power, 0.0)
        total, weighted = total + term, weighted + j * term
    return total, weighted


def tokens_per_pass(draft_tokens: Scalar, acceptance_rate: Scalar) -> Scalar:
    """Tokens that a pass yields: (1 − a^(k+1))/(1 − a), equation 1 of [1]. [count]

    It is added up term by term, which is exact for a = 1 too. Three drafted tokens of which each is
    accepted with probability 0.5 yield 1 + 0.5 + 0.25 + 0.125 = 1.875.

    Args:
        draft_tokens: Tokens drafted for each pass, `MOST_DRAFT_TOKENS` at most. [count]
        acceptance_rate: Probability that one is accepted. [1]

    References:
        [1] Leviathan et al., ICML 2023.
    """
    return _moments(draft_tokens, acceptance_rate)[0]


def acceptance_of(draft_tokens: Scalar, tokens: Scalar) -> Scalar:
    """Probability a that a drafted token is accepted, from the tokens L that a pass yields. [1]

    (1 − a)·L − 1 + a^(k+1) is convex in a and 0 at the probability and at 1. Newton's steps from
    1 − 1/L, which the probability exceeds, rise towards it. Where both zeros meet, at L = k + 1,
    they only halve the distance; the last steps solve Σ a^j = L, whose slope is never 0. Three
    drafted tokens of which 0.875 more than one are yielded have a = 0.5.

    Args:
        draft_tokens: Tokens k drafted for each pass, `MOST_DRAFT_TOKENS` at most. [count]
        tokens: Tokens that a pass yields, from 1 to k + 1. [count]
    """
    drafted = jnp.maximum(draft_tokens, 1.0)
    found = 1 - 1 / tokens
    for _ in range(CONVEX_STEPS):
        power = found**drafted
        height = (1 - found) * tokens - 1 + found * power
        slope = tokens - (drafted + 1) * power
        found = jnp.clip(found + height / jnp.maximum(slope, 1e-6), 0.0, 1.0)
    for _ in range(LAST_STEPS):
        total, weighted = _moments(drafted, found)
        slope = jnp.where(found > 0, weighted / jnp.maximum(found, 1e-12), 1.0)
        found = jnp.clip(found - (total - tokens) / slope, 0.0, 1.0)
    return jnp.where(draft_tokens > 0, found, 0.0)


def yield_variance(draft_tokens: Scalar, acceptance_rate: Scalar) -> Scalar:
    """Variance of the tokens that a pass yields: Σ(2j + 1)·a^j − (Σ a^j)². [1]

    It is 0 if all drafted tokens are accepted or none. One drafted token yields 1 or 2 tokens; with
    probability 0.5 of each the variance is 0.25.

    Args:
        draft_tokens: Tokens drafted for each pass. [count]
        acceptance_rate: Probability that one is accepted. [1]
    """
    mean, weighted = _moments(draft_tokens, acceptance_rate)
    return jnp.maximum(2 * weighted + mean - mean**2, 0.0)


def passes(tokens: Scalar, draft_tokens: Scalar, acceptance_rate: Scalar) -> Scalar:
    """Passes until a sequence has `tokens` more tokens, in expectation. [count]

    The last pass may yield more than are still wanted. By Wald's identity the passes times the
    mean yield are the tokens and that excess, whose mean for many tokens is
    (E[X²] − E[X])/(2·E[X]) for a yield X, or Σ j·a^j / Σ a^j here [1].

    Args:
        tokens: Tokens wanted. [count]
        draft_tokens: Tokens drafted for each pass. [count]
        acceptance_rate: Probability that one is accepted. [1]

    References:
        [1] Feller, "An Introduction to Probability Theory and Its Applications", vol. II, XI.4.
    """
    mean, weighted = _moments(draft_tokens, acceptance_rate)
    expected = (tokens + weighted / mean) / mean
    return jnp.where(tokens > 0, jnp.maximum(expected, jnp.minimum(tokens, 1.0)), 0.0)
