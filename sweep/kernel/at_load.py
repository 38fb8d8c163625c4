"""Power of a server at its load, and the share of its time that prompts take.

A GPU draws a share of its rated power when it waits, and the rest in proportion to how busy it is:
fully when its matrix units are, and by a share of it when its memory is. Decode of one sequence
keeps memory busy and draws some 300 W of the 700 W of an H100, large batches 600 W [1]; decode on
an H200 was measured at 137 to 300 W [2]. The default shares lie between these.

References:
    [1] ML.ENERGY Benchmark 3.0, by the power model of vLLM Semantic Router's fleet simulator.
    [2] Ma et al., "The Illusion of Power Capping in LLM Decode", arXiv 2605.11999, 2026.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from sweep.kernel import phases
from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.factors import Factors
from sweep.kernel.inflight import Inflight
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operator_time import Pricing
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Busy:
    """Time that an iteration keeps a GPU busy. [s]

    Attributes:
        memory: Its device memory.
        compute: The busiest of its units.
    """

    memory: Scalar
    compute: Scalar

    def __add__(self, other: "Busy") -> "Busy":
        """Both after one another."""
        return Busy(self.memory + other.memory, self.compute + other.compute)

    def __mul__(self, times: Scalar) -> "Busy":
        """As long `times` over."""
        return Busy(self.memory * times, self.compute * times)


NOT_BUSY = Busy(0.0, 0.0)


def share_of_rated_power(busy: Busy, seconds: Scalar, factors: Factors) -> Scalar:
    """Power over the rated power of a GPU that is busy for a part of `seconds`. [1]

    With an idle share of 0.12 and 0.4 for the memory, a GPU whose memory is busy all the time and
    whose matrix units are for a fifth of it draws 0.12 + 0.88·(0.2 + 0.4) = 0.648.

    Args:
        busy: Time that memory and units are busy.
        seconds: Time in all. [s]
        factors: `idle_power` and `bandwidth_power`.
    """
    active = (busy.compute + factors.bandwidth_power * busy.memory) / seconds
    return factors.idle_power + (1 - factors.idle_power) * jnp.minimum(active, 1.0)


class AtLoad:
    """Power and time of prompts of a server in its steady state.

    Attributes:
        point: Model, machine, layout, server and lengths.
        served: Its steady state.
        busy: Share of the time in which it has requests. [1]
    """

    def __init__(self, point: Point, served: Inflight, busy: Scalar = 1.0) -> None:
        """Compute each quantity when it is first read."""
        self.point, self.served, self.busy = point, served, busy

    @cached_property
    def power(self) -> Scalar:
        """Power of one GPU, on average over a cycle. [W]"""
        c, lump, alone = self.served.cycle, self.served.lump_latency, self._alone.latency
        shares = (
            share_of_rated_power(self._lump_busy, lump, self.point.factors),
            share_of_rated_power(self._decode_busy(c.decoding_alone), alone, self.point.factors),
        )
        spent = c.lumps * lump, (1 - c.lumps) * alone
        mean = (spent[0] * shares[0] + spent[1] * shares[1]) / (spent[0] + spent[1])
        idle = self.point.factors.idle_power
        return self.point.hardware.power * (idle + self.busy * (mean - idle))

    @cached_property
    def prompt_share(self) -> Scalar:
        """Share of the time that iterations are longer for the prompts in them. [1]"""
        c = self.served.cycle
        without = phases.mixed_latency(self.point, c.decoding_beside)
        without = without + self._alone.attention * c.decoding_beside / c.decoding_alone
        longer = c.lumps * (self.served.lump_latency - without)
        return jnp.clip(longer / self.served.iteration_latency, 0.0, 1.0)

    @cached_property
    def _alone(self) -> phases.Pass:
        return phases.decode_pass(self.point, self.served.cycle.decoding_alone)

    @cached_property
    def _lump_busy(self) -> Busy:
        c, point = self.served.cycle, self.point
        step = phases.server_step(point, point.pass_tokens, c.decoding_beside, decoding=True)
        mixed = dataclasses.replace(
            step, prompt_tokens=c.lump, prompts_ended=c.lump / self.served.isl
        )
        prompts = phases.server_step(point, c.chunk, c.lump / c.chunk, decoding=False)
        prompts = dataclasses.replace(prompts, chunks=c.chunks, cached=point.cached_tokens)
        beside = c.decoding_beside / c.decoding_alone
        return (
            self._busy(mixed, _without_past)
            + self._busy(prompts, _with_past)
            + self._attention_busy(c.decoding_alone) * beside
            + self._draft_busy(c.decoding_beside)
        )

    def _decode_busy(self, sequences: Scalar) -> Busy:
        point = self.point
        step = phases.server_step(point, point.pass_tokens, sequences, decoding=True)
        others = self._busy(step, _without_past)
        return others + self._attention_busy(sequences) + self._draft_busy(sequences)

    def _attention_busy(self, sequences: Scalar) -> Busy:
        point = self.point
        step = phases.server_step(point, point.pass_tokens, sequences, decoding=True)
        return self._busy(step, _attends)

    def _draft_busy(self, sequences: Scalar) -> Busy:
        if self.point.draft_tokens is None:
            return NOT_BUSY
        draft, alone = self.point.model.draft, self.served.cycle.decoding_alone
        step = phases.server_step(self.point, 1.0, sequences, decoding=True)
        decoding = phases.server_step(self.point, 1.0, alone, decoding=True)
        # Attention is proportional to the sequences, of which an iteration may have none.
        attention = self._busy(decoding, _attends, draft) * (sequences / alone)
        return (self._busy(step, _without_past, draft) + attention) * self.point.draft_tokens

    def _busy(
        self,
        step: Step,
        counted: Callable[[str], bool],
        blocks: tuple[Block, ...] | None = None,
    ) -> Busy:
        """Time of the counted operators on a GPU, on average over the stages of a pipeline."""
        pricing, total = Pricing(self.point, step), NOT_BUSY
        context = self.point.length("isl") + self.point.length("osl") / 2
        each = self.served.microbatches / self.point.layout.pp
        for block in self.point.model.blocks if blocks is None else blocks:
            for name in (name for name in block.operators if counted(name)):
                attention = OPERATORS[name].attention
                decodes = attention is not None and step.decoding
                attended = attention.reach(block, context) if attention and decodes else context
                spent = pricing.seconds(block, name, attended)
                total = total + Busy(spent.memory, spent.compute) * (block.count * each)
        return total


def _attends(name: str) -> bool:
    return OPERATORS[name].attention is not None


def _without_past(name: str) -> bool:
    return not _attends(name)


def _with_past(name: str) -> bool:
    return _attends(name) or OPERATORS[name].state is not None
