"""Time of one operator on one accelerator, with factors applied."""

import dataclasses
from functools import cached_property

import jax.numpy as jnp

from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS
from sweep.kernel.operators.cost import Cost, Scalar, is_nothing, is_one
from sweep.kernel.params import Point
from sweep.kernel.roofline import Seconds, peak_rate, resource_seconds
from sweep.schema.terms import Role


class Pricing:
    """Cost and time of the operators of one step; values that they share are computed once."""

    def __init__(self, point: Point, step: Step) -> None:
        """Compute each shared value when it is first needed."""
        self.point, self.step = point, step
        self._peaks: dict[Role, Scalar] = {}

    @cached_property
    def _stage(self) -> Scalar:
        """Layers of the fullest stage over their mean, times the wait between stages. [1]"""
        pp, layers = self.point.layout.pp, self.point.model.layers
        idle = self.point.factors.pipeline_idle
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

    @cached_property
    def _eight_bit_peak(self) -> Scalar:
        """Dense matrix rate in FP8, or in the type of the residual stream if it is faster. [FLOP/s]

        Accelerators without FP8 have a rate of 0 there.
        """
        rate = peak_rate(self.point.hardware, self.point.precision.eight_bit_peak)
        return jnp.maximum(rate * self._clock, self.peak("hidden"))

    def _kv_heads(self, block: Block) -> Scalar:
        """KV heads of all sequences that a GPU works on. [count]"""
        return self.step.sequences * jnp.maximum(block.kv_heads / self.step.tp, 1.0)

    @cached_property
    def _clock(self) -> Scalar:
        """Clock that is held under full load over that of the published rate. [1]"""
        limit = self.point.factors.power_limit
        if is_nothing(limit):
            return 1.0
        return jnp.power(self.point.hardware.power_headroom, limit)

    def price(self, block: Block, name: str, context_len: Scalar) -> tuple[Cost, Seconds]:
        """Cost and time of an operator in one layer when sequences hold `context_len` tokens.

        The cost is the roofline's: factors change how long the work takes, not how much there is.
        """
        operator = OPERATORS[name]
        attention = operator.attention
        attended = context_len if attention is None else attention.reach(block, context_len)
        cost = self._cost(block, operator, self.step, attended)
        if self._run_step is self.step:
            return cost, self._seconds(block, operator, cost)
        return cost, self.seconds(block, name, attended)

    def seconds(self, block: Block, name: str, attended: Scalar) -> Seconds:
        """Time of an operator in one layer whose sequences attend to `attended` tokens."""
        operator = OPERATORS[name]
        cost = self._cost(block, operator, self._run_step, attended)
        return self._seconds(block, operator, cost)

    @staticmethod
    def _cost(block: Block, operator: Operator, step: Step, attended: Scalar) -> Cost:
        """Cost of an operator, where each sequence may decode several tokens at once."""
        with_past = operator.attention is not None or operator.state is not None
        if not (step.decoding and with_past) or is_one(step.query_len):
            return operator.cost(block, step, attended)
        one_token = dataclasses.replace(step, query_len=1.0)
        return verified(operator, operator.cost(block, one_token, attended), step.query_len)

    @cached_property
    def _run_step(self) -> Step:
        """The step as an engine runs it: its load of the busiest GPU, its way to the experts."""
        factors = self.point.factors
        if is_one(factors.expert_imbalance) and is_nothing(factors.dispatch_everywhere):
            return self.step
        layout = self.step.layout
        imbalance = layout.expert_imbalance * factors.expert_imbalance
        return dataclasses.replace(
            self.step,
            layout=dataclasses.replace(layout, expert_imbalance=imbalance),
            dispatch_everywhere=factors.dispatch_everywhere,
        )

    def _seconds(self, block: Block, operator: Operator, cost: Cost) -> Seconds:
        """Time that `cost` takes at the rates that the engine reaches."""
        factors, attention = self.point.factors, operator.attention
        fused = attention is not None or operator.state is not None
        share = factors.attention if fused else factors.gemm
        if operator.role == "experts":
            share = share * factors.expert_gemm
        if attention is not None and attention.by_head and self.step.decoding:
            cost = _on_vector_units(cost, factors.vector_attention)
            cost = _few_heads(cost, self._kv_heads(block), factors.kv_half_heads)
        peak = self._eight_bit_peak if operator.eight_bit else self.peak(operator.role)
        rate = peak * share
        return resource_seconds(cost, rate, self.point.hardware, factors)


def verified(operator: Operator, cost: Cost, tokens: Scalar) -> Cost:
    """Cost of an operator with a past for `tokens` new tokens of each sequence, from that of one.

    All tokens of a sequence are computed, and its cache is read once for all of them; entries that
    an indexer selects for each token are read by each, and a buffer takes each in. A state is read
    once and written after each token, since any of them may be the last that is accepted.

    Args:
        operator: Attention over a cache, or a mixer with a state.
        cost: Its cost for one token of each sequence.
        tokens: New tokens of each. [count]
    """
    attention = operator.attention
    moved: Scalar = 1.0
    if attention is None:
        moved = (1 + tokens) / 2
    elif attention.span in ("selected", "buffer"):
        moved = tokens
    return dataclasses.replace(
        cost,
        tensor_flops=cost.tensor_flops * tokens,
        vector_flops=cost.vector_flops * tokens,
        special_ops=cost.special_ops * tokens,
        activation_bytes=cost.activation_bytes * tokens,
        kv_bytes=cost.kv_bytes * moved,
    )


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
    factors, total = point.factors, jnp.zeros(())
    if not is_nothing(factors.step_overhead_s):
        total = total + factors.step_overhead_s
    if not is_nothing(factors.sequence_overhead_s):
        total = total + factors.sequence_overhead_s * sampled
    if not is_nothing(factors.pipeline_sequence_overhead_s):
        waited = factors.pipeline_sequence_overhead_s * (point.layout.pp - 1)
        total = total + waited * sampled
    return total
