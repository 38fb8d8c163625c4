"""Waits in queues whose service varies with what is in it, and under arrivals in bursts."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, ndtri

from sweep.kernel.gamma_tail import lower_tail
from sweep.kernel.negative_binomial import share_waiting
from sweep.kernel.operators.cost import Scalar, is_one

NEARLY = 0.999
"""Highest utilisation for which a wait is computed; above, it grows without limit. [1]"""
FLATTEST = 2e-4
"""Least slope of the sojourn over its value at no load; below, sharing makes no difference. [1]"""
BETWEEN = 0.42
"""Share of a time that has the mean of a root of the shares from 0 to 1. [1]"""
LEAST = 1e-30
"""Least share of arrivals that wait, over that of Poisson arrivals. [1]"""
FIRST_TERMS, LATER_TERMS = 8, 16
"""Terms of a sum that are added up one by one, and of a geometric grid for all later. [count]"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Slots:
    """Waiting for a slot.

    Attributes:
        waits: Share of the requests that wait. [1]
        wait: Mean wait of those. [s]
        busy: Share of the time in which the server has requests. [1]
    """

    waits: Scalar
    wait: Scalar
    busy: Scalar


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
    waiting = share_waiting(units, shape, odds, 1 - utilisation)
    # With one slot the server is busy while it is taken, whatever the line says.
    share, all_waits = bursts(utilisation, dispersion)
    waits = jnp.where(held > 1, waiting, utilisation * share)
    busy = jnp.where(held > 1, -jnp.expm1(shape * jnp.log1p(-odds)), utilisation)
    each = 1 / (2 * capacity * (1 - utilisation))
    spread = jnp.where(held > 1, dispersion, all_waits / share) + varied
    return Slots(waits, each * spread, busy)


def bursts(used: Scalar, dispersion: Scalar) -> tuple[Scalar, Scalar]:
    """Waits of GI/D/1 with gamma-distributed gaps over those of M/D/1, by Spitzer's identity [1].

    With A the sum of k gaps and S the service, Σ E[max(kS − A, 0)] / k is the mean wait, and
    exp(−Σ P(A < kS) / k) the share of arrivals that do not wait. Sums of gamma-distributed gaps are
    gamma-distributed, so that each term is an incomplete gamma function. The first terms are added
    up one by one, later ones by the midpoints of a geometric grid that ends where the terms vanish.

    Args:
        used: Utilisation. [1]
        dispersion: Squared coefficient of variation of the gaps between arrivals. [1]

    Returns:
        The share of arrivals that wait and the mean wait of all, both over those at Poisson
        arrivals. [1]

    References:
        [1] Spitzer, "A combinatorial lemma and its application to probability theory",
            Transactions of the American Mathematical Society 82, 1956.
    """
    if is_one(dispersion):
        return 1.0, 1.0
    used = jnp.clip(used, 1e-6, NEARLY)
    shape = 1 / jnp.asarray(dispersion)
    # Side by side, since that is a program of half the size.
    both = jax.vmap(_spitzer, (None, 0))(used, jnp.stack([shape, jnp.ones_like(shape)]))
    shares, waits = map(jnp.asarray, both)
    # Of even gaps none waits at a low load, in 32 bits.
    share = jnp.maximum(shares[0] / shares[1], LEAST)
    return jnp.minimum(share, 1 / used), waits[0] / waits[1]


def _spitzer(used: Scalar, shape: Scalar) -> tuple[Scalar, Scalar]:
    """Share of arrivals that wait in GI/D/1, and the mean wait of all over the service. [1]"""
    last = FIRST_TERMS + 50 + 30 / (shape * (1 - used) ** 2)
    steps = jnp.linspace(0.0, 1.0, LATER_TERMS + 1)
    edges = (FIRST_TERMS + 0.5) * (last / (FIRST_TERMS + 0.5)) ** steps
    first = jnp.arange(1.0, FIRST_TERMS + 1)
    terms = jnp.concatenate([first, jnp.sqrt(edges[1:] * edges[:-1])])
    weights = jnp.concatenate([jnp.ones_like(first), jnp.diff(edges)])
    gaps = terms * shape
    # P(a, x) − P(a + 1, x) / u for a = gaps and x = u · a, without a difference of numbers near 1.
    point, ratio, excess = lower_tail(gaps, used)
    share = -jnp.expm1(-jnp.sum(weights * point * ratio / terms))
    return share, jnp.sum(weights * point * excess)


def arrivals_after(time: Scalar, shape: Scalar) -> Scalar:
    """Mean arrivals of a renewal process in a time after one. [count]

    The renewal function of gamma-distributed gaps [1] begins as their distribution does, and ends
    as a line whose distance from that of Poisson arrivals is half of (1 / shape − 1). Between them
    it is up to a third too low for a shape of 0.25, and within 5 % for one of 0.5.

    Args:
        time: Mean number of Poisson arrivals in the time. [count]
        shape: Shape of the gamma distribution. [1]

    References:
        [1] Cox, Renewal Theory, 1962.
    """
    more = 1 / shape - 1
    uneven = -jnp.expm1(-_start(shape) * time**shape)
    even = -jnp.expm1(-2 * time / jnp.maximum(-more, 1e-6))
    return jnp.maximum(time + more / 2 * jnp.where(more > 0, uneven, even), 0.0)


def others_near(arrived: Scalar, shape: Scalar) -> Scalar:
    """Arrivals of a renewal process on both sides of one, in a time around it. [count]

    It is the renewal function of `arrivals_after` on both sides, averaged over the time.

    Args:
        arrived: Mean number of Poisson arrivals in the time. [count]
        shape: Shape of the gamma distribution. [1]
    """
    more = 1 / shape - 1
    uneven = -jnp.expm1(-_start(shape) * (BETWEEN * arrived) ** shape)
    even = -jnp.expm1(-arrived / jnp.maximum(-more, 1e-6))
    return jnp.maximum(arrived + more * jnp.where(more > 0, uneven, even), 0.0)


def _start(shape: Scalar) -> Scalar:
    """Factor by which the renewal function begins as the distribution of the gaps. [1]"""
    more = jnp.maximum(1 / shape - 1, 1e-6)
    return 2 * shape**shape / (jnp.exp(gammaln(1 + shape)) * more)


def likely_most(mean: Scalar, rare: Scalar) -> Scalar:
    """Number that a Poisson variable exceeds with a probability of `rare` at most. [count]

    By the expansion of Cornish and Fisher, rounded up: for means from 0.01 to 30 and probabilities
    from 0.01 to 0.4 it is exact in 95 % of the cases, and off by one in the others.

    Args:
        mean: Its mean. [count]
        rare: The probability, up to 1. [1]
    """
    normal = -ndtri(jnp.minimum(rare, 0.5))
    most = jnp.ceil(mean + normal * jnp.sqrt(mean) + (normal**2 - 1) / 6 - 0.5)
    return jnp.where(-jnp.expm1(-mean) > rare, jnp.maximum(most, 1.0), 0.0)


def slot_wait(clients: Scalar, held: Scalar, rate: Scalar) -> Scalar:
    """Time from sending a request to its admission, by Little's law [1]. [s]

    Each client sends its next request when its last one ends. All but those held wait, and `rate`
    of them are admitted in a second.

    Args:
        clients: Requests that clients keep open. [count]
        held: Requests that the server holds. [count]
        rate: Requests that it completes in a second with so many. [s-1]

    References:
        [1] Little, "A Proof for the Queuing Formula: L = λW", Operations Research 9(3), 1961.
    """
    return jnp.maximum(clients - held, 0.0) / rate
