"""The highest rate of arrivals at which latencies stay within limits: goodput [1].

References:
    [1] Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large
        Language Model Serving", OSDI 2024.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from sweep.kernel.open_iterations import Iterations
from sweep.kernel.open_loop import OpenLoop
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.queueing import NEARLY

TRIED = 16
"""Rates that are tried where latencies may fall with the rate."""
HALVINGS = 16
"""Halvings of the rates below the plateau: to 1.5e-5 of it."""


def goodput(point: Point) -> Scalar:
    """Highest rate of one replica at which every limit of the point is met. [s-1]

    Latencies never fall with the rate, so that bisection finds it: 0 if a single request exceeds a
    limit, and the plateau, the rate with every slot taken, if none binds. Where prompts start only
    at times a busier server may let them in sooner: some rates are tried from the plateau down.

    Args:
        point: Model, machine, layout, server, lengths, and limits by `axes.LATENCY_LIMITS`.
    """
    iterations = Iterations(point)
    full, plateau = iterations.full, iterations.full.steady_rate
    # Computed here, once, and not in the loop.
    _ = iterations.curve, full.tpot, full.tpot_p99

    gates = iterations.gates

    def halve(
        done: Array | int, ends: tuple[Scalar, Scalar, Scalar]
    ) -> tuple[Scalar, Scalar, Scalar]:
        low, high, share = ends
        where = dataclasses.replace(point, request_rate=share * plateau)
        met = _within(OpenLoop(where, iterations))
        if gates is not None:
            met &= gates.shut | (jnp.asarray(done) < HALVINGS)
        low, high = jnp.where(met, share, low), jnp.where(met, high, share)
        share = (low + high) / 2
        if gates is not None:
            down = high - NEARLY / TRIED
            share = jnp.where(gates.shut & (low == 0) & (down > 1e-3), down, share)
        return low, high, share

    whole = jnp.ones_like(plateau)
    ends = jnp.zeros_like(whole), whole, NEARLY * whole
    rounds = HALVINGS if gates is None else HALVINGS + TRIED
    low, _, _ = jax.lax.fori_loop(0, rounds, halve, ends)
    return plateau * jnp.where(low < NEARLY, low, 1.0)


def _within(loop: OpenLoop) -> Bool[Array, ""]:
    """Whether latencies are within the limits; one that is missing exceeds none."""
    point, met = loop.point, jnp.asarray(True)
    if point.max_ttft is not None:
        met &= ~(loop.ttft > point.max_ttft)
    if point.max_ttft_p99 is not None:
        met &= loop.share_later(point.max_ttft_p99) <= 1 - 0.99
    if point.max_tpot is not None:
        met &= ~(loop.tpot > point.max_tpot)
    if point.max_tpot_p99 is not None:
        met &= ~(loop.tpot_p99 > point.max_tpot_p99)
    return met
