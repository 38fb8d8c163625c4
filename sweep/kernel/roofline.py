"""The roofline: an operator takes as long as its slowest resource."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from sweep.kernel.factors import IDEAL, Factors
from sweep.kernel.operators.cost import Cost, Scalar, is_endless, is_nothing, is_one
from sweep.kernel.params import Hardware, Numbers


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Seconds:
    """Time each resource needs on its own, in the order of `terms.BOUNDS`. [s]

    Attributes:
        memory: Device memory.
        compute: The busiest of the matrix, vector and special-function units.
        communication: The fabric between GPUs.
        unhidden: Share of what does not bind that is not hidden behind what does. [1]
        overhead: Time beyond all resources.
        idle: Part of `compute` in which matrices of few rows leave units idle.
    """

    memory: Scalar
    compute: Scalar
    communication: Scalar
    unhidden: Scalar = 0.0
    overhead: Scalar = 0.0
    idle: Scalar = 0.0

    @property
    def resources(self) -> list[Scalar]:
        """Time of each resource that it needs. [s]"""
        every = self.memory, self.compute, self.communication
        return [time for time in every if not is_nothing(time)]

    @property
    def latency(self) -> Scalar:
        """Time of the operator. [s]"""
        return in_turn([self])

    @property
    def shares(self) -> tuple[Scalar, ...]:
        """The latency at the resource that binds, and 0 at the others. [s]"""
        binds = slowest(self.memory, self.compute, self.communication)
        return tuple(jnp.where(binds == index, self.latency, 0.0) for index in range(3))


def in_turn(operators: Sequence[Seconds]) -> Scalar:
    """Time of operators of one pass, one after another. [s]

    What is not hidden is a share of its sum over all of them, in place of a share of each: fewer
    operations for each cell of a grid.
    """
    if not operators:
        return 0.0
    unhidden, overhead = operators[0].unhidden, operators[0].overhead
    longest = sum(_slowest(*each.resources) for each in operators)
    total = longest
    if not is_nothing(unhidden):
        every = sum(sum(each.resources) for each in operators)
        total = longest + unhidden * (every - longest)
    return total if is_nothing(overhead) else total + len(operators) * overhead


def slowest(memory: Scalar, compute: Scalar, communication: Scalar) -> Int[Array, ""]:
    """Index in `terms.BOUNDS` of the largest, the first where several are equal.

    Comparisons, because XLA fuses them into the loop over a grid and would store an argmax first.
    """
    memory, compute = jnp.asarray(memory), jnp.asarray(compute)
    by_memory = jnp.logical_and(memory >= compute, memory >= communication)
    return jnp.where(by_memory, 0, jnp.where(compute >= communication, 1, 2))


def resource_seconds(
    cost: Cost, peak: Scalar, hardware: Hardware, factors: Factors = IDEAL
) -> Seconds:
    """Time that each resource of `hardware` is busy with `cost`.

    Matrix, vector and special-function units work side by side, so the busiest sets the
    compute time [1].

    Args:
        cost: Work on one GPU.
        peak: Dense matrix rate that is reached for its operand types. [FLOP/s]
        hardware: Rates and bandwidths.
        factors: Shares of those rates that a real engine reaches.

    References:
        [1] Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """
    # Once for each accelerator: a quotient would be taken at every point. Rates are not multiplied
    # by shares, since one that is infinite would have no derivative by them.
    times = 1 / factors.software
    read_weights = factors.weight_bandwidth
    if not (is_one(factors.expert_bandwidth) or is_nothing(cost.expert_row_flops)):
        read_weights = read_weights * factors.expert_bandwidth
    moved = (
        (cost.weight_bytes, read_weights),
        (cost.kv_bytes, factors.kv_bandwidth),
        (cost.activation_bytes, factors.activation_bandwidth),
    )
    spent = [
        amount * (times / share / hardware.bandwidth)
        for amount, share in moved
        if not is_nothing(amount)
    ]
    tensor_flops = cost.tensor_flops
    if not (is_nothing(factors.gemm_half_rows) or is_nothing(cost.row_flops)):
        tensor_flops = tensor_flops + factors.gemm_half_rows * cost.row_flops
    if not (is_nothing(factors.expert_half_rows) or is_nothing(cost.expert_row_flops)):
        tensor_flops = tensor_flops + _tile_flops(
            factors.expert_half_rows * cost.expert_row_flops, cost.tensor_flops
        )
    alone = is_nothing(cost.network_span)
    compute = _slowest_unit(tensor_flops, cost, peak, hardware, times)
    full = tensor_flops is cost.tensor_flops
    least = compute if full else _slowest_unit(cost.tensor_flops, cost, peak, hardware, times)
    return Seconds(
        memory=reduce(add, spent) if spent else 0.0,
        compute=compute,
        communication=0.0 if alone else network_seconds(cost, hardware, factors),
        unhidden=factors.unhidden,
        overhead=factors.operator_overhead_s,
        idle=0.0 if full else compute - least,
    )


def _slowest_unit(
    tensor_flops: Scalar, cost: Cost, peak: Scalar, hardware: Hardware, times: Scalar
) -> Scalar:
    """Time of the slowest unit, `times` that at its full rate. [s]

    Args:
        tensor_flops: FLOPs of the matrix units. [count]
        cost: Work of the other units.
        peak: Rate of the matrix units. [FLOP/s]
        hardware: Rates of the others.
        times: Multiple of the time. [1]
    """
    return _slowest(
        _seconds(tensor_flops, peak, times),
        _seconds(cost.vector_flops, hardware.vector_rate, times),
        _seconds(cost.special_ops, hardware.special_rate, times),
    )


def _tile_flops(added: Scalar, own: Scalar) -> Scalar:
    """FLOPs that tiles of a grouped product add to its own: `added`, but no more than `own`.

    Grouped kernels choose a tile by the rows of an expert, so that a few rows do not compute a
    large one [1]; half of a chosen tile is used at least.

    References:
        [1] Gale et al., "MegaBlocks", MLSys 2023.
    """
    return added / (1 + added / jnp.maximum(own, 1.0))


def _seconds(work: Scalar, rate: Scalar, times: Scalar) -> Scalar:
    return 0.0 if is_nothing(work) else work * (times / rate)


def _slowest(*times: Scalar) -> Scalar:
    spent = [time for time in times if not is_nothing(time)]
    return reduce(jnp.maximum, spent) if spent else 0.0


def fabric(hardware: Hardware, span: Scalar) -> Int[Array, ""]:
    """Index of the fabric that joins `span` GPUs: 0 the link, 1 PCIe, 2 the network."""
    return jnp.sum(jnp.asarray(span) > jnp.asarray(hardware.fabric_reach), dtype=jnp.int32)


def network_seconds(cost: Cost, hardware: Hardware, factors: Factors = IDEAL) -> Scalar:
    """Time of an exchange: its hops, and its bytes at the bandwidth of the fabric it needs. [s]

    A sum that can be done at once takes about the smaller of that time and of a hop with the
    buffers of all others, which is faster for small ones [1].

    References:
        [1] Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in
            MPICH", IJHPCA 19(1), 2005.
    """
    which = fabric(hardware, cost.network_span)
    bandwidth = jnp.asarray(hardware.fabric_bandwidth)[which]
    hop = jnp.asarray(hardware.fabric_latency)[which]
    # In this order the derivative by an unknown, infinite bandwidth is 0.
    moved = cost.network_bytes / bandwidth / factors.link_bandwidth
    pairs = cost.network_span / 2
    if not is_nothing(factors.link_crowding):
        moved = moved * jnp.power(pairs, factors.link_crowding)
    spent = moved + cost.network_hops * hop
    overhead = factors.exchange_overhead_s
    if not is_nothing(overhead):
        if not is_nothing(factors.exchange_growth):
            overhead = overhead * jnp.power(pairs, factors.exchange_growth)
        spent = spent + jnp.minimum(cost.network_hops, 1.0) * overhead
    if is_nothing(cost.one_shot_bytes) or is_endless(factors.one_shot_s):
        return spent
    read = cost.one_shot_bytes / bandwidth / factors.link_bandwidth
    return _smaller(spent, factors.one_shot_s + hop + read)


def _smaller(first: Scalar, second: Scalar) -> Scalar:
    """The smaller of two times, smoothly: 0.84 of either where they are equal. [s]

    The change from one kernel to the other is spread over the sizes of a run. A first time of 0
    stays 0, and an infinite second one leaves the first.
    """
    some = first > 0
    least = jnp.where(some, first, 1.0)
    return jnp.where(some, least / jnp.sqrt(jnp.sqrt(1 + (least / second) ** 4)), 0.0)


def peak_rate(hardware: Hardware, dtype_index: Int[Numbers, ""]) -> Scalar:
    """Dense matrix rate for one operand type. [FLOP/s]"""
    return jnp.asarray(hardware.peaks)[dtype_index]
