"""Clients and runs of a server: what they wait for, against a simulation and measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import TOY, evaluated, model, price, shipped, shipped_model
from server_simulation import Setting, iteration_seconds, settings, spread

from sweep.grid.grid import Grid
from sweep.kernel.cycle import cycle, prefill_first_cycle
from sweep.kernel.finite_run import FiniteRun
from sweep.kernel.inflight import Inflight
from sweep.kernel.params import Point
from sweep.kernel.queueing import slot_wait
from sweep.kernel.request import Request
from sweep.kernel.run_ends import LastWaves
from sweep.runs.run import run

# Closed loop.


def _closed(where: Point) -> dict[str, jax.Array]:
    found = Inflight(where)
    names = ("concurrency", "request_rate", "ttft", "queue_time", "tpot")
    return {name: jnp.asarray(getattr(found, name)) for name in names}


def closed_errors(setting: Setting, **more: float) -> dict[str, float]:
    """Relative errors of the closed form for clients up to three times what fits.

    Args:
        setting: The server.
        more: Its scheduler, if it prefills first.
    """
    clients = max(1, round(3 * setting.load * setting.fit))
    held = min(clients, setting.fit)
    where = setting.point(concurrency=clients, **more)
    found = {name: float(value) for name, value in evaluated(_closed, where).items()}
    assert found["concurrency"] == held
    # Complete cycles, from when the pattern of the first wave is steady.
    first = held * (3 + clients // held)
    last = first + 4 * held
    simulated = setting.simulate(
        [0.0] * (last + 2 * clients),
        clients=clients,
        seconds=iteration_seconds(where),
        prefill_first=bool(more),
    )
    ends = sorted(each.last for each in simulated.records)
    steps = setting.osl - 1
    tpot = [(each.last - each.first) / steps for each in simulated.records[first:last]]
    return {
        "rate": found["request_rate"] * (ends[last - 1] - ends[first - 1]) / (last - first) - 1,
        "ttft": found["ttft"] / float(simulated.ttft(first, last).mean()) - 1,
        "tpot": found["tpot"] / float(np.mean(tpot)) - 1,
    }


def check_closed(count: int, seed: int) -> None:
    with jax.enable_x64(True):
        errors = [closed_errors(each) for each in settings(count, seed)]
    rate, ttft, tpot = (spread([e[name] for e in errors]) for name in ("rate", "ttft", "tpot"))
    assert rate[0] < 0.001 and rate[1] < 0.01
    assert ttft[0] < 0.01 and ttft[1] < 0.1
    assert tpot[0] < 0.01 and tpot[1] < 0.1


@pytest.mark.parametrize("scheduler", [0, 1])
def test_one_prompt_more_than_fit_makes_lumps_uneven(scheduler: int) -> None:
    """Room for four prompts: of five, four see a full lump and one is alone.

    The five keep step and start in turn, so that their mean is less than that of four; where
    prompts go first the fifth waits for the four.
    """
    setting = Setting("llama-3.1-8b", "h100-sxm-80gb", "fp8", 1, 1000, 100, 4096, 64, 1.0)
    found: list[float] = []
    with jax.enable_x64(True):
        for clients in (4, 5, 8, 9):
            where = setting.point(concurrency=clients, scheduler=scheduler)
            simulated = setting.simulate(
                [0.0] * 12 * clients,
                clients=clients,
                seconds=iteration_seconds(where),
                prefill_first=bool(scheduler),
            )
            found.append(float(evaluated(_closed, where)["ttft"]))
            ttft = simulated.ttft(4 * clients, 10 * clients).mean()
            assert found[-1] == pytest.approx(ttft, rel=0.05)
    assert (found[1] < found[0]) is (found[3] < found[2]) is (scheduler == 0)


def test_prompts_of_uneven_lumps_by_hand() -> None:
    # Five prompts, four to a lump: (4·4 + 1·1)/5 = 3.4 are in the lump of one of them, and not 2.5.
    assert float(cycle(5.0, 100.0, 50.0, 410.0).uneven) == pytest.approx(0.9)
    assert float(cycle(8.0, 100.0, 50.0, 410.0).uneven) == pytest.approx(0.0)
    # Prompts first: four after a lump, one after two, 1.2 on average; 4 or 5 prompts, 4.2.
    first = prefill_first_cycle(5.0, 100.0, 50.0, 400.0)
    assert (float(first.waited), float(first.interrupted)) == pytest.approx((0.2, 0.8))
    assert float(first.uneven) == pytest.approx(4.2 - 1.2 * 2.5)


@pytest.mark.slow
def test_clients_wait_as_in_a_simulation() -> None:
    check_closed(30, seed=3)


@pytest.mark.campaign
def test_clients_wait_as_in_a_simulation_over_500_servers() -> None:
    check_closed(500, seed=1)


def test_clients_that_do_not_fit_wait_as_long_as_measured() -> None:
    # 100 to 250 clients of a server that holds 89 requests and completes 50 in 27.7 s; times to
    # first token of 8.0, 34.8, 61.7 and 88.6 s were measured, 6.1 s + what a prefill takes.
    clients, measured = (150, 200, 250), (34.8, 61.7, 88.6)
    waits = [float(slot_wait(each, 89, 50 / 27.7)) for each in (100, *clients)]
    assert waits == pytest.approx([6.1, 33.8, 61.5, 89.2], abs=0.05)
    assert waits[1:] == pytest.approx(measured, rel=0.15)
    # Of 50 clients, none of whom waits for a slot, 0.83 s were measured: with those the first one
    # of 100 waits 6.9 s in all.
    assert waits[0] + 0.83451 == pytest.approx(7.99625, rel=0.15)


@pytest.mark.slow
def test_waits_of_a_server_of_nvidia_are_predicted() -> None:
    """Llama-3.3-70B in fp8 on two H100, 5,000 tokens in and 500 out, by NIM 1.8.

    https://docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance. The wait of 100 clients is that
    of the few which do not fit.
    """
    grid = Grid(
        models=["llama-3.1-70b"],
        hardware=["h100-sxm-80gb"],
        precision=["fp8"],
        tp=[2],
        isl=[5000],
        osl=[500],
        concurrency=[100, 150, 200, 250],
        variables=["inflight_ttft"],
    )
    found = run(grid, calibration="tensorrt-llm").inflight_ttft.squeeze()
    assert found.values == pytest.approx([7.99625, 34.794, 61.680, 88.605], rel=0.15)


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


OPEN = (
    *NAMES,
    "inflight_ttft_p50",
    "inflight_ttft_p90",
    "inflight_ttft_p99",
    "inflight_tpot_p99",
    "inflight_utilisation",
    "max_request_rate",
)


def arriving(**numbers: float) -> dict[str, float]:
    found = price(OPEN, model("llama"), TOY, **({"isl": 90, "osl": 20} | LIMITS | numbers))
    return {name.removeprefix("inflight_"): float(value) for name, value in found.items()}


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


# Runs of some requests.


def _run_of(where: Point) -> dict[str, jax.Array]:
    found = FiniteRun(where)
    times = {f"p{percent}": found.ttft_quantile(percent / 100) for percent in (90, 99)}
    means = {"mean": found.ttft, "tpot": found.tpot, "latency": found.request_latency}
    return {name: jnp.asarray(value) for name, value in (means | times).items()}


def run_errors(setting: Setting, waves: float, clients: float | None) -> dict[str, float]:
    """Relative errors for a run of so many times what fits, of clients relative to what fits."""
    requests = max(1, round(setting.fit * waves))
    sent = None if clients is None else min(requests, max(1, round(setting.fit * clients)))
    limit = {} if sent is None else {"concurrency": sent}
    where = setting.point(num_requests=requests, **limit)
    simulated = setting.simulate(
        [0.0] * requests,
        clients=sent or requests,
        seconds=iteration_seconds(where),
    )
    ttft, records = simulated.ttft(), simulated.records
    measured = {"mean": ttft.mean(), "p90": np.quantile(ttft, 0.9), "p99": np.quantile(ttft, 0.99)}
    measured["tpot"] = np.mean([each.last - each.first for each in records]) / (setting.osl - 1)
    measured["latency"] = np.mean([each.last - each.sent for each in records])
    found = evaluated(_run_of, where)
    return {name: float(found[name]) / measured[name] - 1 for name in measured}


def check_runs(servers: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    waves = random.choice([1, 1.5, 2, 3.3, 6], servers)
    clients = [None if at < 0.5 else 4 * at - 1.9 for at in random.uniform(0, 1, servers)]
    with jax.enable_x64(True):
        errors = [
            run_errors(each, float(wave), sent)
            for each, wave, sent in zip(settings(servers, seed), waves, clients, strict=True)
        ]
    medians = {"mean": 0.02, "p90": 0.05, "p99": 0.05, "tpot": 0.01, "latency": 0.01}
    for name, bar in medians.items():
        assert spread([e[name] for e in errors])[0] < bar, name
    # Times of a full server would be wrong by a quarter and by an eighth.
    for name, bar in {"tpot": 0.15, "latency": 0.05}.items():
        assert spread([e[name] for e in errors])[1] < bar, name


@pytest.mark.slow
def test_runs_wait_as_in_a_simulation() -> None:
    check_runs(12, seed=11)


@pytest.mark.slow
def test_runs_wait_as_in_a_simulation_over_many_servers() -> None:
    check_runs(40, seed=21)


@pytest.mark.parametrize("clients", [2, 4, 10])
def test_requests_sent_at_once_wait_for_one_another(clients: int) -> None:
    # Of c prompts that each fill an iteration the mean waits (c + 1) / 2 times one.
    numbers = {"max_num_tokens": 4000, "isl": 4000, "osl": 50}
    spec, machine = shipped_model("llama-3.1-8b"), shipped().hardware("h100-sxm-80gb")
    one, several = (
        float(price(("inflight_ttft",), spec, machine, num_requests=n, **numbers)["inflight_ttft"])
        for n in (1, clients)
    )
    assert several == pytest.approx(one * (clients + 1) / 2, rel=0.05)


def test_a_long_run_of_clients_tends_to_the_steady_state() -> None:
    steady = served(concurrency=20)["ttft"]
    runs = [served(concurrency=20, num_requests=n)["ttft"] for n in (20, 200, 20_000)]
    assert runs == sorted(runs, reverse=True)
    assert runs[-1] == pytest.approx(steady, rel=0.01)


def test_a_run_decodes_beside_fewer_prompts_the_shorter_it_is() -> None:
    # Of 20 requests at once, each decodes beside the prompts of those after it: half of the others.
    # What a request misses is the same in each run, in the mean of so many waves.
    steady = served(concurrency=20)["tpot"]
    missed = [steady - served(concurrency=20, num_requests=n)["tpot"] for n in (20, 40, 200)]
    assert missed[0] > 0.01 * steady
    assert missed[1:] == pytest.approx([missed[0] / waves for waves in (2, 10)], rel=1e-3)


def test_the_last_waves_of_a_run_by_hand() -> None:
    # 4 requests of 100 tokens in and 10 out: each decodes in 9 of 10 iterations, one of them with
    # the prompts of the others. Of 4 in 10 requests of a run, half miss it; two of the last wave
    # have half of the server to themselves.
    found = LastWaves(cycle(4.0, 100.0, 10.0, 202.0), 2.5)
    assert float(found.cycle.interrupted) == pytest.approx(1)
    assert float(found.lumps) == pytest.approx(4 / 10 * 0.9 * 0.5)
    assert float(found.absent) == pytest.approx(2 / 10 * 0.5)
    # Where prompts go first a wave has all of its own, and the last one half of them.
    found = LastWaves(found.cycle, 2.5, jnp.asarray(True))
    assert float(found.lumps) == pytest.approx(2 / 10 * 0.5)


def test_first_tokens_of_a_run_come_no_sooner_with_more_requests() -> None:
    # 32 fit: the others wait for a slot, also where they do not fill another wave.
    runs = [served(num_requests=n)["ttft"] for n in (32, 33, 40, 48, 63, 64, 65, 90)]
    assert runs == sorted(runs)


# Iterations that carry prompts.


def _figures(where: Point) -> dict[str, jax.Array]:
    found = Request(where)
    names = ("ttft", "tpot", "tpot_p99", "output_throughput")
    return {name: jnp.asarray(getattr(found, f"inflight_{name}")) for name in names}


def gap(where: Point, setting: Setting, rank: float) -> float:
    """A quantile of the time between tokens of full slots in a simulation. [s]"""
    simulated = setting.simulate(
        [0.0] * 6 * setting.fit,
        seconds=iteration_seconds(where),
    )
    lengths, counts = map(np.asarray, zip(*sorted(simulated.gaps.items()), strict=True))
    place = np.searchsorted(np.cumsum(counts), rank * counts.sum())
    return float(lengths[place])


def test_one_token_in_a_hundred_waits_for_prompts_of_others() -> None:
    # 64 requests of 1000 tokens in and 100 out: 8 lumps of 8 prompts in 100 iterations.
    setting = Setting("llama-3.1-8b", "h100-sxm-80gb", "fp8", 1, 1000, 100, 8192, 64, 1.0)
    with jax.enable_x64(True):
        where = setting.point()
        simulated = gap(where, setting, 0.99)
    predicted = evaluated(_figures, where)
    assert predicted["tpot_p99"] == pytest.approx(simulated, rel=0.05)
    assert predicted["tpot_p99"] > 3 * predicted["tpot"]


def test_seldom_interruptions_leave_most_tokens_alone() -> None:
    # One lump of two prompts in 300 iterations.
    found = arriving(concurrency=2, osl=300)
    assert found["tpot_p99"] == pytest.approx(found["tpot"], rel=0.01)


# Schedulers.


def test_prompts_first_make_a_static_batch_of_lumps_by_hand() -> None:
    # Four requests of 100 in and 10 out, 202 tokens an iteration: two lumps of two prompts, then
    # nine steps of all four. Half of them wait for a lump, and as many for one before they decode.
    found = prefill_first_cycle(4.0, 100.0, 10.0, 202.0)
    assert (float(found.lump), float(found.chunks), float(found.stay)) == (200, 1, 11)
    assert float(found.lumps) == pytest.approx(2 / 11)
    assert (float(found.waited), float(found.interrupted)) == (0.5, 0.5)
    assert (float(found.decoding_beside), float(found.undisturbed)) == (0, 9)


def first_errors(setting: Setting) -> dict[str, float]:
    """Relative errors of the closed form where prompts go first."""
    where = setting.point(scheduler=1)
    simulated = setting.simulate(
        [0.0] * 3 * setting.fit,
        clients=setting.fit,
        seconds=iteration_seconds(where),
        prefill_first=True,
    )
    records = simulated.records[setting.fit :]
    steps = setting.osl - 1
    measured = {
        "request_rate": 3 * setting.fit / simulated.end,
        "ttft": float(simulated.ttft(setting.fit).mean()),
        "tpot": float(np.mean([(each.last - each.first) / steps for each in records])),
    }
    found = evaluated(_closed, where)
    return {name: float(found[name]) / value - 1 for name, value in measured.items()}


@pytest.mark.slow
def test_prompts_first_are_served_as_in_a_simulation() -> None:
    with jax.enable_x64(True):
        errors = [first_errors(each) for each in settings(20, seed=8)]
    for name, bar in {"request_rate": 0.001, "ttft": 0.05, "tpot": 0.02}.items():
        assert spread([e[name] for e in errors])[0] < bar, name


@pytest.mark.slow
def test_a_named_default_is_the_default() -> None:
    setting = settings(1, seed=4)[0]
    with jax.enable_x64(True):
        loads = ({}, {"scheduler": "chunked"})
        plain, stated = (setting.point(concurrency=5, **load) for load in loads)
    assert evaluated(_figures, stated) == evaluated(_figures, plain)
