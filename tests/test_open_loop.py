"""Requests that arrive at a rate: their waits, and the highest rate, by simulation and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, compiled, model, point, price
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import gammainc
from scipy.stats import poisson
from server_simulation import (
    Setting,
    dense,
    iteration_seconds,
    open_figures,
    settings,
    spread,
)
from test_load import LIMITS, arriving, served

import sweep
from sweep.evaluation.intervals import Arrivals, interval_end
from sweep.kernel.iteration_curve import Curve
from sweep.kernel.mixture import Mixture
from sweep.kernel.queueing import arrivals_after, bursts, likely_most, others_near, slots
from sweep.kernel.request import Request
from sweep.kernel.root import root
from sweep.schema.axes import LATENCY_LIMITS

# Arrivals at a rate.


POISSON = 1.0
"""Burstiness of Poisson arrivals: with it, servers with and without bursts share kernels."""


def open_errors(
    setting: Setting, seed: int, shape: float, count: int, **held: int
) -> dict[str, float]:
    """Relative errors of the closed form at 5 to 90 % of the capacity.

    Args:
        setting: The server.
        seed: Seed of the gaps between arrivals.
        shape: Shape of their gamma distribution. [1]
        count: Requests that arrive.
        held: What its scheduler holds back, by axis.
    """
    load = {"burstiness": shape, **{axis: float(value) for axis, value in held.items()}}
    capacity = float(open_figures(setting.point(request_rate=1.0, **load))["capacity"])
    rate = 0.9 * setting.load * capacity
    where = setting.point(request_rate=rate, **load)
    gaps = np.random.default_rng(seed).gamma(shape, 1 / (rate * shape), count)
    simulated = setting.simulate(
        list(np.cumsum(gaps)),
        seconds=iteration_seconds(where),
        **held,
    )
    # The first requests find an empty server.
    begin = count // 10
    ttft, steps = simulated.ttft(begin), setting.osl - 1
    steady = simulated.records[begin:]
    measured = {
        "mean": float(ttft.mean()),
        "p50": float(np.quantile(ttft, 0.5)),
        "p99": float(np.quantile(ttft, 0.99)),
        "tpot": float(np.mean([(each.last - each.first) / steps for each in steady])),
        "latency": float(np.mean([each.last - each.sent for each in steady])),
    }
    found = open_figures(where)
    return {name: float(found[name]) / value - 1 for name, value in measured.items()}


def check_open(
    servers: list[Setting], seed: int, bars: dict[str, float], shape: float = POISSON
) -> None:
    """Compare the median over servers of each error with its bar."""
    with jax.enable_x64(True):
        errors = [
            open_errors(each, seed + place, shape, 3000) for place, each in enumerate(servers)
        ]
    for name, bar in bars.items():
        assert spread([e[name] for e in errors])[0] < bar, name


MEDIANS = {"mean": 0.05, "p50": 0.05, "p99": 0.25, "tpot": 0.03, "latency": 0.05}


@pytest.mark.slow
def test_arrivals_wait_as_in_a_simulation() -> None:
    check_open(dense(10, seed=5), 5, MEDIANS)


@pytest.mark.campaign
def test_arrivals_wait_as_in_a_simulation_over_many_servers() -> None:
    check_open(settings(20, seed=77), 77, MEDIANS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "bars"),
    [
        pytest.param(3.0, {"mean": 0.1, "p99": 0.25}, marks=pytest.mark.campaign),
        (0.5, {"mean": 0.2, "p99": 0.4}),
    ],
)
def test_bursts_wait_as_in_a_simulation(shape: float, bars: dict[str, float]) -> None:
    check_open(dense(12, seed=31), 31, bars, shape)


@pytest.mark.slow
def test_arrivals_without_a_shape_are_poisson() -> None:
    rate = 0.7 * arriving(request_rate=1.0)["max_request_rate"]
    plain, shaped = (arriving(request_rate=rate, **more) for more in ({}, {"burstiness": POISSON}))
    assert plain["utilisation"] == pytest.approx(0.7)
    for name, value in plain.items():
        assert shaped[name] == pytest.approx(value, rel=2e-3), name


@pytest.mark.parametrize(
    ("fill", "rate", "steps", "expected"),
    [
        # Steps of 1 s, and lumps of 2 s: 0.5 % of the steps, then 4.9 %, find a prompt.
        (10.0, 0.005, 1e9, 1.0),
        (10.0, 0.05, 1e9, 3.0),
        # 18 % find one, of which 33 % find another, and so on: 6, 2 and 0.7 %.
        (10.0, 0.2, 1e9, 7.0),
        # One of ten steps follows its own prompt, of 2 s, in which 1 % come.
        (10.0, 0.005, 10.0, 1.0),
        (10.0, 0.009, 5.0, 3.0),
        # A prompt takes 4 s: 0.9 % of the steps find two of them, or 3.1, 1.4 and 0.7 % more.
        (0.5, 0.05, 1e9, 5.0),
        (0.5, 0.1, 1e9, 13.0),
    ],
)
def test_steps_that_wait_for_prompts_by_hand(fill, rate, steps, expected) -> None:
    ends = jnp.asarray([0.0, 10.0])
    curve = Curve(
        nodes=ends,
        times=jnp.ones(2),
        prompts=jnp.asarray([min(fill, 1.0), fill]),
        extras=jnp.ones((2, 2)),
        fill=jnp.asarray(fill),
        chunks=jnp.asarray(max(1 / fill, 1.0)),
    )
    assert float(curve.stalled(1.0, rate, steps, 0.01)) == pytest.approx(expected, rel=1e-5)
    if fill < 1:
        return
    # With every slot taken no prompt follows another, nor the own one.
    one = float(curve.stalled(1.0, rate, steps, 0.01, 0.0))
    assert one == pytest.approx(1.0 if rate < 0.01 else 3.0, rel=1e-5)
    if rate == 0.2:
        # With slots free for 0.7 of the time 4.2 % find two of them, and 0.97 % three.
        assert float(curve.stalled(1.0, rate, steps, 0.01, 0.7)) == pytest.approx(5.0)
    # A stall between two steps, of 2 s and of (1 − e^-0.4) / e^-0.4 more where others come in 2 s;
    # before the first step these alone.
    behind = 2 * np.expm1(2 * rate)
    usual = -np.expm1(-rate) * (2 + behind)
    for number, stall in ((1.0, behind), (10.0, 0.9 * usual + 0.1 * behind)):
        mean = float(curve._stall(1.0, rate, number))
        assert mean == pytest.approx(stall, rel=1e-4)


@pytest.mark.slow
def test_the_longest_gaps_between_tokens_are_those_of_a_simulation() -> None:
    """Iterations that only prefill come between two tokens, and seldom many of them."""
    errors = []
    with jax.enable_x64(True):
        for place, each in enumerate(dense(10, seed=5)[:6]):
            fast = each.point(request_rate=1.0, scheduler=1.0)
            rate = 0.9 * each.load * float(open_figures(fast)["capacity"])
            where = each.point(request_rate=rate, scheduler=1.0)
            gaps = np.random.default_rng(place).exponential(1 / rate, 3000)
            run = each.simulate(
                list(np.cumsum(gaps)),
                seconds=iteration_seconds(where),
                prefill_first=True,
            )
            times, counts = map(np.asarray, zip(*sorted(run.gaps.items()), strict=True))
            share = np.cumsum(counts) / counts.sum()
            found = open_figures(where)
            errors.append(float(found["gap_p99"]) / times[np.searchsorted(share, 0.99)] - 1)
            assert found["gap_p99"] >= found["tpot"] * (1 - 1e-9)
    assert spread(errors)[0] < 0.03


@given(st.floats(0.01, 0.99), st.floats(-0.3, 0.3))
@hypothesis_settings(max_examples=30, deadline=None)
def test_an_interval_of_a_wait_is_that_of_a_slower_server(used: float, width: float) -> None:
    # M/D/1 with services of 2 s, and of 2 s · e^width.
    def times(utilisation: float, service: float) -> float:
        return service * utilisation / (2 * (1 - utilisation)) if utilisation < 1 else np.inf

    found = {"inflight_ttft": times(used, 2.0) + 2, "inflight_queue_time": times(used, 2.0)}
    slower = np.exp(width)
    wait = times(used * slower, 2 * slower)
    for name, expected in (("inflight_ttft", wait + 2 * slower), ("inflight_queue_time", wait)):
        found_end = float(interval_end(name, found[name], slower, Arrivals(used, 2.0)))
        assert found_end == pytest.approx(expected, rel=1e-6)


def test_a_slower_server_is_busier_unless_clients_wait_for_it() -> None:
    at_a_rate, clients = Arrivals(0.6, 1.0), None
    for rate, used, slower, end in (
        (60.0, 0.6, 0.5, 50.0),  # 100 a second at most, 50 if everything takes twice as long.
        (60.0, 0.6, 0.7, 60.0),
        (60.0, 0.6, 1.5, 60.0),
        (100.0, 1.2, 0.5, 50.0),
        (100.0, 1.2, 1.5, 150.0),
    ):
        found = interval_end("inflight_output_throughput", rate, slower, Arrivals(used, 1.0))
        assert float(found) == pytest.approx(end)
    for slower, arrivals, expected in ((2, at_a_rate, 1.2), (2, clients, 1), (0.5, clients, 0.3)):
        found = interval_end("inflight_utilisation", 0.6, slower, arrivals)
        assert float(found) == pytest.approx(expected)


def test_a_rate_towards_none_is_one_client() -> None:
    alone, seldom = served(concurrency=1), arriving(request_rate=1e-3)
    for name in ("ttft", "prefill_time", "tpot", "request_latency"):
        assert seldom[name] == pytest.approx(alone[name], rel=1e-4)
    assert seldom["queue_time"] < 1e-4 * seldom["ttft"]
    assert seldom["ttft_p50"] == pytest.approx(alone["ttft"], rel=1e-4)


def test_the_capacity_is_that_of_clients_that_fill_the_server() -> None:
    most = served(concurrency=32)["output_throughput"] / 20
    found = arriving(request_rate=most / 2)
    assert found["max_request_rate"] == pytest.approx(most)
    assert found["utilisation"] == pytest.approx(0.5)
    assert found["output_throughput"] == pytest.approx(most / 2 * 20)
    assert found["overload"] == 0
    beyond = arriving(request_rate=1.01 * most)
    assert beyond["overload"] == 2
    assert beyond["output_throughput"] == pytest.approx(most * 20)
    assert all(np.isnan(beyond[name]) for name in ("ttft", "queue_time", "ttft_p99"))
    assert beyond["tpot"] == served(concurrency=32)["tpot"]


@pytest.mark.slow
def test_a_closed_loop_has_the_same_capacity() -> None:
    where = {"isl": 90, "osl": 20, **LIMITS}
    names = ("max_request_rate", "inflight_utilisation", "inflight_output_throughput")
    rate = arriving(request_rate=1.0)["max_request_rate"]
    for load in ({}, {"concurrency": 3}, {"num_requests": 64}):
        priced = price(names, model("llama"), TOY, FP16, **where, **load)
        found = {name: float(value) for name, value in priced.items()}
        assert found["max_request_rate"] == pytest.approx(rate, rel=1e-5)
        used = found["inflight_output_throughput"] / 20 / rate
        assert found["inflight_utilisation"] == pytest.approx(used, rel=1e-5)


# The highest rate within limits.

LATENCY_OF = {
    "max_ttft": "ttft",
    "max_ttft_p99": "ttft_p99",
    "max_tpot": "tpot",
    "max_tpot_p99": "tpot_p99",
}
"""The latency that each limit is of."""
NO_LIMIT = dict.fromkeys(LATENCY_OF, float("inf"))


HIGHEST_RATE = compiled(lambda where: Request(where).max_request_rate)
"""Compiled, since its bisections evaluate the server some thousand times."""


def goodput(**limits: float) -> float:
    """Highest rate of the small server; one kernel for all limits."""
    numbers = {"isl": 90, "osl": 20} | LIMITS | NO_LIMIT | limits
    with jax.enable_x64(True):
        return float(HIGHEST_RATE(point(model("llama"), TOY, FP16, **numbers)))


def test_every_limit_has_a_case() -> None:
    assert set(LATENCY_OF) == set(LATENCY_LIMITS)


@pytest.mark.slow
def test_holding_nothing_back_has_the_same_highest_rate() -> None:
    held = {"batch_wait": 0.0, "poll_interval": 1.0, "stream_interval": 1.0}
    limits = {"osl": 200, "max_ttft": 2e-6, "max_tpot": 1.0}
    plain = goodput(**limits)
    assert goodput(**limits, **held) == pytest.approx(plain, rel=1e-6)
    assert goodput(**limits, **held | {"poll_interval": 30.0}) < plain < 143_000


@pytest.mark.slow
def test_no_limit_leaves_the_plateau() -> None:
    plateau = served(concurrency=32)["output_throughput"] / 20
    assert goodput() == plateau


@pytest.mark.slow
@pytest.mark.parametrize("limit", LATENCY_OF)
def test_the_highest_rate_within_a_limit_has_the_latency_of_the_limit(limit: str) -> None:
    plateau = goodput()
    latencies = arriving(request_rate=0.6 * plateau)
    assert goodput(**{limit: latencies[LATENCY_OF[limit]]}) / plateau == pytest.approx(
        0.6, abs=0.002
    )
    alone = arriving(request_rate=1e-3 * plateau)[LATENCY_OF[limit]]
    assert goodput(**{limit: 0.99 * alone}) == 0


@pytest.mark.slow
@given(st.lists(st.floats(1e-6, 1e-2), min_size=2, max_size=2))
@hypothesis_settings(max_examples=8, deadline=None)
def test_a_wider_limit_allows_no_lower_rate(limits: list[float]) -> None:
    tight, wide = sorted(limits)
    for axis in LATENCY_OF:
        assert goodput(**{axis: tight}) <= goodput(**{axis: wide}) <= goodput()
    assert goodput(max_ttft=wide, max_tpot=tight) <= min(
        goodput(max_ttft=wide), goodput(max_tpot=tight)
    )


def test_littles_law_holds_for_arrivals() -> None:
    rate = 0.7 * arriving(request_rate=1.0)["max_request_rate"]
    found = arriving(request_rate=rate)
    assert found["request_latency"] == pytest.approx(found["ttft"] + 19 * found["tpot"])
    assert found["concurrency"] <= rate * found["request_latency"]
    assert found["concurrency"] == pytest.approx(rate * found["request_latency"], rel=0.05)


@pytest.mark.slow
@given(place=st.integers(0, 59), data=st.data())
@hypothesis_settings(max_examples=8, deadline=None)
def test_times_never_fall_with_the_rate(place: int, data: st.DataObject) -> None:
    shares = sorted(data.draw(st.lists(st.floats(0.001, 0.99), min_size=2, max_size=2)))
    setting = dense(60, seed=9)[place]
    with jax.enable_x64(True):
        capacity = float(
            open_figures(setting.point(request_rate=1.0, burstiness=POISSON))["capacity"]
        )
        low, high = (
            open_figures(setting.point(request_rate=each * capacity, burstiness=POISSON))
            for each in shares
        )
    for name in ("mean", "p50", "p99", "tpot", "latency"):
        assert float(low[name]) <= float(high[name]) * (1 + 1e-3), name


def test_one_slot_is_the_queue_with_constant_service() -> None:
    # M/D/1 at a utilisation of 0.8: 0.8 of the requests wait, 2.5 services on average.
    found = slots(0.8, 1.0, 0.0, 1.0, 1.0)
    assert float(found.waits) == pytest.approx(0.8)
    assert float(found.wait) == pytest.approx(1 / (2 * (1 - 0.8)))
    assert float(found.busy) == pytest.approx(0.8)


@pytest.mark.parametrize(("servers", "load", "erlang"), [(2, 1.0, 1 / 3), (10, 8.0, 0.4092)])
def test_constant_sojourns_wait_as_erlang_says(servers: int, load: float, erlang: float) -> None:
    # Erlang C of 2 servers at 1 erlang is 1/3; of 10 at 8 it is 0.4092.
    with jax.enable_x64(True):
        found = slots(load, 1.0, 0.0, float(servers), float(servers))
    assert float(found.waits) == pytest.approx(erlang, rel=0.01)
    assert float(found.wait) == pytest.approx(1 / (2 * (servers - load)))
    # By (1 + c²)/2: twice as long where service varies as much as exponential times.
    with jax.enable_x64(True):
        varied = slots(load, 1.0, 0.0, float(servers), float(servers), varied=1.0)
    assert float(varied.wait) == pytest.approx(2 * float(found.wait))


def test_a_number_that_few_exceed_by_hand() -> None:
    # Of a mean of 0.2 the probability of two or more is 0.0175, and of three or more 0.0011.
    for mean, rare, expected in ((0.2, 0.01, 2), (0.2, 0.1, 1), (0.005, 0.01, 0), (10.0, 0.01, 18)):
        found = likely_most(mean, rare)
        assert float(found) == expected == poisson.ppf(1 - rare, mean)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 4.0 - 0.5 * x, 8.0),  # A line, whose root is found at once.
        (lambda x: 2.0 - x**2, 2**0.5),
        (lambda x: 0.1 - x**3 / 1e3, 100 ** (1 / 3)),  # Nearly flat up to its root.
        (lambda x: -x, 0.0),
        (lambda x: 1.0 + x, 10.0),  # No root.
        (lambda x: (x - 2.0) * (x - 8.0), 2.0),  # Positive at both ends.
    ],
)
def test_a_root_is_where_a_function_changes_its_sign(function, expected) -> None:
    with jax.enable_x64(True):
        found = root(function, jnp.asarray(0.0), jnp.asarray(10.0), 9)
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("digits", [32, 64])
def test_more_rounds_leave_a_root_where_it_is(digits: int) -> None:
    """Also where a function is known to its rounding only."""
    slopes = np.linspace(0.05, 3.0, 400)
    with jax.enable_x64(digits == 64):

        def bent(x):
            return 0.1 * (400.0 / (1.0 + jnp.asarray(slopes) * x) + 30.0) - x

        # x (1 + s x) = 40 + 3 (1 + s x).
        expected = ((3 * slopes - 1) + np.sqrt((3 * slopes - 1) ** 2 + 172 * slopes)) / (2 * slopes)
        for rounds in range(9, 24):
            found = np.asarray(root(bent, jnp.zeros(400), jnp.full(400, 900.0), rounds))
            np.testing.assert_allclose(found, expected, rtol=1e-5 if digits == 32 else 1e-10)


@pytest.mark.slow
def test_no_time_of_many_servers_at_a_rate_is_missing() -> None:
    """Programs of few parts round a value differently for each end of a search that reads it."""
    grid = sweep.Grid(
        models=["qwen3-8b"],
        hardware=["h100-sxm-80gb", "l20"],
        precision=["fp8"],
        tp=[1, 2],
        request_rate=[0.1, 1.0, 4.0, 9.0],
        isl={"start": 10, "stop": 928, "step": 3},
        osl={"start": 8, "stop": 178, "step": 17},
        variables=["inflight_output_throughput", "inflight_ttft", "inflight_tpot"],
    )
    found = sweep.run(grid, dtype="float64", calibration="sglang")
    waiting = found.inflight_overload.values > 0
    assert np.isfinite(found.inflight_tpot.values).all()
    assert np.isfinite(found.inflight_ttft.values[~waiting]).all()
    assert waiting.mean() < 0.01


def test_a_percentile_of_a_wait_that_decays_by_hand() -> None:
    # One request in a hundred waits longer than ln 100 times the mean.
    waits = Mixture(*jnp.asarray([[1.0], [1e-6], [1.0]]), more=None, waits=1.0, wait=2.0)
    assert float(waits.quantile(0.99)) == pytest.approx(1 + 2 * np.log(100), rel=1e-4)


def test_a_wait_that_decays_after_an_interval_by_hand() -> None:
    # Uniform on [1, 3], and a wait of 2 on average: half are later than 2 without it, and of those
    # that are u earlier e^(−u/2) with it: ½ ∫₀¹ e^(−u/2) du = 1 − e^(−1/2).
    waits = Mixture(*jnp.asarray([[1.0], [2.0], [1.0]]), more=None, waits=1.0, wait=2.0)
    assert float(waits.share_later(2.0)) == pytest.approx(1.5 - np.exp(-0.5), rel=1e-6)


def test_poisson_arrivals_are_no_bursts() -> None:
    share, waits = bursts(0.6, 1.0)
    assert (float(share), float(waits)) == (1, 1)
    assert float(others_near(0.3, 1.0)) == pytest.approx(0.3, rel=1e-3)
    # Gaps that hardly vary leave nobody near; in bursts there are more.
    assert float(others_near(0.3, 50.0)) < 0.05
    assert float(others_near(0.3, 0.5)) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [0.25, 0.5, 3.0])
@pytest.mark.parametrize("used", [0.1, 0.6, 0.85])
def test_bursts_wait_as_lindley_says(shape: float, used: float) -> None:
    # The wait of a request: that of the one before and a service of 1, less the gap between them.
    gaps = np.random.default_rng(5).gamma(shape, 1 / (used * shape), 3_000_000)
    walk = np.cumsum(np.concatenate([[0], 1 - gaps]))
    waited = walk - np.minimum.accumulate(walk)
    with jax.enable_x64(True):
        share, waits = bursts(jnp.asarray(used), jnp.asarray(1 / shape))
    # A share `used` of Poisson arrivals waits, and used / (2·(1 − used)) on average.
    assert float(share) * used == pytest.approx(np.mean(waited > 1e-9), abs=0.02)
    mean = float(waits) * used / (2 * (1 - used))
    assert mean == pytest.approx(waited.mean(), rel=0.06)


@pytest.mark.parametrize("shape", [0.25, 0.5, 3.0])
@pytest.mark.parametrize("time", [0.05, 0.5, 4.0])
def test_a_renewal_function_is_the_sum_of_its_distributions(shape: float, time: float) -> None:
    # P(the k-th of the next arrivals comes within the time), over k.
    numbers = np.arange(1, 400)
    exact = float(gammainc(numbers * shape, shape * time).sum())
    with jax.enable_x64(True):
        found = float(arrivals_after(jnp.asarray(time), jnp.asarray(shape)))
    assert found == pytest.approx(exact, rel=0.35 if shape < 0.5 else 0.05, abs=0.05)
