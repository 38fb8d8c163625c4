"""Requests that start one at a time, as those that clients send over a network do.

A closed loop of equal requests keeps step: those that end together start together. Clients and
hosts break the step: the first of the new requests to arrive starts an iteration, and the others
wait for the next. Prompts are then prefilled one by one, each in iterations of its own, and a
request waits for the running iteration and for prompts that arrived before it [1].

References:
    [1] Kleinrock, Queueing Systems, volume 1: Theory, 1975, chapter 5.
"""

import jax.numpy as jnp

from sweep.kernel.cycle import Cycle, any_of
from sweep.kernel.factors import Factors
from sweep.kernel.operators.cost import Scalar, is_nothing

MOST_BUSY = 0.95
"""Highest share of the time that prompts of others take for which collisions are computed; there
are never more of them than half of the other requests. [1]"""


def staggered_cycle(
    residents: Scalar,
    isl: Scalar,
    osl: Scalar,
    max_num_tokens: Scalar,
    pass_tokens: Scalar = 1.0,
) -> Cycle:
    """Compute the mean iterations of `residents` requests that start one at a time.

    Each is in its prefill in `chunks` of the iterations it stays, whatever the others do, so that
    an iteration carries a prompt unless all decode. Of 4 requests of 100 tokens in and 10 out, each
    prefills in one of its 10 iterations: 1 − 0.9⁴ = 0.34 of the iterations carry prompts, 1.16 of
    them on average.

    Args:
        residents: Requests held. [count]
        isl: Input tokens of each that are not in the cache. [count]
        osl: Output tokens of each; with drafts, iterations that yield some. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        pass_tokens: Tokens that a sequence takes while it decodes. [count]
    """
    steps = osl - 1
    most = max_num_tokens / (isl + pass_tokens * steps)
    beside = max_num_tokens - pass_tokens * jnp.maximum(residents - 1, 0.0)
    room = jnp.maximum(beside, most * isl)
    chunks = jnp.maximum(jnp.ceil(isl / room - 1e-6), 1.0)
    stay = chunks + steps
    started = jnp.minimum(residents / stay, most)
    each = jnp.minimum(chunks / stay, 1.0)
    fewest = jnp.minimum(started * isl / room, 1.0)
    full = residents / stay > most
    by_others = any_of(jnp.maximum(residents - 1, 0.0), each)
    lumps = jnp.where(full, 1.0, jnp.maximum(any_of(residents, each), fewest))
    others = jnp.where(full, 1.0, jnp.maximum(by_others, fewest))
    interrupted = jnp.where(residents > 1, steps * others, 0.0)
    # Shares of the iterations with the prompts of others, in which a sequence decodes.
    decoding = residents * jnp.maximum((1 - each) * by_others, fewest - each) / lumps
    decoding = jnp.where(full, started * steps, decoding)
    return Cycle(
        residents=residents,
        chunk=isl / chunks,
        chunks=chunks,
        lump=started * isl / lumps,
        lumps=lumps,
        decoding_beside=jnp.maximum(decoding, 0.0),
        decoding_alone=residents,
        started=started,
        stay=stay,
        waited=jnp.where(full, jnp.maximum(residents / started - stay, 0.0), 0.0),
        interrupted=interrupted,
        undisturbed=steps - interrupted,
    )


def first_token_delay(factors: Factors, alone: Scalar) -> Scalar:
    """Time of a request outside its own iterations until its first token is sent. [s]

    Args:
        factors: `front_end_s` and `first_token_steps`.
        alone: Time of an iteration that decodes only. [s]
    """
    if is_nothing(factors.first_token_steps):
        return factors.front_end_s
    return factors.front_end_s + factors.first_token_steps * alone


def prompts_in_lump(cycle: Cycle) -> Scalar:
    """Prompts, or chunks of one, that an iteration with any carries. [count]"""
    return cycle.lump / cycle.chunk


def one_prompt(cycle: Cycle, alone: Scalar, lump: Scalar) -> Scalar:
    """Time to prefill one prompt in iterations of its own. [s]

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
    """
    return cycle.chunks * (alone + jnp.maximum(lump - alone, 0.0) / prompts_in_lump(cycle))


def rest_of_iteration(cycle: Cycle, alone: Scalar, lump: Scalar) -> Scalar:
    """Mean time until the iteration ends that runs when a request arrives. [s]

    It is a longer one more often, so that half of E[t²]/E[t] of it is left. A request that is
    alone finds none.

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
    """
    mean = cycle.lumps * lump + (1 - cycle.lumps) * alone
    running = (cycle.lumps * lump**2 + (1 - cycle.lumps) * alone**2) / (2 * mean)
    return jnp.clip(cycle.residents - 1, 0.0, 1.0) * running


def wait_to_start(cycle: Cycle, alone: Scalar, lump: Scalar) -> Scalar:
    """Mean time until the running iteration ends and prompts that came before are in. [s]

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
    """
    return rest_of_iteration(cycle, alone, lump) + wait_for_others(cycle, alone, lump)


def wait_for_others(cycle: Cycle, alone: Scalar, lump: Scalar) -> Scalar:
    """Mean time until prompts are in that came before, beyond the running iteration. [s]

    With a share ρ of the time spent on prompts of others, those that are ahead make the wait for
    the running iteration 1/(1 − ρ) times as long, by Pollaczek and Khinchine.

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
    """
    others = cycle.residents - 1
    mean = cycle.lumps * lump + (1 - cycle.lumps) * alone
    running = (cycle.lumps * lump**2 + (1 - cycle.lumps) * alone**2) / (2 * mean)
    each = cycle.chunks * jnp.maximum(lump - alone, 0.0) / prompts_in_lump(cycle)
    busy = cycle.started / mean * each * others / jnp.maximum(cycle.residents, 1.0)
    busy = jnp.clip(busy, 0.0, MOST_BUSY)
    return jnp.minimum(busy / (1 - busy) * running, jnp.maximum(others, 0.0) / 2 * each)
