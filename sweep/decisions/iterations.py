"""Time and work of the iterations of a server with in-flight batching, by operator.

An iteration that carries prompts runs in three parts: operators without a past on all its tokens,
attention and scans over the prompts, and attention of the sequences that decode beside them.
"""

import dataclasses
from collections.abc import Callable

from sweep.decisions.operator_breakdown import Amounts, amounts_of
from sweep.kernel.bindings.operator import Step
from sweep.kernel.inflight import Inflight
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operator_time import Pricing, host_latency
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.phases import Work, server_step

ITERATIONS = ("prompt_iteration", "decode_iteration")


def iterations(point: Point, context: float) -> dict[str, list[Amounts]]:
    """Break down an iteration that carries prompts, and one that decodes only.

    Drafts are left out.

    Args:
        point: A cell with a number of requests, or without for as many as fit.
        context: Tokens that a sequence that decodes attends to, on average. [count]

    Returns:
        By kind of `ITERATIONS`, the parts that run after one another.
    """
    served = Inflight(point)
    cycle = served.cycle
    alone = server_step(point, point.pass_tokens, cycle.decoding_alone, decoding=True)
    beside = server_step(point, point.pass_tokens, cycle.decoding_beside, decoding=True)
    mixed = dataclasses.replace(
        beside, prompt_tokens=cycle.lump, prompts_ended=cycle.lump / served.isl
    )
    prompts = server_step(point, cycle.chunk, cycle.lump / cycle.chunk, decoding=False)
    prompts = dataclasses.replace(prompts, chunks=cycle.chunks, cached=point.cached_tokens)
    sharing = cycle.decoding_beside / cycle.decoding_alone

    def works(
        step: Step, attended: Scalar, counted: Callable[[str], bool], times: Scalar = 1.0
    ) -> list[Work]:
        pricing, each = Pricing(point, step), served.microbatches / point.layout.pp
        found = []
        for block in point.model.blocks:
            layers = block.count * pricing.uneven(block)
            for name in block.operators:
                weight = times if counted(name) else 0.0
                cost, seconds = pricing.price(block, name, attended)
                executed = weight * block.count * each
                found.append(Work(name, weight * layers, executed, cost, seconds))
        return found

    return {
        ITERATIONS[0]: [
            amounts_of(works(mixed, context, _without_past), host_latency(point, mixed.answered)),
            amounts_of(works(prompts, cycle.chunk, _with_past), 0.0),
            amounts_of(works(alone, context, _attends, sharing), 0.0),
        ],
        ITERATIONS[1]: [
            amounts_of(works(alone, context, _every), host_latency(point, alone.answered))
        ],
    }


def share_of_iterations(point: Point) -> Scalar:
    """Share of the iterations that carry prompts. [1]"""
    return Inflight(point).cycle.lumps


def _every(name: str) -> bool:
    del name
    return True


def _attends(name: str) -> bool:
    return OPERATORS[name].attention is not None


def _without_past(name: str) -> bool:
    return not _attends(name)


def _with_past(name: str) -> bool:
    return _attends(name) or OPERATORS[name].state is not None
