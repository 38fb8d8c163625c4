"""The iterations that an arriving request finds, once it has a slot."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from sweep.kernel.gates import Gates
from sweep.kernel.open_iterations import Iterations
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.queueing import NEARLY, arrivals_after, bursts, others_near


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stream:
    """Arrivals at one microbatch of one attention group.

    Attributes:
        rate: Requests that arrive in a second. [s-1]
        shape: Shape of the gamma distribution of their gaps; Poisson arrivals if not given. [1]
        utilisation: Rate over the highest one of the server. [1]
        varied: Squared coefficient of variation of the prompts. [1]
    """

    rate: Scalar
    shape: Scalar | None
    utilisation: Scalar
    varied: Scalar

    @property
    def dispersion(self) -> Scalar:
        """Squared coefficient of variation of the gaps. [1]"""
        return 1 / (1.0 if self.shape is None else self.shape)

    def beside(self, arrived: Scalar) -> Scalar:
        """Others that arrive within a time in which `arrived` do on average, beside one. [count]"""
        return arrived if self.shape is None else others_near(arrived, self.shape)

    def before(self, arrived: Scalar) -> Scalar:
        """Prompts that arrived during the iteration before the one that an arrival finds. [count]

        Half of the latter has passed since.

        Args:
            arrived: Mean number of arrivals in an iteration. [count]
        """
        if self.shape is None:
            return arrived
        until, since = (arrivals_after(part * arrived, self.shape) for part in (1.5, 0.5))
        return jnp.maximum(until - since, 0.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Start:
    """Iterations that an arriving request finds, until its prompt starts.

    Attributes:
        between: Time between two looks for new requests, of iterations that decode only. [s]
        lumps: Time of iterations with prompts of others, that follow one another. [s]
        decode_only: Share of the former in the time of both. [1]
        residual: Time until the next look, of a request that finds no other waiting. [s]
        hold: Time for which it then waits for others to start with. [s]
        joins: Share of the requests that find one that waits so. [1]
        waiting: Requests that such a one finds. [count]
        before: Time of prompts of the same round that fill iterations before its own, at most. [s]
        companions: Others that start with it. [count]
        iteration: Time of an iteration of any kind, on average. [s]
    """

    between: Scalar
    lumps: Scalar
    decode_only: Scalar
    residual: Scalar
    hold: Scalar
    joins: Scalar
    waiting: Scalar
    before: Scalar
    companions: Scalar
    iteration: Scalar

    @property
    def held_back(self) -> Scalar:
        """Mean wait for others to start with. [s]"""
        return (1 - self.joins) * self.hold + self.joins * self.hold / 2

    @property
    def wait(self) -> Scalar:
        """Mean time until the prompt starts, if an iteration runs when it comes. [s]"""
        return (1 - self.joins) * self.residual + self.held_back + self.before / 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Visit:
    """Iterations of one microbatch of one attention group, as an arriving request finds them.

    Attributes:
        alone: Time of an iteration that decodes only. [s]
        start: Iterations that it finds until its prompt starts.
        prefill: Time of the iterations that prefill the prompt. [s]
        prefill_alone: The same without companions. [s]
        each: Time that a companion adds, another prompt in its first iteration. [s]
        backlog: Share of the requests that wait for prompts beyond those. [1]
        backlog_wait: Mean wait of those. [s]
    """

    alone: Scalar
    start: Start
    prefill: Scalar
    prefill_alone: Scalar
    each: Scalar
    backlog: Scalar
    backlog_wait: Scalar


def visit_of(iterations: Iterations, stream: Stream, decoding: Scalar) -> Visit:
    """Compute the iterations that an arriving request finds.

    Args:
        iterations: Times of the server's iterations.
        stream: Arrivals.
        decoding: Sequences that decode when it comes. [count]
    """
    rate, curve, fill, chunks = stream.rate, iterations.curve, iterations.fill, iterations.chunks
    alone, fewest = curve.alone(decoding), curve.prompts[0]
    start = _start(iterations, stream, decoding)
    if iterations.gates is not None:
        behind = _behind_gates(iterations, iterations.gates, stream, decoding)
        start = jax.tree.map(partial(jnp.where, iterations.gates.shut), behind, start)
    batched = fill >= 1
    companions = jnp.where(batched, jnp.minimum(start.companions, fill - 1), 0.0)
    # One companion or none has the mean of both times, not the time of the mean.
    several = jnp.where(batched, jnp.maximum(companions, 1.0), 0.0)
    prefill_alone, with_several = (
        chunks * (alone + curve.extra(decoding, prompts))
        for prompts in (fewest, (1 + several) * fewest)
    )
    each = (with_several - prefill_alone) / jnp.maximum(several, 1.0)
    # A lump that fills an iteration serves `fill` prompts.
    service = (alone + curve.filled(decoding)) / fill
    used = jnp.minimum(jnp.minimum(rate * service, stream.utilisation), NEARLY)
    share, all_waits = bursts(used, stream.dispersion)
    exponent = jnp.where(batched, jnp.sqrt(2 * (fill + 1)), 1.0)
    return Visit(
        alone=alone,
        start=start,
        prefill=prefill_alone + companions * each,
        prefill_alone=prefill_alone,
        each=each,
        backlog=share * used**exponent,
        backlog_wait=(all_waits / share + stream.varied) * service / (2 * (1 - used)),
    )


def _start(iterations: Iterations, stream: Stream, decoding: Scalar) -> Start:
    """Iterations that a request finds where prompts start with the next one."""
    rate, curve, fill = stream.rate, iterations.curve, iterations.fill
    alone, fewest, most = curve.alone(decoding), curve.prompts[0], curve.prompts[-1]
    # Two rounds: prompts in an iteration from its time, and its time from the prompts.
    carried = curve.carried(alone, rate)
    mean = alone + (1 - jnp.exp(-rate * alone)) * curve.extra(decoding, carried)
    before = stream.before(rate * mean)
    some = -jnp.expm1(-jnp.minimum(before, most))
    carried = jnp.where(fill < 1, most, jnp.clip(before / jnp.maximum(some, 1e-12), fewest, most))
    longer = alone + curve.extra(decoding, carried)
    beside = True if iterations.prefill_first is None else ~iterations.prefill_first
    longer = jnp.where(beside, jnp.maximum(longer, alone), longer)
    mean = alone + some * (longer - alone)
    slope = (longer - alone) / jnp.maximum(carried, fewest)
    before = stream.before(rate * mean)
    varied = jnp.maximum(carried + before * carried - carried**2, 0.0)
    varied = varied + carried * stream.varied
    squared = (1 - some) * alone**2 + some * (longer**2 + slope**2 * varied)
    batched = fill >= 1
    return Start(
        between=alone,
        lumps=longer,
        decode_only=jnp.where(batched, (1 - some) * alone / mean, 1.0),
        residual=jnp.where(batched, squared / (2 * mean), alone / 2),
        hold=jnp.zeros_like(alone),
        joins=jnp.zeros_like(alone),
        waiting=jnp.zeros_like(alone),
        before=jnp.zeros_like(alone),
        companions=stream.beside(rate * squared / mean),
        iteration=alone - jnp.expm1(-rate * alone) * (longer - alone),
    )


def _behind_gates(iterations: Iterations, gates: Gates, stream: Stream, decoding: Scalar) -> Start:
    """Iterations that a request finds where prompts start only at times."""
    rate, curve, batched = stream.rate, iterations.curve, iterations.fill >= 1
    found, alone = curve.round(gates, decoding, rate), curve.alone(decoding)
    lumps = found.lumps * found.lump
    running = found.closed + lumps
    slope = (found.lump - alone) / found.prompts
    squared = lumps**2 + slope**2 * found.prompts * (1 + stream.varied)
    residual = (found.closed * found.between + squared) / (2 * running)
    joins, meanwhile = found.held / found.time, rate * found.held
    first = found.prompts - meanwhile
    looking, filled = stream.beside(rate * found.between), stream.beside(rate * lumps)
    beside = (found.closed * looking + lumps * filled) / running
    beside = (1 - joins) * beside + joins * first + meanwhile
    counted = (found.closed + found.held) / alone + found.lumps
    return Start(
        between=found.between,
        lumps=lumps,
        decode_only=jnp.where(batched, found.closed / running, 1.0),
        residual=jnp.where(batched, residual, found.between / 2),
        hold=found.held,
        joins=joins,
        waiting=first + meanwhile,
        before=jnp.where(batched, (found.lumps - 1) * found.lump, 0.0),
        companions=beside,
        iteration=found.time / counted,
    )
