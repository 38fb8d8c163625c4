"""Time and work of every operator in the iterations of a server with in-flight batching."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sweep.decisions.operator_breakdown import Amounts, amounts_of
from sweep.kernel import phases
from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.inflight import Inflight
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operator_time import Pricing, host_latency
from sweep.kernel.operators.cost import Cost, Scalar, is_nothing
from sweep.kernel.params import Point
from sweep.kernel.phases import Work
from sweep.kernel.roofline import Seconds

SERVER_PHASES = ("decode_iteration", "prompt_iteration")
"""An iteration that decodes only, and one that carries prompt tokens too."""
NO_WORK = Work("", 0.0, 0.0, Cost(), Seconds(0.0, 0.0, 0.0))


def break_down_server(point: Point) -> dict[str, Amounts]:
    """Break the mean iterations of a server down by operator, as `Inflight` times them.

    An iteration with prompts runs the operators without a past once for all its tokens, attention
    over prompts, and attention of the sequences that decode beside them. Decoding attention is
    priced at the mean context of a request.

    Returns:
        By phase of `SERVER_PHASES`, for one microbatch of one attention group.
    """
    server = Inflight(point)
    cycle, found = server.cycle, point.cached_tokens
    context = server.isl + server.osl / 2
    alone = _step(point, cycle.decoding_alone)
    beside = _step(point, cycle.decoding_beside)
    mixed = dataclasses.replace(
        beside,
        prompt_tokens=cycle.lump,
        prompts_ended=cycle.lump / server.isl,
        prompts_cached=0.0 if is_nothing(found) else found * cycle.lump / cycle.chunk,
    )
    prompts = phases.server_step(point, cycle.chunk, cycle.lump / cycle.chunk, decoding=False)
    prompts = dataclasses.replace(prompts, chunks=cycle.chunks, cached=found)
    decoded = _rows(point, alone, context, _attends)
    share = cycle.decoding_beside / cycle.decoding_alone
    parts = (
        _rows(point, mixed, 1.0, lambda operator: not _attends(operator), _host(point, mixed)),
        _rows(point, prompts, cycle.chunk, _has_past, stages=False),
        jax.tree.map(lambda amount: share * amount, decoded),
    )
    return {
        "decode_iteration": _rows(point, alone, context, lambda _: True, _host(point, alone)),
        "prompt_iteration": _sum(*parts, decoded.bound),
    }


def _step(point: Point, sequences: Scalar) -> Step:
    return phases.server_step(point, point.pass_tokens, sequences, decoding=True)


def _attends(operator: Operator) -> bool:
    return operator.attention is not None


def _has_past(operator: Operator) -> bool:
    """Whether an operator reads the cache or the state of a sequence."""
    return operator.attention is not None or operator.state is not None


def _host(point: Point, step: Step) -> Scalar:
    return host_latency(point, step.answered)


def _rows(
    point: Point,
    step: Step,
    context: Scalar,
    wanted: Callable[[Operator], bool],
    host: Scalar = 0.0,
    *,
    stages: bool = True,
) -> Amounts:
    """Amounts of the operators that are wanted, 0 in the rows of the others.

    Args:
        point: Model, machine, layout and lengths.
        step: The pass.
        context: Tokens that a sequence attends to. [count]
        wanted: Whether an operator is part of it.
        host: Time of the host. [s]
        stages: Whether the stages of a pipeline wait for one another.
    """
    pricing, works = Pricing(point, step), []
    for block in point.model.blocks:
        layers = pricing.layers_in_turn(block) if stages else block.count * pricing.uneven(block)
        for name in block.operators:
            if not wanted(OPERATORS[name]):
                works.append(NO_WORK)
                continue
            cost, seconds = pricing.price(block, name, context)
            works.append(Work(name, layers, block.count / point.layout.pp, cost, seconds))
    return amounts_of(works, host)


def _sum(first: Amounts, second: Amounts, third: Amounts, bound: jax.Array) -> Amounts:
    """Sum of three amounts; each row is bound by what binds its longest part."""
    parts = [first, second, dataclasses.replace(third, bound=bound)]
    longest = jnp.argmax(jnp.stack([part.seconds for part in parts]), axis=0)
    bounds = jnp.stack([part.bound for part in parts])
    total: Amounts = jax.tree.map(lambda *amounts: sum(amounts), *parts)
    rows = np.arange(bounds.shape[1])
    return dataclasses.replace(total, bound=bounds[longest, rows])
