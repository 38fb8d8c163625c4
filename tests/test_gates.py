"""Schedulers that hold prompts and tokens back, with arrivals at a rate: by hand and simulation."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, compiled, evaluated, model, point
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from server_simulation import Setting, dense, spread
from test_load import LIMITS
from test_open_loop import POISSON, open_errors

from sweep.kernel.gates import Gates
from sweep.kernel.iteration_curve import Curve
from sweep.kernel.open_loop import OpenLoop
from sweep.kernel.params import Point

NOTHING_HELD = {"batch_wait": 0, "poll_interval": 1, "stream_interval": 1}
"""Values that hold nothing back."""
FIRST = {axis: float(value) for axis, value in NOTHING_HELD.items()}
FIGURES = ("ttft", "queue_time", "tpot", "tpot_p99", "request_latency", "iteration_latency")
VARIED = {"burstiness": 0.5, "scheduler": 1.0, "isl_cv": 0.3}


def server(**numbers: Any) -> Point:
    """A small server: 32 requests fit."""
    return point(model("llama"), TOY, FP16, **({"isl": 90, "osl": 200} | LIMITS | numbers))


def _figures(where: Point) -> dict[str, jax.Array]:
    found = OpenLoop(where)
    times = {f"p{share}": found.ttft_quantile(share / 100) for share in (50, 90, 99)}
    others = {
        "alone": found.visit.alone,
        "residual": found.visit.start.residual,
        "with_prompts": found.visit.start.lumps,
        "capacity": found.max_request_rate,
    }
    return {name: jnp.asarray(getattr(found, name)) for name in FIGURES} | times | others


_compiled = compiled(_figures)


def figures(share: float, **numbers: float) -> dict[str, float]:
    """Figures at a share of the highest rate, from one kernel for all that is held back."""
    with jax.enable_x64(True):
        capacity = _compiled(server(request_rate=1.0, **FIRST))["capacity"]
        found = _compiled(server(request_rate=share * capacity, **(FIRST | numbers)))
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_iterations_have_prompts_where_some_came_in_one_without(share: float) -> None:
    found = figures(share)
    alone, longer = found["alone"], found["with_prompts"]
    some = 1 - np.exp(-share * found["capacity"] * alone)
    expected = (1 - some) * alone + some * longer
    assert found["iteration_latency"] == pytest.approx(expected, rel=1e-6)


# By hand.


def gates(**changes: float) -> Gates:
    given = {"apart": 1.0, "longest": 0.0, "enough": 9.0, "parts": 1.0, "steps": 100.0}
    return Gates(**{name: jnp.asarray(value) for name, value in (given | changes).items()})


def test_a_wait_ends_when_all_sequences_have() -> None:
    # One sequence, half way through its 100 iterations on average: 20 − 20²/200 of 20 iterations.
    assert float(gates(longest=20.0).wait(1e-6, 1e-3, 1.0)) == pytest.approx(18.0)
    assert float(gates(longest=1e6).wait(1e-6, 1e-3, 1.0)) == pytest.approx(50.0)
    # Some of many go on.
    assert float(gates(longest=20.0).wait(1e-6, 1e-3, 50.0)) == pytest.approx(20.0)
    assert float(gates().wait(1e-6, 1e-3, 50.0)) == 0.0


def test_a_wait_ends_when_an_iteration_is_full() -> None:
    # Nine others come in 0.9 s, at ten in a second: 90 iterations of 10 ms.
    found = gates(longest=1000.0, steps=1e6).wait(10.0, 0.01, 50.0)
    assert float(found) == pytest.approx(90.0, rel=1e-3)
    assert not bool(gates(longest=20.0, enough=0.0).shut)


def test_as_many_prompts_start_as_come() -> None:
    # An iteration takes 1 s, and 1 s more with prompts, of which one comes in 20 s.
    ends, rate = jnp.asarray([0.0, 10.0]), 0.05
    curve = Curve(ends, jnp.ones(2), jnp.asarray([1.0, 1e3]), jnp.ones((2, 2)), 1e3, 1.0)
    waits = gates(longest=20.0, steps=1e6)
    mean, share = curve._behind_gates(waits, 1.0, rate, 1e6)
    assert float(mean) == pytest.approx(1 + float(share))
    started = float(share * curve.round(waits, 1.0, rate).prompts)
    assert started == pytest.approx(rate * float(mean), rel=1e-3)


@pytest.mark.slow
def test_tokens_sent_together_are_late_and_no_request_is_longer() -> None:
    plain, late = figures(0.5), figures(0.5, stream_interval=11.0)
    for name in ("ttft", "p50", "p99"):
        assert late[name] - plain[name] == pytest.approx(10 * plain["tpot"], rel=1e-4)
    assert late["tpot"] == pytest.approx(plain["tpot"] * (1 - 10 / 199))
    assert late["request_latency"] == pytest.approx(plain["request_latency"])


@pytest.mark.slow
def test_half_of_what_is_between_two_looks_is_waited_for() -> None:
    """At a low rate a request that finds another waits for half of 50 of its iterations."""
    plain, late = figures(1e-4), figures(1e-4, poll_interval=50.0)
    assert plain["residual"] == pytest.approx(plain["alone"] / 2, rel=1e-3)
    assert late["residual"] == pytest.approx(50 * late["alone"] / 2, rel=1e-3)
    assert late["iteration_latency"] == pytest.approx(late["alone"], rel=1e-3)
    # A request that is alone decodes to its end before anyone looks.
    longest = figures(1e-4, poll_interval=1000.0)
    assert longest["residual"] == pytest.approx(199 * late["alone"] / 2, rel=1e-3)


# Laws.


@pytest.mark.parametrize("more", [{}, pytest.param(VARIED, marks=pytest.mark.slow)])
def test_holding_nothing_back_is_leaving_the_axes_out(more: dict[str, float]) -> None:
    with jax.enable_x64(True):
        for rate in (100.0, 3000.0):
            plain = evaluated(_figures, server(request_rate=rate, **more))
            found = evaluated(_figures, server(request_rate=rate, **more, **FIRST))
            for name, value in plain.items():
                assert float(found[name]) == pytest.approx(float(value), rel=1e-12), name


@pytest.mark.slow
@given(
    share=st.floats(0.01, 0.97),
    axis=st.sampled_from(list(FIRST)),
    values=st.lists(st.integers(1, 300), min_size=2, max_size=2),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_times_to_first_token_never_fall_as_more_is_held_back(
    share: float, axis: str, values: list[int]
) -> None:
    low, high = sorted(values)
    less, more = (figures(share, **{axis: float(value)}) for value in (low, high))
    for name in ("ttft", "p50", "p90", "p99"):
        assert less[name] <= more[name] * (1 + 1e-3), name


# Against a simulation.


INTERVALS = {"batch_wait": (4, 64), "poll_interval": (4, 64), "stream_interval": (2, 32)}
"""Fewest and most iterations or tokens of a random server."""
MEDIANS = {"mean": 0.15, "p99": 0.25, "tpot": 0.1, "latency": 0.1}


def held_servers(
    axis: str, servers: Sequence[Setting], seed: int, requests: int
) -> Iterator[dict[str, float]]:
    """Errors of random servers that hold prompts or tokens back; one kernel for all axes."""
    random, (low, high) = np.random.default_rng(seed), INTERVALS[axis]
    for place, each in enumerate(servers):
        held = round(2 ** random.uniform(np.log2(low), np.log2(high)))
        if axis == "stream_interval":
            # An output that is sent when it ends has no time between tokens.
            held = min(held, each.osl // 2)
        yield open_errors(each, seed + place, POISSON, requests, **(NOTHING_HELD | {axis: held}))


@pytest.mark.slow
@pytest.mark.parametrize("axis", INTERVALS)
def test_arrivals_are_held_back_as_in_a_simulation(axis: str) -> None:
    with jax.enable_x64(True):
        errors = list(held_servers(axis, dense(10, 5), 5, 3000))
    for name, bar in MEDIANS.items():
        assert spread([each[name] for each in errors])[0] < bar, name
