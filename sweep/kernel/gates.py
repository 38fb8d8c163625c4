"""Prompts that arrive at a rate and that a scheduler lets in only at times.

A scheduler that looks for new requests every N decode steps [2] opens a gate so often; one with
prompts in its iterations, or nothing to do, looks at once. One that lets a prompt wait for others
[1] decodes for T more iterations once a prompt has come; those that come meanwhile start with it.

References:
    [1] NVIDIA, TensorRT-LLM documentation, "LLM API", batch_wait_timeout_iters: it counts while
        sequences decode.
    [2] SGLang documentation, "Environment Variables", SGLANG_SCHEDULER_RECV_SKIPPER_WEIGHT_DEFAULT:
        a pass with prompts counts as a thousand decode steps.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool

from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gates:
    """Times at which prompts may start.

    Attributes:
        apart: Iterations that decode only between two looks. [count]
        longest: Iterations for which the first prompt waits for others at most. [count]
        enough: Other prompts that end this wait. [count]
        parts: Attention groups and microbatches, whose prompts come together. [count]
        steps: Iterations in which a request decodes. [count]
    """

    apart: Scalar
    longest: Scalar
    enough: Scalar
    parts: Scalar
    steps: Scalar

    @property
    def shut(self) -> Bool[Array, ""]:
        """Whether there are times at which no prompt starts."""
        return jnp.asarray((self.apart > 1) | ((self.longest > 0) & (self.enough > 0)))

    def wait(self, rate: Scalar, alone: Scalar, sequences: Scalar) -> Scalar:
        """Iterations for which the first of several prompts waits for the others. [count]

        The wait ends when enough have come, and when no sequence decodes any more: each of d ends
        within x of its s iterations with probability x/s, all of them with its d-th power. The time
        in which k come is about lognormal, with the mean k/r and the variance k/r² for a rate r.

        Args:
            rate: Prompts of one part that arrive in a second. [s-1]
            alone: Time of an iteration that decodes only. [s]
            sequences: Sequences that decode. [count]
        """
        arriving = jnp.maximum(rate * self.parts * alone, 1e-9)
        steps = jnp.maximum(self.steps, 1e-6)
        others = jnp.maximum(self.enough, 1e-3)
        mean, spread = others / arriving, jnp.sqrt(jnp.log1p(1 / others))
        over = jnp.log(jnp.maximum(self.longest, 1e-9) / mean) / spread + spread / 2
        saved = self.longest * ndtr(over) - mean * ndtr(over - spread)
        longest = jnp.clip(self.longest - saved, 0.0, jnp.minimum(self.longest, steps))
        many = jnp.maximum(sequences, 1.0)
        return longest * (1 - (longest / steps) ** many / (many + 1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Round:
    """From the end of some prompts to that of the next, on average.

    Attributes:
        between: Time between two looks. [s]
        closed: Time in which prompts are not looked for, all of it. [s]
        held: Time for which the first one waits for others. [s]
        prompts: Prompts that start. [count]
        lumps: Iterations that they fill. [count]
        lump: Time of one of these. [s]
    """

    between: Scalar
    closed: Scalar
    held: Scalar
    prompts: Scalar
    lumps: Scalar
    lump: Scalar

    @property
    def time(self) -> Scalar:
        """Time of all. [s]"""
        return self.closed + self.held + self.lumps * self.lump


def gates_of(point: Point, parts: Scalar, fill: Scalar) -> Gates | None:
    """Gates of the server at a point; `None` where prompts start at once.

    Args:
        point: The server's settings and lengths.
        parts: Attention groups and microbatches. [count]
        fill: Prompts for which an iteration has room. [count]
    """
    if point.batch_wait is None and point.poll_interval is None:
        return None
    groups, steps = point.layout.dp_attention, point.decode_passes
    return Gates(
        apart=jnp.asarray(looks_apart(point)),
        longest=longest_hold(point),
        enough=jnp.maximum(jnp.where(groups > 1, groups, fill) - 1, 0.0),
        parts=parts,
        steps=steps,
    )


def longest_hold(point: Point) -> Scalar:
    """Iterations for which prompts wait at most for others; 0 if they start at once. [count]

    Once all sequences have ended, prompts start.
    """
    if point.batch_wait is None:
        return 0.0
    return jnp.minimum(point.batch_wait, jnp.maximum(point.decode_passes, 1.0))


def looks_apart(point: Point) -> Scalar:
    """Iterations between two looks of the scheduler for new requests. [count]

    Once all sequences have ended, the scheduler looks.
    """
    if point.poll_interval is None:
        return 1.0
    return jnp.clip(point.poll_interval, 1.0, jnp.maximum(point.decode_passes, 1.0))
