"""Errors of the server's closed form against its simulations, over more than 800 random servers."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
import test_disaggregated as pools
import test_gates as gates
import test_lengths as lengths
import test_load as load
import test_open_loop as open_loop
import test_speculation as drafts
import test_staggered as staggered
from factories import point, shipped, shipped_model
from server_simulation import settings, spread

from sweep.kernel.params import Point

Errors = dict[str, list[float]]
"""Relative errors by quantity, one for each server."""

BARS = {
    "clients": {"rate": (0.01, 0.01), "ttft": (0.05, 0.1)},
    "clients, prefill first": {"rate": (0.01, 0.01), "ttft": (0.05, 0.1)},
    "clients, one at a time": {"request_rate": (0.01, 0.02), "ttft": (0.05, 0.1)},
    "clients, prefill first, out of step": {"request_rate": (0.01, 0.02), "ttft": (0.05, 0.1)},
    "clients, varied lengths": {"request_rate": (0.01, 0.05), "ttft": (0.05, 0.1)},
    "Poisson arrivals": {"mean": (0.15, None), "p99": (0.25, None)},
    "burstiness 0.5": {"mean": (0.15, None), "p99": (0.25, None)},
    "burstiness 0.25": {"mean": (0.15, None), "p99": (0.25, None)},
    "batch_wait": {"mean": (0.15, None), "p99": (0.25, None)},
    "poll_interval": {"mean": (0.15, None), "p99": (0.25, None)},
    "stream_interval": {"mean": (0.15, None), "p99": (0.25, None)},
    "runs": {"mean": (0.05, None), "p99": (0.05, None)},
    "hits and drafts": {"rate": (0.01, 0.01)},
    "pools": {"rate": (0.03, 0.03), "ttft": (0.03, 0.03), "tpot": (0.03, 0.03)},
}
"""Largest median and 90th percentile of the errors; `None` for no bar."""
MEASURED = 2400
"""Requests of a server with drafts whose rate is measured, at least. [count]"""


def collected(errors: Iterator[dict[str, float]]) -> Errors:
    """Errors of all servers by quantity."""
    found: Errors = {}
    for each in errors:
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return found


def of_arrivals(count: int, seed: int, shape: float) -> Iterator[dict[str, float]]:
    for place, each in enumerate(settings(count, seed)):
        yield open_loop.open_errors(each, seed + place, shape, 4000)


def of_runs(count: int, seed: int) -> Iterator[dict[str, float]]:
    random = np.random.default_rng(seed)
    for each in settings(count, seed):
        waves, clients = random.choice([1, 1.5, 2, 3.3, 6]), random.uniform(0, 2)
        yield load.run_errors(each, float(waves), None if clients < 1 else clients)


def with_drafts(random: np.random.Generator, residents: int) -> Point:
    """A random server of one model whose requests hit the cache and draft."""
    return point(
        shipped_model("llama-3.1-8b"),
        shipped().hardware("h200-sxm-141gb"),
        shipped().precision("fp8"),
        isl=int(2 ** random.uniform(6, 12)),
        osl=int(random.integers(60, 300)),
        max_num_tokens=int(random.choice([2048, 4096, 8192])),
        concurrency=residents,
        prefix_hit_rate=float(random.choice([0.0, 0.5, 0.9])),
        draft_tokens=int(random.integers(1, 6)),
        acceptance_rate=float(random.uniform(0.4, 1)),
    )


def of_drafts(count: int, seed: int) -> Iterator[dict[str, float]]:
    random = np.random.default_rng(seed)
    for place in range(count):
        residents = int(2 ** random.uniform(0, 7))
        where = with_drafts(random, residents)
        begun = 4 * residents
        # Requests that were sent together scatter over many lives before the rate is steady.
        steady = max(8 * residents, MEASURED)
        short, long = (
            requests / drafts.simulated_rate(where, requests, residents, place)
            for requests in (begun, begun + steady)
        )
        yield {"rate": float(drafts._rate(where)) * (long - short) / steady - 1}


def of_clients(count: int, seed: int, **more: float) -> Iterator[dict[str, float]]:
    return (load.closed_errors(each, **more) for each in settings(count, seed))


def out_of_step(count: int, seed: int, *, first: bool) -> Iterator[dict[str, float]]:
    for place, each in enumerate(settings(count, seed)):
        yield staggered.staggered_errors(each, seed + place, first=first)


def of_lengths(count: int, seed: int) -> Iterator[dict[str, float]]:
    for place, each in enumerate(settings(count, seed)):
        yield lengths.closed_errors(each, lengths.VARIATIONS[place % 4], place)


KINDS = {
    "pools": lambda: pools.errors_of_pairs(80, 31),
    "runs": lambda: of_runs(90, 32),
    "clients": lambda: of_clients(130, 33),
    "clients, prefill first": lambda: of_clients(60, 42, scheduler=1),
    "clients, one at a time": lambda: out_of_step(100, 43, first=False),
    "clients, prefill first, out of step": lambda: out_of_step(60, 44, first=True),
    "hits and drafts": lambda: of_drafts(60, 34),
    "clients, varied lengths": lambda: of_lengths(40, 35),
    "Poisson arrivals": lambda: of_arrivals(60, 36, open_loop.POISSON),
    "burstiness 0.5": lambda: of_arrivals(30, 37, 0.5),
    "burstiness 0.25": lambda: of_arrivals(30, 38, 0.25),
    "batch_wait": lambda: gates.held_servers("batch_wait", settings(40, 39), 39, 4000),
    "poll_interval": lambda: gates.held_servers("poll_interval", settings(40, 40), 40, 4000),
    "stream_interval": lambda: gates.held_servers("stream_interval", settings(20, 41), 41, 4000),
}


@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_a_kind_of_load(kind: str, capsys) -> None:
    """840 servers in all; prints the median and the 90th percentile of each error."""
    with jax.enable_x64(True):
        errors = collected(KINDS[kind]())
    with capsys.disabled():
        for name, values in errors.items():
            median, tail = spread(values)
            row = f"{kind}, {name}: {len(values)} servers"
            print(f"\n{row}, median {100 * median:.2f} %, p90 {100 * tail:.2f} %", end="")
    for name, (median, tail) in BARS[kind].items():
        found = spread(errors[name])
        assert found[0] <= median, name
        assert tail is None or found[1] <= tail, name
