"""Waits in queues whose service varies with what is in it, and under arrivals in bursts."""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import betainc, gammaln

from sweep.kernel.operators.cost import Scalar

NEARLY = 0.999
"""Highest utilisation for which a wait is computed; above, it grows without limit. [1]"""
FLATTEST = 2e-4
"""Least slope of the sojourn over its value at no load; below, sharing makes no difference. [1]"""
BETWEEN = 0.42
"""Share of a time that has the mean of a root of the shares from 0 to 1. [1]"""


class Visit(eqx.Module):
    """Iterations of one microbatch of one attention group, as an arriving request finds them.

    Attributes:
        alone: Time of an iteration that decodes only. [s]
        others: Time of one that carries prompts of others. [s]
        decode_only: Share of the time in iterations that decode only. [1]
        residual: Time until the running iteration ends. [s]
        prefill: Time of the iterations that prefill the prompt. [s]
        prefill_alone: The same without companions. [s]
        each: Time that a companion adds, another prompt in its first iteration. [s]
        backlog: Share of the requests that wait for prompts beyond those. [1]
        backlog_wait: Mean wait of those. [s]
    """

    alone: Scalar
    others: Scalar
    decode_only: Scalar
    residual: Scalar
    prefill: Scalar
    prefill_alone: Scalar
    each: Scalar
    backlog: Scalar
    backlog_wait: Scalar


class Slots(eqx.Module):
    """Waiting for a slot.

    Attributes:
        waits: Share of the requests that wait. [1]
        wait: Mean wait of those. [s]
        idle: Share of the time in which the server has no request. [1]
    """

    waits: Scalar
    wait: Scalar
    idle: Scalar


def slots(
    rate: Scalar,
    sojourn: Scalar,
    growth: Scalar,
    held: Scalar,
    capacity: Scalar,
    dispersion: Scalar = 1.0,
    varied: Scalar = 0.0,
) -> Slots:
    """Wait for one of `held` slots.

    With n requests a request takes `sojourn + growth · n`, so that up to `held` the number of
    requests is negative binomial, by product form; beyond, it falls geometrically. For one slot
    this is M/D/1, and for no growth Erlang's M/M/c with the half of its wait that M/D/c has, or the
    share (1 + c²)/2 where service varies.
    Requests that arrive in bursts are counted in units of their dispersion, as Hayward does.

    Args:
        rate: Arrivals. [s-1]
        sojourn: Time of a request without others. [s]
        growth: Time that each request adds. [s]
        held: Slots. [count]
        capacity: Requests completed with every slot taken. [s-1]
        dispersion: Squared coefficient of variation of the gaps between arrivals. [1]
        varied: Squared coefficient of variation of the service. [1]
    """
    growth = jnp.maximum(growth, FLATTEST * sojourn)
    odds = jnp.minimum(rate * growth, NEARLY)
    shape = 1 + sojourn / (growth * dispersion)
    utilisation = jnp.minimum(rate / capacity, NEARLY)
    units = held / dispersion
    log_full = (
        gammaln(units + shape)
        - gammaln(shape)
        - gammaln(units + 1)
        + shape * jnp.log1p(-odds)
        + units * jnp.log(odds)
    )
    full = jnp.exp(log_full) / (1 - utilisation)
    below = jnp.maximum(1 - betainc(units, shape, odds), 1e-12)
    # With one slot the server is busy while it is taken, whatever the line says.
    share, all_waits = bursts(utilisation, dispersion)
    waits = jnp.where(held > 1, full / (below + full), utilisation * share)
    idle = jnp.where(held > 1, (1 - odds) ** shape, 1 - utilisation)
    each = 1 / (2 * capacity * (1 - utilisation))
    spread = jnp.where(held > 1, dispersion, all_waits / share) + varied
    return Slots(waits, each * spread, idle)


def bursts(used: Scalar, dispersion: Scalar) -> tuple[Scalar, Scalar]:
    """Waits of GI/D/1 over those of M/D/1, by Kraemer and Langenbach-Belz [1].

    Args:
        used: Utilisation. [1]
        dispersion: Squared coefficient of variation of the gaps between arrivals. [1]

    Returns:
        The share of arrivals that wait and the mean wait of all, both over those at Poisson
        arrivals. [1]

    References:
        [1] Kraemer and Langenbach-Belz, "Approximate formulae for the delay in the queueing system
            GI/G/1", 8th International Teletraffic Congress, 1976.
    """
    used = jnp.maximum(used, 1e-6)
    idle, over = 1 - used, dispersion - 1
    even = (1 + dispersion) / (1 - used + 4 * used**2 * dispersion)
    uneven = 4 * used / (dispersion + 4 * used**2 * dispersion)
    share = 1 + over * idle * jnp.where(over > 0, uneven, even)
    damped = jnp.where(
        over > 0, idle * over / dispersion, 2 * idle * over**2 / (3 * used * dispersion)
    )
    return jnp.clip(share, 1e-3, 1 / used), dispersion * jnp.exp(-damped)


def others_near(arrived: Scalar, shape: Scalar) -> Scalar:
    """Arrivals of a renewal process on both sides of one, in a time around it. [count]

    The renewal function of gamma-distributed gaps [1] begins as their distribution does, and ends
    as a line whose distance from that of Poisson arrivals is half of (1 / shape − 1).

    Args:
        arrived: Mean number of Poisson arrivals in the time. [count]
        shape: Shape of the gamma distribution. [1]

    References:
        [1] Cox, Renewal Theory, 1962.
    """
    more = 1 / shape - 1
    start = 2 * shape**shape / (jnp.exp(gammaln(1 + shape)) * jnp.maximum(more, 1e-6))
    uneven = -jnp.expm1(-start * (BETWEEN * arrived) ** shape)
    even = -jnp.expm1(-arrived / jnp.maximum(-more, 1e-6))
    return jnp.maximum(arrived + more * jnp.where(more > 0, uneven, even), 0.0)
