"""Prefill, one decode step, and the decode summed exactly over a growing context."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp

from sweep.architecture import Block
from sweep.bindings.base import Step
from sweep.operators.cost import Cost, Scalar, is_nothing
from sweep.params import Point
from sweep.roofline import Seconds, peak_rate, resource_seconds
from sweep.transformer import OPERATORS
from sweep.variables import Role


class Work(eqx.Module):
    """What the layers of one block spend on one operator.

    Attributes:
        name: The operator.
        count: Layers run one after another until the step is done. [count]
        executed: Layers each GPU runs in the step, for all microbatches. [count]
        cost: Its cost in one layer.
        seconds: The time it keeps each resource busy in one layer.
    """

    name: str = eqx.field(static=True)
    count: Scalar
    executed: Scalar
    cost: Cost
    seconds: Seconds


def prefill(point: Point) -> list[Work]:
    """Work of one pass over the prompts of the whole batch."""
    isl = point.length("isl")
    return _works(point, _step(point, query_len=isl, decoding=False), isl)


def decode_step(point: Point) -> list[Work]:
    """Work of one decode step in which each sequence attends to `context_len` tokens."""
    step = _step(point, query_len=1.0, decoding=True)
    return _works(point, step, point.length("context_len"))


def latency(works: list[Work], host: Scalar = 0.0) -> Scalar:
    """Time of all `works`, one after another, and of the host. [s]

    Attention comes last: what does not vary with the context is then summed before the loop over
    contexts, and not in it.
    """
    in_turn = sorted(works, key=lambda work: OPERATORS[work.name].attention is not None)
    return sum((w.count * w.seconds.latency for w in in_turn), start=jnp.zeros(()) + host)


def batch_latency(point: Point, works: list[Work]) -> Scalar:
    """Time of a pass of the whole batch through the model. [s]"""
    return latency(works, host_latency(point, point.group_sequences / point.microbatches))


class Pass(eqx.Module):
    """Time of one decode pass, averaged over a growing context. [s]

    Attributes:
        others: Operators whose cost does not grow with the context.
        attention: Those whose cost does.
    """

    others: Scalar
    attention: Scalar

    @property
    def latency(self) -> Scalar:
        """Time of the pass. [s]"""
        return self.others + self.attention


def decode_latency(point: Point) -> Scalar:
    """Time of the osl − 1 decode steps of a static batch after the first token. [s]"""
    steps = point.length("osl") - 1
    step = _step(point, query_len=1.0, decoding=True)
    return steps * _others(point, step) + _growing_attention(point, step)


def decode_pass(point: Point, sequences: Scalar) -> Pass:
    """A decode step of `sequences`, averaged over the osl − 1 of a request.

    Args:
        point: What runs where.
        sequences: Sequences of one microbatch in one attention group. [count]
    """
    step = _step(point, query_len=1.0, decoding=True, sequences=sequences)
    steps = jnp.maximum(point.length("osl") - 1, 1.0)
    return Pass(_others(point, step), _growing_attention(point, step) / steps)


def mixed_latency(
    point: Point, sequences: Scalar, *, prompt_tokens: Scalar = 0.0, prompts_ended: Scalar = 0.0
) -> Scalar:
    """Time of a pass that decodes, and prefills beside it, without its attention. [s]

    Args:
        point: What runs where.
        sequences: Sequences that decode. [count]
        prompt_tokens: Prompt tokens. [count]
        prompts_ended: Prompts whose last tokens are among them. [count]
    """
    step = _step(point, query_len=1.0, decoding=True, sequences=sequences)
    mixed = dataclasses.replace(step, prompt_tokens=prompt_tokens, prompts_ended=prompts_ended)
    return _others(point, mixed)


def prefill_attention_latency(
    point: Point, *, sequences: Scalar, chunk: Scalar, chunks: Scalar
) -> Scalar:
    """Time of attention over prompts in a pass beside sequences that decode. [s]

    Args:
        point: What runs where.
        sequences: Prompts in the pass. [count]
        chunk: Tokens of each in the pass. [count]
        chunks: Passes that each prompt takes; this is a mean one. [count]
    """
    step = _step(point, query_len=chunk, decoding=False, sequences=sequences)
    pricing = _Pricing(point, dataclasses.replace(step, chunks=chunks))
    total = jnp.zeros(())
    for block in point.model.blocks:
        # Stages work on other microbatches meanwhile: no bubble as at a prefill of its own.
        layers = block.count * pricing.uneven(block)
        for name in _attending(block):
            total = total + layers * pricing.price(block, name, chunk)[1].latency
    return total


def _others(point: Point, step: Step) -> Scalar:
    """Time of the host, and of the operators whose cost does not grow with the context. [s]"""
    pricing = _Pricing(point, step)
    total = jnp.zeros(()) + host_latency(point, step.sampled)
    for block in point.model.blocks:
        names = [name for name in block.operators if OPERATORS[name].attention is None]
        one_layer = [pricing.price(block, name, 1.0)[1].latency for name in names]
        total = total + pricing.layers_in_turn(block) * sum(one_layer)
    return total


def _growing_attention(point: Point, step: Step) -> Scalar:
    """Time of attention in the osl − 1 decode steps after the first token. [s]

    Step i attends to isl + i tokens and takes the larger of two times that are affine in the
    context, which `sum_of_larger` adds up exactly.
    """
    pricing = _Pricing(point, step)
    first, steps = point.length("isl") + 1, point.length("osl") - 1
    total = jnp.zeros(())
    for block in point.model.blocks:
        for name in _attending(block):
            spent = _growing_seconds(pricing, block, name, first, steps)
            total = total + pricing.layers_in_turn(block) * spent
    return total


def _attending(block: Block) -> list[str]:
    return [name for name in block.operators if OPERATORS[name].attention is not None]


class _Pricing:
    """Prices the operators of one step; what many of them share is worked out once."""

    def __init__(self, point: Point, step: Step) -> None:
        self.point, self.step = point, step
        self._peaks: dict[Role, Scalar] = {}

    @cached_property
    def _stage(self) -> Scalar:
        """Layers of the fullest stage over their mean, and what stages wait for one another. [1]"""
        pp, layers = self.point.layout.pp, self.point.model.layers
        idle = self.point.efficiency.pipeline_idle
        waiting = 1.0 if is_nothing(idle) else 1 + idle * (pp - 1)
        return jnp.ceil(layers / pp) * pp / layers * waiting

    def uneven(self, block: Block) -> Scalar:
        """Time of the layers of `block` over that of an even share without a wait. [1]"""
        return self._stage if block.in_transformer else 1.0

    def layers_in_turn(self, block: Block) -> Scalar:
        """Layers of `block` that the step waits for, one after another. [count]

        A stage holds its share of the layers, rounded up. In decode every microbatch passes all
        stages before it starts again; a prefill ends when its last microbatch has followed the
        others through, (m + pp − 1)/pp of the time of one [1].

        References:
            [1] Huang et al., "GPipe", NeurIPS 2019.
        """
        layers = block.count * self.uneven(block)
        if self.step.decoding:
            return layers
        pp = self.point.layout.pp
        return layers * (self.point.microbatches + pp - 1) / pp

    def peak(self, role: Role) -> Scalar:
        """Dense matrix rate of the type that `role` computes in, at the clock held. [FLOP/s]"""
        if role not in self._peaks:
            rate = peak_rate(self.point.hardware, self.point.precision.peak(role))
            self._peaks[role] = rate * self._clock
        return self._peaks[role]

    def _kv_heads(self, block: Block) -> Scalar:
        """KV heads of all sequences that a GPU works on. [count]"""
        return self.step.sequences * jnp.maximum(block.kv_heads / self.step.tp, 1.0)

    @cached_property
    def _clock(self) -> Scalar:
        """Clock that is held under full load over that of the published rate. [1]"""
        limit = self.point.efficiency.power_limit
        if is_nothing(limit):
            return 1.0
        return jnp.power(self.point.hardware.power_headroom, limit)

    def price(self, block: Block, name: str, context_len: Scalar) -> tuple[Cost, Seconds]:
        """Cost and time of an operator in one layer when sequences hold `context_len` tokens."""
        attention = OPERATORS[name].attention
        reached = context_len if attention is None else attention.reach(block, context_len)
        return self.price_attended(block, name, reached)

    def price_attended(self, block: Block, name: str, attended: Scalar) -> tuple[Cost, Seconds]:
        """Cost and time of an operator in one layer whose sequences attend to `attended` tokens."""
        operator, efficiency = OPERATORS[name], self.point.efficiency
        cost = operator.cost(block, self.step, attended)
        share = efficiency.gemm if operator.attention is None else efficiency.attention
        if operator.engine == "experts":
            share = share * efficiency.expert_gemm
        if operator.attention is not None and self.step.decoding and "latent" not in name:
            cost = _on_vector_units(cost, efficiency.vector_attention)
            cost = _few_heads(cost, self._kv_heads(block), efficiency.kv_half_heads)
        rate = self.peak(operator.engine) * share
        return cost, resource_seconds(cost, rate, self.point.hardware, efficiency)


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


def _growing_seconds(
    pricing: _Pricing, block: Block, name: str, first: Scalar, terms: Scalar
) -> Scalar:
    """Sum over contexts of an operator's time, whose resources are affine in the context."""
    at_zero, at_one = (
        pricing.price_attended(block, name, attended)[1]
        for attended in (jnp.zeros(()), jnp.ones(()))
    )
    slope = jax.tree.map(jnp.subtract, at_one, at_zero)

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
    if attention is None or attention.span == "all":
        return total(first, terms)
    if attention.span == "window":
        within = jnp.clip(block.window - first + 1, 0.0, terms)
        return total(first, within) + (terms - within) * total(block.window, 1.0)
    return _sum_over_chunks(total, first, terms, block.window)


def _sum_over_chunks(
    total: Callable[[Scalar, Scalar], Scalar], first: Scalar, terms: Scalar, chunk: Scalar
) -> Scalar:
    """Sum where each step attends to its place in its chunk: a rest, whole chunks, a rest."""
    begun = jnp.mod(first - 1, chunk)
    finishing = jnp.minimum(terms, chunk - begun)
    whole = jnp.floor((terms - finishing) / chunk)
    rest = terms - finishing - whole * chunk
    return total(begun + 1, finishing) + whole * total(1.0, chunk) + total(1.0, rest)


def _step(
    point: Point, *, query_len: Scalar, decoding: bool, sequences: Scalar | None = None
) -> Step:
    """A pass of one microbatch of the batch, or of `sequences`."""
    return Step(
        decoding=decoding,
        sequences=point.group_sequences / point.microbatches if sequences is None else sequences,
        query_len=query_len,
        layout=point.layout,
        precision=point.precision,
        cache=point.hardware.cache,
        dispatch_everywhere=point.efficiency.dispatch_everywhere,
    )


def _works(point: Point, step: Step, context_len: Scalar) -> list[Work]:
    pricing = _Pricing(point, step)
    works = []
    for block in point.model.blocks:
        count = pricing.layers_in_turn(block)
        executed = block.count * point.microbatches / point.layout.pp
        for name in block.operators:
            cost, seconds = pricing.price(block, name, context_len)
            works.append(Work(name, count, executed, cost, seconds))
    return works


VECTOR_FLOPS_PER_SCORE = 512.0
"""Element-wise work of a score of a head of 128 elements: a multiply-add with each of K and V. A
narrower head saves none of it: the threads that work on a score are as many. [count]"""


def _on_vector_units(cost: Cost, share: Scalar) -> Cost:
    """The cost where attention computes on the vector units, `share` times as long."""
    if is_nothing(share):
        return cost
    flops = VECTOR_FLOPS_PER_SCORE * cost.special_ops
    return dataclasses.replace(cost, vector_flops=cost.vector_flops + share * flops)


def _few_heads(cost: Cost, heads: Scalar, half_heads: Scalar) -> Cost:
    """The cost where the cache of `half_heads` heads is read at half the bandwidth."""
    if is_nothing(half_heads):
        return cost
    return dataclasses.replace(cost, kv_bytes=cost.kv_bytes * (1 + half_heads / heads))


def host_latency(point: Point, sampled: Scalar) -> Scalar:
    """Host time of a pass in which `sampled` sequences of a group get a token. [s]

    The host of a pipeline also waits for what the others do with each sequence.
    """
    efficiency, total = point.efficiency, jnp.zeros(())
    if not is_nothing(efficiency.step_overhead_s):
        total = total + efficiency.step_overhead_s
    if not is_nothing(efficiency.sequence_overhead_s):
        total = total + efficiency.sequence_overhead_s * sampled
    if not is_nothing(efficiency.pipeline_sequence_overhead_s):
        waited = efficiency.pipeline_sequence_overhead_s * (point.layout.pp - 1)
        total = total + waited * sampled
    return total
