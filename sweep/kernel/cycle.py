"""Cycles of a server whose requests have equal lengths: what its iterations carry on average."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sweep.kernel.operators.cost import Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cycle:
    """Mean iterations of one microbatch of one attention group until its requests are replaced.

    Attributes:
        residents: Requests it holds. [count]
        chunk: Prompt tokens of one request in one iteration. [count]
        chunks: Iterations the prefill of one request takes. [count]
        lump: Prompt tokens in an iteration that carries any. [count]
        lumps: Share of the iterations that carry prompt tokens. [1]
        decoding_beside: Sequences that decode in an iteration with a lump. [count]
        decoding_alone: Sequences that decode in the other iterations. [count]
        started: Requests that start in an iteration, on average. [count]
        stay: Iterations that a request is worked on. [count]
        waited: Iterations that it waits for its prefill. [count]
        interrupted: Iterations that carry a lump of others while it decodes. [count]
        undisturbed: Iterations that decode only while it does. [count]
        uneven: Prompts beyond those of mean lumps that are prefilled until its own is: each lump
            but the last is full, so that more prompts are in full ones. [count]
    """

    residents: Scalar
    chunk: Scalar
    chunks: Scalar
    lump: Scalar
    lumps: Scalar
    decoding_beside: Scalar
    decoding_alone: Scalar
    started: Scalar
    stay: Scalar
    waited: Scalar
    interrupted: Scalar
    undisturbed: Scalar
    uneven: Scalar = 0.0


def _last_lump(residents: Scalar, room: Scalar, needed: Scalar) -> tuple[Scalar, Scalar]:
    """Prompts of a full lump, whole ones where that takes no more lumps, and of the last one.

    Args:
        residents: Requests held. [count]
        room: Prompts that a lump has room for. [count]
        needed: Lumps of all of them. [count]
    """
    whole = jnp.maximum(jnp.floor(room + 1e-6), 1.0)
    full = jnp.where(jnp.ceil(residents / whole - 1e-6) <= needed, whole, room)
    return full, residents - (needed - 1) * full


def cycle(
    residents: Scalar,
    isl: Scalar,
    osl: Scalar,
    max_num_tokens: Scalar,
    pass_tokens: Scalar = 1.0,
) -> Cycle:
    """Compute the cycle of `residents` requests.

    A request stays for `chunks` iterations of prefill, the last of which yields its first token,
    and osl − 1 of decoding. Where prompts take more lumps than that, every iteration is full and
    requests wait for their prefill. For 4 requests of 100 tokens in and 10 out and 202 tokens an
    iteration, two prompts prefill while two sequences decode, in 2 of 10 iterations.

    Args:
        residents: Requests held. [count]
        isl: Input tokens of each that are not in the cache. [count]
        osl: Output tokens of each; with drafts, iterations that yield some. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        pass_tokens: Tokens that a sequence takes while it decodes. [count]
    """
    steps = osl - 1
    # Sequences that decode take their tokens of the budget, all but those whose prompts are in.
    beside = (max_num_tokens - pass_tokens * residents) * isl / jnp.maximum(isl - pass_tokens, 1e-6)
    evenly = max_num_tokens * isl / (isl + pass_tokens * steps)
    room = jnp.maximum(beside, evenly)
    filled, shortest = residents * isl / room, jnp.ceil(isl / room - 1e-6) + steps
    waiting = filled - 1e-6 > shortest
    needed = jnp.ceil(filled - 1e-6)
    # Drafts end after a mean number of iterations that is no whole one.
    needed = jnp.maximum(jnp.where(waiting, needed, jnp.minimum(needed, shortest)), 1.0)
    lump = jnp.where(waiting, room, residents * isl / needed)
    chunks = jnp.maximum(jnp.ceil(isl / lump - 1e-6), 1.0)
    stay = chunks + steps
    started = jnp.where(waiting, lump / isl, residents / stay)
    decoding = started * steps
    lumps = jnp.where(waiting, 1.0, needed / stay)
    interrupted = jnp.where(waiting, steps, jnp.clip(needed - chunks, 0.0, steps))
    full, last = _last_lump(residents, room / isl, needed)
    seen = ((needed - 1) * full**2 + last**2) / residents
    return Cycle(
        residents=residents,
        chunk=isl / chunks,
        chunks=chunks,
        lump=lump,
        lumps=lumps,
        decoding_beside=jnp.where(
            waiting, decoding, residents * jnp.maximum(needed - chunks, 0.0) / needed
        ),
        decoding_alone=residents,
        started=started,
        stay=stay,
        waited=jnp.where(waiting, jnp.maximum(residents / started - stay, 0.0), 0.0),
        interrupted=interrupted,
        undisturbed=steps - interrupted,
        uneven=jnp.where(waiting | (chunks > 1), 0.0, seen - residents / needed),
    )


def prefill_first_cycle(
    residents: Scalar, isl: Scalar, osl: Scalar, max_num_tokens: Scalar
) -> Cycle:
    """Compute the cycle of `residents` requests where iterations with prompts decode nothing.

    All prompts are in before the first sequence decodes, so that all end together: a static batch
    whose prompts come in lumps. A prompt waits for those before it, and, until it decodes, for
    those behind it: for half of the lumps of others each, on average, if lumps are even.

    Args:
        residents: Requests held. [count]
        isl: Input tokens of each. [count]
        osl: Output tokens of each. [count]
        max_num_tokens: Tokens an iteration may take. [count]
    """
    steps = osl - 1
    needed = jnp.maximum(jnp.ceil(residents * isl / max_num_tokens - 1e-6), 1.0)
    lump = residents * isl / needed
    chunks = jnp.maximum(jnp.ceil(isl / lump - 1e-6), 1.0)
    others = jnp.maximum(needed - chunks, 0.0)
    full, last = _last_lump(residents, max_num_tokens / isl, needed)
    # Lumps, and prompts in them, until the own prompt is prefilled.
    passed = (full * needed * (needed - 1) / 2 + last * needed) / residents
    prompts = full**2 * needed * (needed - 1) / 2 / residents + last
    waited = jnp.where(chunks > 1, others / 2, passed - 1)
    return Cycle(
        residents=residents,
        chunk=isl / chunks,
        chunks=chunks,
        lump=lump,
        lumps=needed / (needed + steps),
        decoding_beside=jnp.zeros_like(needed),
        decoding_alone=residents,
        started=residents / (needed + steps),
        stay=needed + steps,
        waited=waited,
        interrupted=jnp.where(steps > 0, others - waited, 0.0),
        undisturbed=steps,
        uneven=jnp.where(chunks > 1, 0.0, prompts - passed * residents / needed),
    )
