"""Requests that start one at a time, as those that clients send over a network do.

A closed loop of equal requests keeps step: those that end together start together. Clients and
hosts break the step: the first of the new requests to arrive starts an iteration, and the others
wait for the next. Prompts are then prefilled one by one, each in iterations of its own, and one
right after another: a request waits for the iteration in which the prompt before its own is.
"""

import jax.numpy as jnp

from sweep.kernel.cycle import Cycle
from sweep.kernel.factors import Factors
from sweep.kernel.operators.any_of import any_of
from sweep.kernel.operators.cost import Scalar, is_nothing


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
    by_any = by_others + (1 - by_others) * each
    lumps = jnp.where(full, 1.0, jnp.maximum(by_any, fewest))
    # Of the iterations that do not carry its own prompt.
    by_fewest = (fewest - each) / jnp.maximum(1 - each, 1e-6)
    others = jnp.where(full, 1.0, jnp.maximum(by_others, by_fewest))
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


def first_token_delay(factors: Factors, step: Scalar) -> Scalar:
    """Time of a request outside its own iterations until its first token is sent. [s]

    Args:
        factors: `front_end_s` and `first_token_steps`.
        step: Time of the iterations that it sees. [s]
    """
    if is_nothing(factors.first_token_steps):
        return factors.front_end_s
    return factors.front_end_s + factors.first_token_steps * step


def neighbours(cycle: Cycle, alone: Scalar, lump: Scalar, iterations: Scalar = 1.0) -> Scalar:
    """Mean time of some iterations around the prefill of one of equal requests. [s]

    Requests of equal lengths that were sent at once are prefilled one after another, and end one
    after another, an iteration apart. So are those that replace them: a request comes while the
    prompt of the one before it is prefilled, and its own is followed by the next one's. All but the
    first of them find prompts in the iterations around their own: with four requests, three of four
    do. An iteration carries one prompt, or as many as start in each; all of them together carry the
    prompt of each other request once.

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
        iterations: Iterations between its prompt and those of others. [count]
    """
    prompts = jnp.maximum(cycle.residents / cycle.stay, 1.0)
    prompts = jnp.minimum(prompts, jnp.maximum(prompts_in_lump(cycle), 1.0))
    each = jnp.maximum(lump - alone, 0.0) / prompts_in_lump(cycle)
    of_each = jnp.minimum(iterations * prompts / jnp.maximum(cycle.residents, 1.0), cycle.chunks)
    return iterations * alone + jnp.maximum(cycle.residents - 1, 0.0) * of_each * each


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

    A request meets long iterations more often: half of E[t²]/E[t] is left on average. One that is
    alone finds none.

    Args:
        cycle: Mean iterations.
        alone: Time of an iteration that decodes only. [s]
        lump: Time of an iteration with prompts. [s]
    """
    mean = cycle.lumps * lump + (1 - cycle.lumps) * alone
    running = (cycle.lumps * lump**2 + (1 - cycle.lumps) * alone**2) / (2 * mean)
    return jnp.clip(cycle.residents - 1, 0.0, 1.0) * running
