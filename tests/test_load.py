"""Loads of a server: what clients wait for, against a simulation and measurements."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import TOY, model, point, price, shipped, shipped_model
from server_simulation import iteration_seconds, simulate

from sweep.kernel.inflight import Inflight, slot_wait
from sweep.kernel.params import Point

MODELS = ("llama-3.1-8b", "mixtral-8x7b")
MACHINES = ("h100-sxm-80gb", "h200-sxm-141gb", "l20", "b200-sxm")
BUDGETS = (512, 1024, 2048, 4096, 8192, 16_384)


@dataclass(frozen=True)
class Setting:
    """A random server: `fit` requests fit, and `load` is relative to its capacity."""

    name: str
    machine: str
    recipe: str
    tp: int
    isl: int
    osl: int
    max_num_tokens: int
    fit: int
    load: float

    def point(self, **numbers: float) -> Point:
        # Memory for any number of requests: max_batch_size limits them.
        machine = shipped().hardware(self.machine)
        roomy = machine.model_copy(update={"memory_bytes": 1e13, "usable_memory_bytes": None})
        return point(
            shipped_model(self.name),
            roomy,
            shipped().precision(self.recipe),
            tp=self.tp,
            isl=self.isl,
            osl=self.osl,
            max_num_tokens=self.max_num_tokens,
            max_batch_size=self.fit,
            **numbers,
        )


def settings(count: int, seed: int = 0, longest: int = 512) -> list[Setting]:
    """Random servers, the same in each run."""
    random, found = np.random.default_rng(seed), []
    for _ in range(count):
        fit = int(2 ** random.uniform(0, 8.5))
        found.append(
            Setting(
                name=MODELS[random.integers(2)],
                machine=MACHINES[random.integers(4)],
                recipe=("fp16", "fp8")[random.integers(2)],
                tp=int(2 ** random.integers(0, 4)),
                isl=int(2 ** random.uniform(4, 13)),
                osl=int(2 ** random.uniform(3, np.log2(longest))),
                max_num_tokens=max(int(random.choice(BUDGETS)), fit),
                fit=fit,
                load=float(random.uniform(0.05, 1)),
            )
        )
    return found


def spread(errors: list[float]) -> tuple[float, float]:
    """Median and 90th percentile of the absolute values."""
    return float(np.median(np.abs(errors))), float(np.quantile(np.abs(errors), 0.9))


# Closed loop.


@jax.jit
def _closed(where: Point) -> dict[str, jax.Array]:
    found = Inflight(where)
    names = ("concurrency", "request_rate", "ttft", "queue_time", "tpot")
    return {name: jnp.asarray(getattr(found, name)) for name in names}


def closed_errors(setting: Setting) -> dict[str, float]:
    """Relative errors of the closed form for clients up to three times what fits."""
    clients = max(1, round(3 * setting.load * setting.fit))
    held = min(clients, setting.fit)
    where = setting.point(concurrency=clients)
    found = {name: float(value) for name, value in _closed(where).items()}
    assert found["concurrency"] == held
    # Complete cycles, from when the pattern of the first wave is steady.
    first = held * (3 + clients // held)
    last = first + 4 * held
    run = simulate(
        [0.0] * (last + 2 * clients),
        clients=clients,
        slots=setting.fit,
        isl=setting.isl,
        osl=setting.osl,
        max_num_tokens=setting.max_num_tokens,
        seconds=iteration_seconds(where),
    )
    ends = sorted(each.last for each in run.records)
    steps = setting.osl - 1
    tpot = [(each.last - each.first) / steps for each in run.records[first:last]]
    return {
        "rate": found["request_rate"] * (ends[last - 1] - ends[first - 1]) / (last - first) - 1,
        "ttft": found["ttft"] / float(run.ttft(first, last).mean()) - 1,
        "tpot": found["tpot"] / float(np.mean(tpot)) - 1,
    }


def check_closed(count: int, seed: int) -> None:
    with jax.enable_x64(True):
        errors = [closed_errors(each) for each in settings(count, seed)]
    rate, ttft, tpot = (spread([e[name] for e in errors]) for name in ("rate", "ttft", "tpot"))
    assert rate[0] < 0.001 and rate[1] < 0.01
    assert ttft[0] < 0.01 and ttft[1] < 0.1
    assert tpot[0] < 0.01 and tpot[1] < 0.1


def test_clients_wait_as_in_a_simulation() -> None:
    check_closed(30, seed=3)


@pytest.mark.slow
def test_clients_wait_as_in_a_simulation_over_500_servers() -> None:
    check_closed(500, seed=1)


def test_clients_that_do_not_fit_wait_as_long_as_measured() -> None:
    # 100 to 250 clients of a server that holds 89 requests and completes 50 in 27.7 s; times to
    # first token of 8.0, 34.8, 61.7 and 88.6 s were measured, 6.1 s + what a prefill takes.
    clients, measured = (150, 200, 250), (34.8, 61.7, 88.6)
    waits = [float(slot_wait(each, 89, 50 / 27.7)) for each in (100, *clients)]
    assert waits == pytest.approx([6.1, 33.8, 61.5, 89.2], abs=0.05)
    assert waits[1:] == pytest.approx(measured, rel=0.15)


NAMES = (
    "inflight_ttft",
    "inflight_queue_time",
    "inflight_prefill_time",
    "inflight_overload",
    "inflight_output_throughput",
    "inflight_tpot",
    "inflight_request_latency",
    "inflight_concurrency",
)


def served(**numbers: float) -> dict[str, float]:
    """A small server: 32 requests fit."""
    found = price(NAMES, model("llama"), TOY, **({"isl": 90, "osl": 20} | LIMITS | numbers))
    return {name.removeprefix("inflight_"): float(value) for name, value in found.items()}


LIMITS = {"max_batch_size": 32, "max_num_tokens": 500}


def test_clients_beyond_what_fits_wait_by_littles_law() -> None:
    most, crowded = served(concurrency=32), served(concurrency=80)
    rate = most["output_throughput"] / 20
    for name in ("output_throughput", "tpot", "prefill_time", "concurrency"):
        assert crowded[name] == most[name]
    assert crowded["queue_time"] == pytest.approx(most["queue_time"] + 48 / rate)
    for found, clients in ((most, 32), (crowded, 80)):
        assert found["ttft"] == pytest.approx(found["queue_time"] + found["prefill_time"])
        assert found["request_latency"] == pytest.approx(found["ttft"] + 19 * found["tpot"])
        assert found["request_latency"] == pytest.approx(clients / rate)
    assert (most["overload"], crowded["overload"]) == (0, 1)
    assert served() == most


def test_the_wait_never_falls_with_clients() -> None:
    waits = [served(concurrency=n)["queue_time"] for n in (1, 4, 16, 32, 33, 64, 1000)]
    assert waits == sorted(waits)
