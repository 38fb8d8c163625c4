"""Iterations of a server whose requests arrive one by one, whatever rate they arrive at."""

from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sweep.kernel import phases
from sweep.kernel.gates import gates_of
from sweep.kernel.inflight import Inflight
from sweep.kernel.iteration_curve import Curve
from sweep.kernel.keeps_step import arriving_order, prefill_first
from sweep.kernel.operators.cost import Scalar, is_nothing
from sweep.kernel.params import Point
from sweep.kernel.residents import at_capacity
from sweep.kernel.spread import chunks_of


class Iterations:
    """Times of the iterations of one microbatch of one attention group.

    Attributes:
        point: Model, machine, precision, layout, server and lengths.
        full: The closed loop with every slot taken.
        parts: Microbatches of all attention groups. [count]
        held: Slots of each. [count]
        steps: Iterations in which a request decodes. [count]
        fill: Prompts that an iteration has room for. [count]
        chunks: Iterations that the prefill of a prompt takes. [count]
        prefill_first: Whether iterations with prompts decode nothing; `None` for no.
        gates: Times at which prompts may start; `None` for always.
    """

    def __init__(self, point: Point) -> None:
        """Compute each quantity when it is first read."""
        self.point = point
        self.full = Inflight(at_capacity(point), order=arriving_order(point))
        self.parts = point.layout.dp_attention * self.full.microbatches
        self.held = self.full.cycle.residents
        self.steps = point.decode_passes
        self._isl = point.new_tokens
        self.fill = point.server.max_num_tokens / self._isl
        self.chunks = jnp.maximum(jnp.ceil(1 / self.fill - 1e-6), 1.0)
        if point.isl_cv is not None:
            several = chunks_of(1 / self.fill, point.isl_cv)
            self.chunks = jnp.where(point.isl_cv > 0, several, self.chunks)
        self.prefill_first = prefill_first(point)
        self.gates = gates_of(point, self.parts, self.fill)

    def _others(self, sequences: Scalar, prompts: Scalar) -> Scalar:
        """Time of all but attention with so many sequences and prompts. [s]"""
        tokens = prompts * self._isl
        found = self.point.cached_tokens
        return phases.mixed_latency(
            self.point,
            sequences,
            prompt_tokens=tokens,
            prompts_ended=prompts,
            prompts_cached=0.0 if is_nothing(found) else prompts * found,
        )

    @cached_property
    def _attention(self) -> tuple[Scalar, Scalar]:
        """Decode attention of one sequence, and what each further one adds: a straight line. [s]"""
        one = phases.decode_pass(self.point, 1.0).attention
        all_held = phases.decode_pass(self.point, self.held).attention
        return one, (all_held - one) / jnp.maximum(self.held - 1, 1.0)

    def _decode_attention(self, sequences: Scalar) -> Scalar:
        one, more = self._attention
        return jnp.minimum(sequences, 1.0) * one + jnp.maximum(sequences - 1, 0.0) * more

    @cached_property
    def _prompt_attention(self) -> Scalar:
        """Attention and scans of one prompt, all its chunks. [s]"""
        each = phases.prefill_attention_latency(
            self.point, sequences=1.0, chunk=self._isl / self.chunks, chunks=self.chunks
        )
        return self.chunks * each

    @cached_property
    def curve(self) -> Curve:
        """Times of iterations over the sequences and prompts in them."""
        held = self.held ** jnp.asarray([0.0, 1 / 3, 2 / 3, 1.0])
        nodes = jnp.concatenate([jnp.zeros(1), held])
        fewest = 1 / self.chunks
        room = jnp.maximum(self.fill / fewest, 1.0)
        several = jnp.minimum(room, 2.0)
        prompts = fewest * jnp.stack([jnp.ones(()), several, jnp.sqrt(several * room), room])
        over_nodes = jax.vmap(self._others, (0, None))
        over_both = jax.vmap(over_nodes, (None, 0))
        every = jnp.concatenate([jnp.zeros(1), prompts])
        computed: Array = jnp.asarray(over_both(nodes, every))
        times = computed + jnp.asarray(jax.vmap(self._decode_attention)(nodes))[None]
        carrying = times[1:] + prompts[:, None] * self._prompt_attention
        # An iteration without prompts has one sequence at least.
        alone = jnp.concatenate([times[0, 1:2], times[0, 1:]])
        extra = carrying - alone[None]
        extra = jnp.where(nodes[None] > 0, jnp.maximum(extra, 0.0), extra)
        if self.prefill_first is not None:
            # Iterations with prompts decode nothing.
            extra = jnp.where(self.prefill_first, carrying[:, :1] - alone[None], extra)
        return Curve(
            nodes=nodes,
            times=alone,
            prompts=prompts,
            extras=extra,
            fill=self.fill,
            chunks=self.chunks,
            prefill_first=self.prefill_first,
            gates=self.gates,
        )
