"""Sums over decode steps, whose context grows by a token each, in closed form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operator_time import Pricing
from sweep.kernel.operators.cost import Scalar, is_nothing


def sum_of_larger(
    one: tuple[Scalar, Scalar], other: tuple[Scalar, Scalar], first: Scalar, terms: Scalar
) -> Scalar:
    """Sum of max(a₁ + b₁·x, a₂ + b₂·x) over `terms` integers x from `first` on.

    The line of smaller slope is the larger one up to the crossing, the other beyond it. For
    max(x, 3) over the five integers from 1 the sum is 3 + 3 + 3 + 4 + 5 = 18. Terms are counted
    from the first, so that float32 stays exact far beyond the lengths it can count to.

    Args:
        one: Intercept a₁ and slope b₁.
        other: Intercept a₂ and slope b₂.
        first: First integer.
        terms: How many; none or fewer sum to 0. [count]
    """
    (a1, b1), (a2, b2) = one, other
    at1, at2 = a1 + b1 * first, a2 + b2 * first
    flat_first = (b1 < b2) | ((b1 == b2) & (at1 >= at2))
    at_flat, flat = jnp.where(flat_first, at1, at2), jnp.where(flat_first, b1, b2)
    at_steep, steep = jnp.where(flat_first, at2, at1), jnp.where(flat_first, b2, b1)
    parallel = steep == flat
    slope = jnp.where(parallel, 1.0, steep - flat)
    crossing = jnp.where(parallel, jnp.inf, (at_flat - at_steep) / slope)
    terms = jnp.maximum(terms, 0.0)
    before = jnp.clip(jnp.floor(crossing) + 1, 0.0, terms)
    after = terms - before
    return _affine_sum(at_flat, flat, before) + _affine_sum(at_steep + steep * before, steep, after)


def _affine_sum(start: Scalar, slope: Scalar, terms: Scalar) -> Scalar:
    return terms * (start + slope * (terms - 1) / 2)


APART = 2.0**20
"""Distance of the two contexts whose difference is a slope: beside what does not grow, a single
token would leave few digits of 32 bits. [count]"""


def growing_seconds(
    pricing: Pricing, block: Block, name: str, first: Scalar, terms: Scalar
) -> Scalar:
    """Sum over contexts of an operator's time, whose resources are affine in the context."""
    at_zero, far = (
        pricing.seconds(block, name, attended) for attended in (jnp.zeros(()), jnp.full((), APART))
    )
    slope = jax.tree.map(lambda one, other: (one - other) / APART, far, at_zero)

    def total(start: Scalar, count: Scalar) -> Scalar:
        memory, compute = (at_zero.memory, slope.memory), (at_zero.compute, slope.compute)
        larger = sum_of_larger(memory, compute, start, count)
        if is_nothing(at_zero.unhidden) and is_nothing(at_zero.overhead):
            return larger
        both = _affine_sum(
            memory[0] + compute[0] + (memory[1] + compute[1]) * start, memory[1] + compute[1], count
        )
        return larger + at_zero.unhidden * (both - larger) + at_zero.overhead * count

    attention = OPERATORS[name].attention
    if attention is None or attention.span == "buffer":
        return total(first, terms)
    if attention.span == "chunk":
        return _sum_over_chunks(total, first, terms, attention.limit(block))

    def reached(start: Scalar, count: Scalar) -> Scalar:
        """The sum over `count` numbers of entries from `start` on, as far as they are reached."""
        if attention.span == "all":
            return total(start, count)
        limit = attention.limit(block)
        within = jnp.clip(limit - start + 1, 0.0, count)
        return total(start, within) + (count - within) * total(limit, 1.0)

    if attention.tokens_per_entry is None:
        return reached(first, terms)
    return _sum_over_entries(reached, first, terms, attention.tokens_per_entry(block))


def _sum_over_chunks(
    total: Callable[[Scalar, Scalar], Scalar], first: Scalar, terms: Scalar, chunk: Scalar
) -> Scalar:
    """Sum over steps that attend to their own chunk only: a rest, whole chunks, a rest."""
    begun = jnp.mod(first - 1, chunk)
    finishing = jnp.minimum(terms, chunk - begun)
    whole = jnp.floor((terms - finishing) / chunk)
    rest = terms - finishing - whole * chunk
    return total(begun + 1, finishing) + whole * total(1.0, chunk) + total(1.0, rest)


def _sum_over_entries(
    total: Callable[[Scalar, Scalar], Scalar], first: Scalar, terms: Scalar, tokens: Scalar
) -> Scalar:
    """Sum over steps that attend to an entry for every `tokens` tokens: a stair with such treads.

    With 4 tokens an entry, 6 steps from 7 tokens on attend to 1, 2, 2, 2, 2 and 3 entries.
    """
    lowest = jnp.floor(first / tokens)
    finishing = jnp.clip(tokens - jnp.mod(first, tokens), 0.0, jnp.maximum(terms, 0.0))
    whole = jnp.floor((terms - finishing) / tokens)
    rest = terms - finishing - whole * tokens
    return (
        finishing * total(lowest, 1.0)
        + tokens * total(lowest + 1, whole)
        + rest * total(lowest + 1 + whole, 1.0)
    )
