"""The roofline: an operator takes as long as its slowest resource."""

from functools import reduce

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from sweep.operators.cost import Cost, Scalar
from sweep.params import Hardware, Numbers


class Seconds(eqx.Module):
    """Time each resource needs on its own, in the order of `variables.BOUNDS`. [s]"""

    memory: Scalar
    compute: Scalar
    communication: Scalar

    @property
    def latency(self) -> Scalar:
        """Time of the operator: its resources overlap perfectly. [s]"""
        return _slowest(self.memory, self.compute, self.communication)

    @property
    def shares(self) -> tuple[Scalar, ...]:
        """The latency, booked on the resource that binds. [s]"""
        binds = slowest(self.memory, self.compute, self.communication)
        return tuple(jnp.where(binds == place, self.latency, 0.0) for place in range(3))


def slowest(memory: Scalar, compute: Scalar, communication: Scalar) -> Int[Array, ""]:
    """Place of the largest in `variables.BOUNDS`, the first of them where several are equal.

    By comparisons, which XLA fuses into the loop over a grid; an argmax it would store first.
    """
    memory, compute = jnp.asarray(memory), jnp.asarray(compute)
    by_memory = jnp.logical_and(memory >= compute, memory >= communication)
    return jnp.where(by_memory, 0, jnp.where(compute >= communication, 1, 2))


def resource_seconds(cost: Cost, peak: Scalar, hardware: Hardware) -> Seconds:
    """Time `cost` keeps each resource of `hardware` busy.

    Matrix, vector and special-function units work side by side, so the busiest sets the
    compute time [1].

    Args:
        cost: Work on one GPU.
        peak: Dense matrix rate for its operand types. [FLOP/s]
        hardware: Rates and bandwidths.

    References:
        [1] Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """
    return Seconds(
        memory=cost.memory_bytes / hardware.bandwidth,
        compute=_slowest(
            _seconds(cost.tensor_flops, peak),
            _seconds(cost.vector_flops, hardware.vector_rate),
            _seconds(cost.special_ops, hardware.special_rate),
        ),
        communication=0.0 if _is_nothing(cost.network_span) else network_seconds(cost, hardware),
    )


def _is_nothing(work: Scalar) -> bool:
    """Whether an operator has no such work at all, whatever its sizes; XLA need not see it."""
    return isinstance(work, float) and work == 0.0


def _seconds(work: Scalar, rate: Scalar) -> Scalar:
    return 0.0 if _is_nothing(work) else work / rate


def _slowest(*times: Scalar) -> Scalar:
    spent = [time for time in times if not _is_nothing(time)]
    return reduce(jnp.maximum, spent) if spent else 0.0


def fabric(hardware: Hardware, span: Scalar) -> Int[Array, ""]:
    """Which fabric joins `span` GPUs: 0 the link, 1 PCIe, 2 the network."""
    return jnp.sum(jnp.asarray(span) > jnp.asarray(hardware.fabric_reach), dtype=jnp.int32)


def network_seconds(cost: Cost, hardware: Hardware) -> Scalar:
    """Time of an exchange: its hops, and its bytes at the bandwidth of the fabric it needs. [s]"""
    which = fabric(hardware, cost.network_span)
    bandwidth = jnp.asarray(hardware.fabric_bandwidth)[which]
    hop = jnp.asarray(hardware.fabric_latency)[which]
    return cost.network_bytes / bandwidth + cost.network_hops * hop


def peak_rate(hardware: Hardware, dtype_index: Int[Numbers, ""]) -> Scalar:
    """Dense matrix rate for one operand type. [FLOP/s]"""
    return jnp.asarray(hardware.peaks)[dtype_index]
