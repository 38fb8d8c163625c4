"""Requests of varied lengths, by the mean and the coefficient of variation of their lengths.

Requests that end at different times also start at different times: prompts no longer arrive in
lumps as those of equal requests do, but one by one, as in a closed network in which each of the
requests held starts again after iterations of its own. The number of prompts in an iteration is
then binomial, and near Poisson for many requests.

The work of a server depends on few moments of the lengths. A token that is decoded attends to the
prompt and to half of an output that is seen by its length, E[O²]/E[O] = O·(1 + c²) on average for
a mean O and a coefficient of variation c [1]; and attention over prompts grows with E[I²].

References:
    [1] Feller, "An Introduction to Probability Theory and Its Applications", volume II, XI.4.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from sweep.kernel.acceptance import yield_variance
from sweep.kernel.cycle import Cycle
from sweep.kernel.operators.any_of import any_of
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point

LEAST_SPREAD = 0.2
"""Standard deviation of the iterations of a request from which requests that start together no
longer end together; lengths are integers. [count]"""
COUNTED = 12
"""Chunks of a prompt that are counted one by one. [count]"""
NODES = 9
"""Equally likely lengths that stand for all of a distribution. [count]"""
HALVINGS = 30
"""Halvings of an interval that contains a root."""


def stay_deviation(point: Point) -> Scalar | None:
    """Standard deviation of the iterations of a request; `None` if all are alike. [count]

    Outputs of varied lengths, prompts that take several iterations, and drafts of which some are
    accepted each add to it. The passes until a sequence has n tokens vary as those of a renewal
    process, by n·Var[X]/E[X]³ for a yield X [1].

    Args:
        point: Lengths, their spread, drafts and limits of an iteration.

    References:
        [1] Feller, "An Introduction to Probability Theory and Its Applications", volume II, XI.1.
    """
    if point.isl_cv is None and point.osl_cv is None and point.draft_tokens is None:
        return None
    squared, steps = jnp.zeros(()), point.length("osl") - 1
    if point.osl_cv is not None:
        squared = squared + (point.osl_cv * steps / point.tokens_per_pass) ** 2
    if point.isl_cv is not None:
        squared = squared + (point.isl_cv * point.new_tokens / point.server.max_num_tokens) ** 2
    if point.draft_tokens is not None:
        varied = yield_variance(point.draft_tokens, point.accepted)
        squared = squared + steps * varied / point.tokens_per_pass**3
    return jnp.sqrt(squared)


def log_deviation(variation: Scalar) -> Scalar:
    """Standard deviation of the logarithm of a lognormal length. [1]

    Args:
        variation: Coefficient of variation of the length. [1]
    """
    return jnp.sqrt(jnp.log1p(variation**2))


def likely_lengths(variation: Scalar) -> Float[Array, "nodes"]:
    """Equally likely lengths over the mean, whose own mean is 1: means of parts of a lognormal. [1]

    The part from quantile p to q has the mean Φ(z_q − σ) − Φ(z_p − σ) over q − p.

    Args:
        variation: Coefficient of variation of the length. [1]
    """
    ends = ndtri(jnp.arange(NODES + 1) / NODES)
    return NODES * jnp.diff(ndtr(ends - log_deviation(variation)))


def chunks_of(chunks: Scalar, variation: Scalar) -> Scalar:
    """Iterations that a prompt of lognormal length takes on average. [count]

    Lengths are rounded up. It is 1 and the sum of the probabilities of more than 1, 2 and so on.

    Args:
        chunks: Mean length over the tokens of an iteration. [1]
        variation: Coefficient of variation of the length. [1]
    """
    deviation = jnp.maximum(log_deviation(variation), 1e-4)
    log_median = jnp.log(jnp.maximum(chunks, 1e-9)) - deviation**2 / 2
    numbers = jnp.arange(1, COUNTED + 1)
    counted = 1 + jnp.sum(ndtr((log_median - jnp.log(numbers) - 5e-4) / deviation))
    return jnp.where(chunks < COUNTED, counted, chunks + 0.5)


def started(
    residents: Scalar, stay: Scalar, most: Scalar, fill: Scalar, variation: Scalar
) -> tuple[Scalar, Scalar]:
    """Requests that start in an iteration, and iterations that each waits for room.

    Each of the requests held starts every `stay` iterations and those it waits. Prompts wait as in
    a queue whose service has their variation: M/G/1 if one takes several iterations, and M/G/m by
    the approximation of Sakasegawa [1] where an iteration has room for m; what waits is one of the
    others. Both decide one another, so bisection finds them.

    Args:
        residents: Requests held. [count]
        stay: Iterations that a request is worked on. [count]
        most: Requests whose tokens fill all iterations. [count]
        fill: Prompts for which an iteration has room. [count]
        variation: Coefficient of variation of the prompts. [1]

    References:
        [1] Sakasegawa, "An approximation formula L_q ≈ α·ρ^β/(1−ρ)", Annals of the Institute of
            Statistical Mathematics 29, 1977.
    """

    def waited(number: Scalar) -> tuple[Scalar, Scalar]:
        used = jnp.minimum(number / most * (residents - 1) / residents, 1 - 1e-6)
        rarely = used ** (jnp.sqrt(2 * (jnp.maximum(fill, 1.0) + 1)) - 1)
        return rarely * (1 + variation**2) / (2 * fill * (1 - used)), 1 - used

    def halve(_: Array | int, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = ends
        middle = (low + high) / 2
        more = middle * (stay + waited(middle)[0]) < residents
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    highest = jnp.minimum(residents / stay, most)
    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(highest), highest))
    number = (low + high) / 2
    # The same wait in two ways: what the others leave of the time between two starts, and by its
    # formula. The first keeps more digits near full iterations, the second after a long stay.
    wait, left = waited(number)
    spare = jnp.maximum(residents / number - stay, 0.0)
    is_full = (number >= (1 - 1e-6) * most) | (wait * number > left * residents)
    return number, jnp.where(is_full, spare, wait)


def spread_cycle(
    residents: Scalar,
    isl: Scalar,
    osl: Scalar,
    max_num_tokens: Scalar,
    pass_tokens: Scalar,
    variation: Scalar,
) -> Cycle:
    """Compute the mean iterations of `residents` requests of varied lengths.

    They start and end one by one, and not together. Of 4 requests that stay 10 iterations each, one
    of which prefills, 0.4 start in an iteration on average, and none in 0.9⁴ of them.

    Args:
        residents: Requests held. [count]
        isl: Mean input tokens of each that are not in the cache. [count]
        osl: Mean output tokens of each; with drafts, iterations that yield some. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        pass_tokens: Tokens that a sequence takes while it decodes. [count]
        variation: Coefficient of variation of the prompts. [1]
    """
    steps = osl - 1
    room = max_num_tokens - pass_tokens * jnp.maximum(residents - 1, 0.0)
    most = max_num_tokens / (isl + pass_tokens * steps)
    room = jnp.maximum(room, most * isl)
    fill = room / isl
    chunks = chunks_of(1 / fill, variation)
    number, waited = started(residents, chunks + steps, most, fill, variation)
    # Share of the iterations that the others fill, and of those with tokens of one's own prompt.
    used = jnp.minimum(number / most, 1.0) * (residents - 1) / residents
    each = jnp.minimum(number / residents * chunks, 1.0)
    backlog = used ** jnp.sqrt(2 * (jnp.maximum(fill, 1.0) + 1))
    some = backlog + (1 - backlog) * any_of(residents, each)
    full = number * (chunks + used * (1 / fill - chunks))
    lumps = jnp.clip(jnp.where(fill >= 1, some, full), number / jnp.maximum(fill, 1.0), 1.0)
    others = backlog + (1 - backlog) * any_of(jnp.maximum(residents - 1, 0.0), each)
    interrupted = steps * jnp.where(fill >= 1, others, full * (residents - 1) / residents)
    # All requests held, without those that prefill or wait: (number · steps − (1 − lumps) ·
    # residents) / lumps, of which long outputs would leave no digits.
    beside = residents - number * (chunks + waited) / lumps
    return Cycle(
        residents=residents,
        chunk=isl / chunks,
        chunks=chunks,
        lump=number * isl / lumps,
        lumps=lumps,
        decoding_beside=jnp.maximum(beside, 0.0),
        decoding_alone=residents,
        started=number,
        stay=chunks + steps,
        waited=waited,
        interrupted=interrupted,
        undisturbed=steps - interrupted,
    )


def spread_prefill_first_cycle(
    residents: Scalar,
    isl: Scalar,
    osl: Scalar,
    max_num_tokens: Scalar,
    variation: Scalar,
    poll_interval: Scalar = 1.0,
) -> Cycle:
    """Compute the mean iterations where iterations with prompts decode nothing.

    All requests decode between them, and one of them ends in a decode step with probability
    1/(osl − 1). Prompts start in the next iteration, as many at once as it has room for.

    Args:
        residents: Requests held. [count]
        isl: Mean input tokens of each. [count]
        osl: Mean output tokens of each. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        variation: Coefficient of variation of the prompts. [1]
        poll_interval: Decode steps after which new prompts are looked for. [count]
    """
    steps = jnp.maximum(osl - 1, 1.0)
    fill, number = max_num_tokens / isl, residents / steps
    chunks = chunks_of(1 / fill, variation)
    some = any_of(residents * poll_interval, 1 / steps) / poll_interval
    some = jnp.maximum(some * chunks, number / fill)
    prefills = jnp.where(fill >= 1, some, number * chunks)
    before = (residents - 1) / residents * number * poll_interval / 2
    waited = jnp.where(fill >= 1, before / jnp.maximum(fill, 1.0), before * chunks)
    return Cycle(
        residents=residents,
        chunk=isl / chunks,
        chunks=chunks,
        lump=number * isl / prefills,
        lumps=prefills / (1 + prefills),
        decoding_beside=jnp.zeros_like(number),
        decoding_alone=residents,
        started=number / (1 + prefills),
        stay=chunks + steps * (1 + prefills),
        waited=jnp.where((fill >= 1) & (number * poll_interval < fill), 0.0, waited),
        interrupted=prefills * steps,
        undisturbed=steps,
    )


def seen_by_a_prompt(
    found: Cycle,
    isl: Scalar,
    max_num_tokens: Scalar,
    prefill_first: Array | None,
    poll_interval: Scalar = 1.0,
) -> Scalar:
    """Prompts beyond the mean in the iterations of a prompt, as that prompt sees them. [count]

    A prompt sees itself and the others that start with it.

    Args:
        found: The mean iterations.
        isl: Mean input tokens of each. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        prefill_first: Whether iterations with prompts decode nothing; no if not given.
        poll_interval: Decode steps after which new prompts are looked for. [count]
    """
    fill, number = max_num_tokens / isl, found.started
    # In all of the iterations that carry it.
    mean = found.lump / found.chunk
    # Those behind it come as far as there is room, and those before it, half of them, anyway.
    first: Scalar = 0.5
    if prefill_first is not None:
        a_step = found.lump / isl * found.lumps / jnp.maximum(1 - found.lumps, 1e-9)
        number = jnp.where(prefill_first, a_step * poll_interval, number)
        # Those that an iteration has no room for are waited for.
        first = jnp.where(prefill_first & (found.waited > 0), 0.0, first)
    others = number * (found.residents - 1) / found.residents
    room = jnp.maximum(fill * isl / found.chunk, 1 + first * others)
    return jnp.where(fill >= 1, jnp.minimum(1 + others, room) - mean, 0.0)
