"""Time, work and binding resource of every operator of one cell, for a prefill and a decode step.

`explain` computes it for one cell, the report maps it over many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sweep.kernel import phases
from sweep.kernel.block import Block
from sweep.kernel.operator_table import operator_names
from sweep.kernel.operator_time import host_latency
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.phases import Work
from sweep.kernel.roofline import Seconds, slowest
from sweep.schema.terms import BOUNDS

PHASES = ("prefill", "decode_step")
HOST = "host"
"""Name of the last row: the host, which works between the operators."""
SMALL_MATRICES = "small_matrices"
SPENT = (*BOUNDS, "unhidden", "overhead", SMALL_MATRICES)
"""Uses of time: the resource that binds, the part of the other resources that it does not
hide, the overhead beyond all resources, and the part of the compute that is lost because matrices
of few rows leave units idle."""
NO_BOUND = -1
"""Index into `BOUNDS` of the host, and of an operator that is mostly overhead."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Amounts:
    """Time and work of one phase on each GPU, all layers of a block together.

    A row is one operator of one block, in running order; the last row is the host. It has the
    overhead of operators without any work too, such as an exchange on one GPU.

    Attributes:
        seconds: Time. [s]
        spent: The same time, by `SPENT`. [s]
        flops: Matrix and element-wise operations. [count]
        memory_bytes: Traffic to and from device memory. [byte]
        network_bytes: Bytes sent to other GPUs. [byte]
        bound: Resource that binds, as an index into `BOUNDS`.
    """

    seconds: Float[Array, "*cells row"]
    spent: Float[Array, "*cells row spent"]
    flops: Float[Array, "*cells row"]
    memory_bytes: Float[Array, "*cells row"]
    network_bytes: Float[Array, "*cells row"]
    bound: Int[Array, "*cells row"]


def is_mostly_overhead(overhead: Any, seconds: Any) -> Any:
    """Test if more than half of a time is overhead, element by element for arrays.

    Args:
        overhead: The part of the time that is overhead. [s]
        seconds: All of the time. [s]
    """
    return overhead > seconds / 2


def without_overhead_bound(amounts: Amounts) -> Amounts:
    """The amounts, without a binding resource where the time is mostly overhead."""
    overhead = amounts.spent[..., SPENT.index("overhead")]
    lost = is_mostly_overhead(overhead, amounts.seconds)
    return replace(amounts, bound=jnp.where(lost, NO_BOUND, amounts.bound))


def mean_context(isl: float, osl: float) -> float:
    """Tokens that a sequence attends to in its osl − 1 decode steps, on average. [count]"""
    return isl + osl / 2


def row_names(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Name of each row of `Amounts`."""
    return (*(name for block in blocks for name in block.operators), HOST)


def break_down(point: Point) -> dict[str, Amounts]:
    """Break a prefill of the batch and one decode step down by operator.

    Returns:
        By phase of `PHASES`.
    """
    host = host_latency(point, point.group_sequences / point.microbatches)
    works = phases.prefill(point), phases.decode_step(point)
    return {name: amounts_of(each, host) for name, each in zip(PHASES, works, strict=True)}


def sum_by_name(blocks: Sequence[Block], rows: Array) -> Array:
    """Sum the rows of an amount that have the same operator; the host is left out.

    Args:
        blocks: Of the model.
        rows: Any amount of `Amounts` for one cell.

    Returns:
        In the order of `operator_names`.
    """
    names = row_names(blocks)

    def total(operator: str) -> Array:
        first, *others = (rows[i] for i, name in enumerate(names) if name == operator)
        return sum(others, start=first)

    return jnp.stack([total(operator) for operator in operator_names(blocks)])


def amounts_of(works: Sequence[Work], host: Scalar) -> Amounts:
    """Amounts of works in running order, and of the host after them.

    Args:
        works: Operators of one pass.
        host: Time of the host. [s]
    """
    waited = jnp.zeros(len(SPENT)).at[SPENT.index("overhead")].set(host)
    amounts = Amounts(
        seconds=_stacked([*(work.count * work.seconds.latency for work in works), host]),
        spent=_stacked([*(work.count * _spent(work.seconds) for work in works), waited]),
        flops=_stacked([*(work.executed * work.cost.flops for work in works), 0.0]),
        memory_bytes=_stacked([*(work.executed * work.cost.memory_bytes for work in works), 0.0]),
        network_bytes=_stacked([*(work.executed * work.cost.network_bytes for work in works), 0.0]),
        bound=jnp.stack([*(_binding(work.seconds) for work in works), jnp.asarray(NO_BOUND)]),
    )
    works_at_all = amounts.flops + amounts.memory_bytes + amounts.network_bytes > 0
    return replace(
        amounts,
        seconds=_idle_at_host(amounts.seconds, works_at_all),
        spent=_idle_at_host(amounts.spent, works_at_all[:, None]),
    )


def _idle_at_host(times: Array, works: Array) -> Array:
    """Times with those of rows that have no work in the last row, the host's. [s]"""
    kept = jnp.where(works, times, 0.0)
    return kept.at[-1].add((times - kept).sum(axis=0))


def _stacked(values: Sequence[Any]) -> Array:
    return jnp.stack([jnp.asarray(value, float) for value in values])


def _busy(seconds: Seconds) -> tuple[Scalar, Scalar, Scalar]:
    """Time that an operator keeps each resource of `BOUNDS` busy in one layer. [s]"""
    return seconds.memory, seconds.compute, seconds.communication


def _binding(seconds: Seconds) -> Array:
    return slowest(*_busy(seconds))


def _spent(seconds: Seconds) -> Array:
    """Latency of an operator in one layer, by `SPENT`. [s]"""
    busy = [jnp.asarray(time) for time in _busy(seconds)]
    binding = _binding(seconds)
    longest = [jnp.where(binding == index, time, 0.0) for index, time in enumerate(busy)]
    overhead, idle = jnp.asarray(seconds.overhead), jnp.asarray(seconds.idle)
    unhidden = seconds.latency - sum(longest[1:], start=longest[0]) - overhead
    lost = jnp.where(binding == BOUNDS.index("compute"), idle, 0.0)
    longest[BOUNDS.index("compute")] = longest[BOUNDS.index("compute")] - lost
    # Where nothing is unhidden, the subtraction may leave a rounding error below 0.
    return jnp.stack([*longest, jnp.maximum(unhidden, 0.0), overhead, lost])
