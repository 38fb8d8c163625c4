"""Elasticities of times and throughputs with respect to each resource of a machine.

An elasticity is the change of a quantity, in percent, for one percent more of a resource. If all
rates double and all fixed times halve, every time halves; for a time, the elasticities of all rates
minus those of all fixed times therefore sum to −1.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sweep.kernel import memory
from sweep.kernel.factors import Factors
from sweep.kernel.operators.cost import Scalar, is_nothing
from sweep.kernel.params import Hardware, Numbers, Point
from sweep.kernel.request import Request

RATES = (
    "memory_bandwidth",
    "matrix_rate",
    "vector_rate",
    "special_function_rate",
    "link_bandwidth",
)
FIXED_TIMES = ("hop_latency", "software_overhead")
RESOURCES = (*RATES, *FIXED_TIMES, "memory_size")
"""Resources to vary: rates, times that no rate shortens, and the size of the device memory.

More matrix rate comes with the power to hold it."""
OVERHEADS = tuple(field.name for field in dataclasses.fields(Factors) if field.name.endswith("_s"))
"""Factors that are fixed times."""

Quantities = dict[str, Scalar]


def scaled(point: Point, factors: Float[Array, "resource"]) -> Point:
    """Multiply the resources of a point, in the order of `RESOURCES`."""
    by = dict(zip(RESOURCES, factors, strict=True))
    return dataclasses.replace(
        point,
        hardware=_scaled_hardware(point.hardware, by),
        factors=_scaled_overheads(point.factors, by["software_overhead"]),
    )


def _scaled_hardware(hardware: Hardware, by: dict[str, Array]) -> Hardware:
    def times(value: Float[Numbers, "..."] | float, resource: str) -> Array:
        # An unknown rate is infinite, and its derivative must not become infinite too.
        known = jnp.asarray(value)
        return jnp.where(jnp.isfinite(known), known * by[resource], known)

    return dataclasses.replace(
        hardware,
        bandwidth=times(hardware.bandwidth, "memory_bandwidth"),
        peaks=times(hardware.peaks, "matrix_rate"),
        vector_rate=times(hardware.vector_rate, "vector_rate"),
        special_rate=times(hardware.special_rate, "special_function_rate"),
        fabric_bandwidth=times(hardware.fabric_bandwidth, "link_bandwidth"),
        fabric_latency=times(hardware.fabric_latency, "hop_latency"),
        memory=times(hardware.memory, "memory_size"),
    )


def _scaled_overheads(factors: Factors, factor: Array) -> Factors:
    spent = {name: getattr(factors, name) for name in OVERHEADS}
    longer = {
        # An infinite time is that of a way that is not there.
        name: jnp.where(jnp.isfinite(time), time * factor, time)
        for name, time in spent.items()
        if not is_nothing(time)
    }
    return dataclasses.replace(factors, **longer)


def _logarithms(
    point: Point, quantities: Callable[[Request], Quantities]
) -> Callable[[Float[Array, "resource"]], dict[str, Array]]:
    """Logarithms of the quantities, as a function of those of the factors of the resources."""

    def logarithms(of_factors: Float[Array, "resource"]) -> dict[str, Array]:
        request = Request(scaled(point, jnp.exp(of_factors)), keep_infeasible=True)
        return {name: jnp.log(value) for name, value in quantities(request).items()}

    return logarithms


def elasticities(
    point: Point, quantities: Callable[[Request], Quantities]
) -> dict[str, Float[Array, "resource"]]:
    """Elasticity of each quantity by each of `RESOURCES`. [1]

    Exact derivatives at the point; they change where another resource starts to bind.

    Args:
        point: What runs where.
        quantities: Function from a request to the quantities, which must be positive.
    """
    logarithms = _logarithms(point, quantities)
    found: dict[str, Array] = jax.jacfwd(logarithms)(jnp.zeros(len(RESOURCES)))
    return found


STEP = 0.01
"""Relative step of a difference of two quantities, by more and by less of a resource. [1]"""


def elasticities_by_difference(
    point: Point, quantities: Callable[[Request], Quantities]
) -> dict[str, Float[Array, "resource"]]:
    """Elasticity of each quantity that has no derivative, such as the result of a bisection. [1]

    Args:
        point: What runs where.
        quantities: Function from a request to the quantities, which must be positive.
    """
    steps = STEP * jnp.eye(len(RESOURCES))
    found = jax.vmap(_logarithms(point, quantities))(jnp.concatenate([steps, -steps]))
    ends = {name: jnp.split(value, 2) for name, value in found.items()}
    return {name: (more - less) / (2 * STEP) for name, (more, less) in ends.items()}


def sequences_that_fit(request: Request) -> Scalar:
    """Sequences whose KV cache fits with the weights and this batch's activations. [count]"""
    point = request.point
    taken = request.memory_required - request.kv_cache_memory
    each = memory.kv_bytes_per_sequence(point, memory.longest(point))
    return point.layout.dp_attention * (point.hardware.memory - taken) / each
