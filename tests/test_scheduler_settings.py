"""What a scheduler holds back, as axes of a sweep and options of commands."""

import json
from typing import Any

import numpy as np
import pytest
from factories import FP16, TOY, model

from sweep.grid.grid import Grid
from sweep.runs.run import run

NAMES = ["inflight_ttft", "inflight_tpot", "inflight_output_throughput"]


def grid(**axes: Any) -> Grid:
    return Grid(
        models=[model("llama")],
        hardware=[TOY],
        precision=[FP16],
        isl=[100],
        osl=[101],
        **{"concurrency": [8], "variables": NAMES, **axes},
    )


@pytest.mark.slow
def test_a_sweep_over_them_by_hand() -> None:
    found = run(
        grid(batch_wait=[0, 50], poll_interval=[1, 21], stream_interval=[1, 11]), dtype="float64"
    ).squeeze()
    plain = run(grid(), dtype="float64").squeeze()
    first = {"batch_wait": 0, "poll_interval": 1, "stream_interval": 1}
    for name in NAMES:
        assert found[name].dims == ("batch_wait", "poll_interval", "stream_interval")
        np.testing.assert_allclose(found[name].sel(first), plain[name], rtol=1e-12)
    ttft, tpot = found.inflight_ttft, found.inflight_tpot
    base = {"batch_wait": 0, "poll_interval": 1}
    # Ten tokens later, at the pace of the server; the others come in so much less time.
    late = float(ttft.sel(base | {"stream_interval": 11}) - ttft.sel(first))
    assert late == pytest.approx(10 * float(tpot.sel(first)), rel=1e-9)
    # Half of the 20 decode steps between two looks, of which each lasts no longer than the mean.
    held = float(ttft.sel(first | {"poll_interval": 21}) - ttft.sel(first))
    assert 0 < held <= 10 * float(tpot.sel(first)) * (1 + 1e-9)
    assert (found.inflight_output_throughput.diff("poll_interval") < 0).all()
    assert (ttft.diff("batch_wait") > 0).all()


@pytest.mark.slow
def test_arrivals_at_a_rate_are_held_back_too() -> None:
    """Waits grow with each axis, and its first value is that of a sweep without it."""
    load = {"concurrency": None, "request_rate": [10.0]}
    found = run(grid(batch_wait=[0, 50], poll_interval=[1, 21], stream_interval=[1, 11], **load))
    plain = run(grid(**load)).squeeze()
    first = {"batch_wait": 0, "poll_interval": 1, "stream_interval": 1}
    for name in NAMES:
        np.testing.assert_allclose(found[name].squeeze().sel(first), plain[name], rtol=1e-6)
    for axis in first:
        assert (found.inflight_ttft.diff(axis) > 0).all()


@pytest.mark.slow
def test_explain_takes_them(call) -> None:
    words = ["explain", "--model", "llama-3.1-8b", "--hardware", "l40s", "--isl", "512"]
    words += ["--osl", "128", "--concurrency", "8", "--json"]
    times = []
    for poll, stream in ((1, 1), (31, 1), (1, 11)):
        code, out, _ = call(*words, "--poll-interval", poll, "--stream-interval", stream)
        assert code == 0
        figures = json.loads(out)["figures"]
        times.append((figures["inflight_ttft"], figures["inflight_tpot"]))
    (first, pace), (polled, _), (streamed, _) = times
    assert polled > first
    assert streamed - first == pytest.approx(10 * pace, rel=1e-5)
