"""Deployments for a run whose requests are all sent at once."""

import pytest

import sweep
from sweep.errors import SpecError
from sweep.grid.grid import Grid

REQUESTS = {"isl": 1024, "osl": 512}
OFFER = {"hardware": ["l20", "rtx-4090"], "precision": "fp8", "tp": 1, "pp": 1}


@pytest.fixture(scope="module")
def ranks():
    return sweep.recommend(
        "llama-3.1-8b", **REQUESTS, **OFFER, num_requests=1000, calibration="ideal"
    )


@pytest.mark.slow
def test_a_run_is_that_of_a_sweep(ranks) -> None:
    grid = Grid(
        models=["llama-3.1-8b"],
        hardware=["l20", "rtx-4090"],
        precision=["fp8"],
        isl=[1024],
        osl=[512],
        num_requests=[1000],
        variables=["inflight_output_throughput", "inflight_ttft", "inflight_concurrency"],
    )
    swept = sweep.run(grid).squeeze()
    assert len(ranks) == 2
    for row in ranks.to_dict("records"):
        own = swept.sel(hardware=row["hardware"])
        assert row["replicas"] == 1
        assert row["throughput"] == pytest.approx(float(own.inflight_output_throughput), rel=1e-5)
        assert row["ttft"] == pytest.approx(float(own.inflight_ttft), rel=1e-5)
        assert row["held"] == pytest.approx(float(own.inflight_concurrency))
        # All output tokens at the throughput of the run.
        assert row["duration"] == pytest.approx(1000 * 512 / row["throughput"], rel=1e-6)
    assert "All 1,000 requests are sent at once: the run takes" in ranks.attrs["answer"]


def test_more_replicas_take_less_time_each(ranks) -> None:
    """Half of the requests each: less than half as long, at no more tokens per GPU."""
    alone = ranks.set_index("hardware").loc["l20"]
    two = sweep.recommend(
        "llama-3.1-8b",
        **REQUESTS,
        **{**OFFER, "hardware": "l20"},
        num_requests=1000,
        replicas=2,
        calibration="ideal",
    ).iloc[0]
    assert (two["replicas"], two["asked"]) == (2, 500)
    assert alone["duration"] / 2 <= two["duration"] * (1 + 1e-6) < alone["duration"]
    assert two["per_gpu"] <= alone["per_gpu"] * (1 + 1e-6)
    assert two["ttft"] < alone["ttft"]


@pytest.mark.parametrize(
    "options",
    [
        ["--concurrency", "8"],
        ["--requests-per-s", "2"],
        ["--request-rate", "2"],
        ["--from", "result.nc"],
        ["--disaggregated"],
    ],
)
def test_a_run_is_the_only_load(call, options: list[str]) -> None:
    words = ["recommend", "--model", "llama-3.1-8b", "--isl", "64", "--osl", "8"]
    code, _, error = call(*words, "--num-requests", "10", *options)
    assert code == 2
    assert f"leave {options[0]} out" in error
    assert len(error.splitlines()) == 1


def test_calls_refuse_other_loads_too() -> None:
    for other in ({"concurrency": 8}, {"request_rate": 1.0}, {"requests_per_s": 1.0}):
        with pytest.raises(SpecError, match=f"leave {next(iter(other))} out"):
            sweep.recommend("llama-3.1-8b", **REQUESTS, num_requests=10, **other)
    with pytest.raises(SpecError, match="11 replicas for 10 requests"):
        sweep.recommend("llama-3.1-8b", **REQUESTS, **OFFER, num_requests=10, replicas=11)


@pytest.mark.slow
def test_the_benchmark_of_a_run_sends_all_at_once(call) -> None:
    words = ["recommend", "--model", "llama-3.1-8b", "--isl", "1024", "--osl", "512"]
    words += ["--hardware", "l20", "--precision", "fp8", "--tp", "1", "--pp", "1"]
    code, script, _ = call(*words, "--num-requests", "1000", "--emit", "bench")
    assert code == 0
    assert "--num-prompts 1000" in script
    assert "--max-concurrency" not in script
    assert "--request-rate inf" in script
