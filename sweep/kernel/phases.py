"""Prefill, one decode step, and the decode summed exactly over a growing context."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.growing_context import growing_seconds
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operator_time import Pricing, host_latency
from sweep.kernel.operators.cost import Cost, Scalar, is_one
from sweep.kernel.params import Point
from sweep.kernel.roofline import Seconds, in_turn
from sweep.kernel.traced_once import traced_once


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Work:
    """Work and time of one operator in the layers of one block.

    Attributes:
        name: The operator.
        count: Layers run one after another until the step is done. [count]
        executed: Layers each GPU runs in the step, for all microbatches. [count]
        cost: Its cost in one layer.
        seconds: The time it keeps each resource busy in one layer.
    """

    name: str = field(metadata={"static": True})
    count: Scalar
    executed: Scalar
    cost: Cost
    seconds: Seconds


def prefill(point: Point) -> list[Work]:
    """Work of one pass over the prompts of the whole batch, without what the cache has of them."""
    step = _step(point, query_len=point.new_tokens, decoding=False)
    step = dataclasses.replace(step, cached=point.cached_tokens)
    return _works(point, step, point.length("isl"))


def decode_step(point: Point) -> list[Work]:
    """Work of one decode step in which each sequence attends to `context_len` tokens."""
    step = _step(point, query_len=1.0, decoding=True)
    return _works(point, step, point.length("context_len"))


def denoising_step(point: Point) -> list[Work]:
    """Work of one denoising step of the whole batch, each token attending to all of its image."""
    tokens = point.image_tokens
    images = point.group_sequences * point.passes / point.microbatches
    step = _step(point, query_len=tokens, decoding=False, sequences=images)
    return _works(point, step, tokens)


def latency(works: list[Work], host: Scalar = 0.0) -> Scalar:
    """Time of all `works`, one after another, and of the host. [s]

    Operators of one block are summed before they are multiplied by its layers.
    """
    total = jnp.zeros(()) + host
    # Operators of a block share the count of its layers.
    for _, alike in groupby(attention_last(works), lambda work: (_attends(work), id(work.count))):
        block = list(alike)
        total = total + block[0].count * in_turn([work.seconds for work in block])
    return total


def attention_last(works: list[Work]) -> list[Work]:
    """Works in the order of sums: what does not vary with the context comes before what does.

    It is then summed before the loop over contexts, and not in it.
    """
    return sorted(works, key=_attends)


def _attends(work: Work) -> bool:
    return OPERATORS[work.name].attention is not None


def batch_latency(point: Point, works: list[Work]) -> Scalar:
    """Time of a pass of the whole batch through the model. [s]"""
    return latency(works, host_latency(point, point.group_sequences / point.microbatches))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pass:
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
    """Time of the decode passes of a static batch after the first token. [s]

    Without drafts they are osl − 1; drafted tokens are spread evenly over the growing context.
    """
    steps = point.length("osl") - 1
    each = _at_every_context(point, None)
    if point.draft_tokens is None:
        return steps * each.others + each.attention
    passes = point.decode_passes
    return passes * each.others + passes / jnp.maximum(steps, 1.0) * each.attention


def decode_pass(point: Point, sequences: Scalar) -> Pass:
    """A decode pass of `sequences` with its drafts, averaged over the contexts of a request.

    Args:
        point: Model, machine, layout and lengths.
        sequences: Sequences of one microbatch in one attention group. [count]
    """
    each = _at_every_context(_as_decoded(point), sequences)
    return Pass(each.others, each.attention / _decoded_steps(point))


def decode_attention(point: Point, sequences: Scalar) -> Scalar:
    """Attention in a decode pass of `sequences` without drafts, as in `decode_pass`. [s]"""
    step = _step(point, query_len=point.pass_tokens, decoding=True, sequences=sequences)
    return _growing_attention(_as_decoded(point), step) / _decoded_steps(point)


def _as_decoded(point: Point) -> Point:
    """The point with the outputs that a token sees, of which a long one has more than a short."""
    if point.osl_cv is None:
        return point
    longer = 1 + (point.length("osl") - 1) * (1 + point.osl_cv**2)
    return dataclasses.replace(point, osl=longer)


def _decoded_steps(point: Point) -> Scalar:
    return jnp.maximum(_as_decoded(point).length("osl") - 1, 1.0)


def _at_every_context(point: Point, sequences: Scalar | None) -> Pass:
    """Others of one decode pass with its drafts, and attention of one at each of the contexts."""
    step = _step(point, query_len=point.pass_tokens, decoding=True, sequences=sequences)
    others, attention = _others(point, step), _growing_attention(point, step)
    if point.draft_tokens is not None:
        pricing = Pricing(point, dataclasses.replace(step, query_len=1.0))
        others = others + point.draft_tokens * _without_past(pricing, point.model.draft)
        drafted = _attention_over_contexts(pricing, point.model.draft)
        attention = attention + point.draft_tokens * drafted
    return Pass(others, attention)


def mixed_latency(
    point: Point,
    sequences: Scalar,
    *,
    prompt_tokens: Scalar = 0.0,
    prompts_ended: Scalar = 0.0,
    prompts_cached: Scalar = 0.0,
) -> Scalar:
    """Time of a pass that decodes and prefills at once, without attention and scans. [s]

    Layers with a state update it for the sequences that decode; `prefill_attention_latency` has
    their scans over the prompts, and the draft's work on them.

    Args:
        point: Model, machine, layout and lengths.
        sequences: Sequences that decode. [count]
        prompt_tokens: Prompt tokens. [count]
        prompts_ended: Prompts whose last tokens are among them. [count]
        prompts_cached: Tokens of the prompts that were found in the cache. [count]
    """
    step = _step(point, query_len=point.pass_tokens, decoding=True, sequences=sequences)
    mixed = dataclasses.replace(
        step,
        prompt_tokens=prompt_tokens,
        prompts_ended=prompts_ended,
        prompts_cached=prompts_cached,
    )
    others = _others(point, mixed)
    if point.draft_tokens is None:
        return others
    drafting = Pricing(point, dataclasses.replace(step, query_len=1.0))
    return others + point.draft_tokens * _without_past(drafting, point.model.draft)


def mixed_latencies(
    point: Point,
    sequences: Sequence[Scalar],
    prompt_tokens: Sequence[Scalar],
    prompts_ended: Sequence[Scalar],
    prompts_cached: Sequence[Scalar],
) -> Float[Array, "passes"]:
    """Times of several passes as of `mixed_latency`, computed side by side. [s]

    That is a program of the size of one pass, which takes less time to compile.

    Args:
        point: Model, machine, layout and lengths.
        sequences: Sequences that decode in each. [count]
        prompt_tokens: Prompt tokens in each. [count]
        prompts_ended: Prompts whose last tokens are among them. [count]
        prompts_cached: Tokens of the prompts that were found in the cache. [count]
    """

    def one(decoding: Scalar, tokens: Scalar, ended: Scalar, cached: Scalar) -> Scalar:
        return mixed_latency(
            point, decoding, prompt_tokens=tokens, prompts_ended=ended, prompts_cached=cached
        )

    every = (sequences, prompt_tokens, prompts_ended, prompts_cached)
    passes = [jnp.stack([jnp.asarray(number, float) for number in each]) for each in every]
    return jnp.asarray(jax.vmap(one)(*passes))


def draft_prefill_latency(
    point: Point, *, sequences: Scalar, chunk: Scalar, chunks: Scalar = 1.0
) -> Scalar:
    """Time of the draft's own pass over prompts, 0 where nothing is drafted. [s]

    Args:
        point: Model, machine, layout and lengths.
        sequences: Prompts in the pass. [count]
        chunk: Tokens of each in the pass. [count]
        chunks: Passes that each prompt takes. [count]
    """
    if point.draft_tokens is None:
        return 0.0
    step = _step(point, query_len=chunk, decoding=False, sequences=sequences)
    step = dataclasses.replace(step, chunks=chunks, cached=point.cached_tokens)
    pricing, total = Pricing(point, step), jnp.zeros(())
    for block in point.model.draft:
        one_layer = in_turn([pricing.seconds(block, name, chunk) for name in block.operators])
        total = total + block.count * one_layer
    return point.if_drafting(total)


def prefill_attention_latency(
    point: Point, *, sequences: Scalar, chunk: Scalar, chunks: Scalar
) -> Scalar:
    """Time of attention and scans over prompts in a pass in which other sequences decode. [s]

    Args:
        point: Model, machine, layout and lengths.
        sequences: Prompts in the pass. [count]
        chunk: Tokens of each in the pass. [count]
        chunks: Passes that each prompt takes; this is a mean one. [count]
    """
    if point.isl_cv is not None:
        # As many tokens, and the mean square of their lengths, in fewer and longer prompts.
        longer = 1 + point.isl_cv**2
        sequences, chunk = sequences / longer, chunk * longer
    step = _step(point, query_len=chunk, decoding=False, sequences=sequences)
    step = dataclasses.replace(step, chunks=chunks, cached=point.cached_tokens)
    own = _past_of_prompts(point.of_a_pass, step)
    return own + draft_prefill_latency(point, sequences=sequences, chunk=chunk, chunks=chunks)


@traced_once
def _past_of_prompts(point: Point, step: Step) -> Scalar:
    """Time of attention and scans over the prompts of a step, in one pass. [s]"""
    pricing, total = Pricing(point, step), jnp.zeros(())
    for block in point.model.blocks:
        # Stages work on other microbatches meanwhile: no bubble as at a prefill of its own.
        one_layer = [pricing.seconds(block, name, step.query_len) for name in _with_past(block)]
        total = total + block.count * pricing.uneven(block) * in_turn(one_layer)
    return total


def _others(point: Point, step: Step) -> Scalar:
    """Time of the host, and of the operators whose cost does not grow with the context. [s]"""
    return _others_of(point.of_a_pass, step)


@traced_once
def _others_of(point: Point, step: Step) -> Scalar:
    host = jnp.zeros(()) + host_latency(point, step.answered)
    return host + _without_past(Pricing(point, step), point.model.blocks)


def _without_past(pricing: Pricing, blocks: Sequence[Block]) -> Scalar:
    """Time of the operators of `blocks` whose cost does not grow with the context. [s]"""
    total = jnp.zeros(())
    for block in blocks:
        names = [name for name in block.operators if OPERATORS[name].attention is None]
        one_layer = in_turn([pricing.seconds(block, name, 1.0) for name in names])
        total = total + pricing.layers_in_turn(block) * one_layer
    return total


def _growing_attention(point: Point, step: Step) -> Scalar:
    """Time of attention in passes at each of the osl − 1 contexts after the first token. [s]

    Step i attends to isl + i tokens and takes the larger of two times that are affine in the
    context, which `sum_of_larger` adds up exactly.
    """
    return _attention_of(point.of_a_pass, step)


@traced_once
def _attention_of(point: Point, step: Step) -> Scalar:
    return _attention_over_contexts(Pricing(point, step), point.model.blocks)


def _attention_over_contexts(pricing: Pricing, blocks: Sequence[Block]) -> Scalar:
    """Time of attention of `blocks` in passes at each of the osl − 1 contexts. [s]

    Of several new tokens the middle one has the mean context.
    """
    point, new = pricing.point, pricing.step.query_len
    first, steps = point.length("isl") + 1, point.length("osl") - 1
    if not is_one(new):
        first = first + (new - 1) / 2
    total = jnp.zeros(())
    for block in blocks:
        for name in _attending(block):
            spent = growing_seconds(pricing, block, name, first, steps)
            total = total + pricing.layers_in_turn(block) * spent
    return total


def _attending(block: Block) -> list[str]:
    return [name for name in block.operators if OPERATORS[name].attention is not None]


def _with_past(block: Block) -> list[str]:
    """Operators that read what a sequence left behind: its cache or its state."""
    return [
        name
        for name in block.operators
        if OPERATORS[name].attention is not None or OPERATORS[name].state is not None
    ]


def server_step(point: Point, query_len: Scalar, sequences: Scalar, *, decoding: bool) -> Step:
    """A pass of `sequences` with `query_len` new tokens each."""
    return _step(point, query_len=query_len, decoding=decoding, sequences=sequences)


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
    )


def _works(point: Point, step: Step, context_len: Scalar) -> list[Work]:
    pricing = Pricing(point, step)
    works = []
    for block in point.model.blocks:
        count = pricing.layers_in_turn(block)
        executed = block.count * point.microbatches / point.layout.pp
        for name in block.operators:
            cost, seconds = pricing.price(block, name, context_len)
            works.append(Work(name, count, executed, cost, seconds))
    return works
