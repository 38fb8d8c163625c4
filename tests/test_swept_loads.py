"""Loads in sweeps and commands: refusals, explained cells, intervals of waits."""

import json
from typing import Any

import numpy as np
import pytest

from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.runs.check_results import check_dataset
from sweep.runs.run import run

# Loads that make no sense.


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"request_rate": [0]}, "must be a number above 0 and below 1e9, and 0 is not"),
        ({"request_rate": [-2.5]}, "request_rate: every value must be a number above 0"),
        ({"request_rate": [1], "concurrency": [4]}, "request_rate: given with concurrency"),
        ({"request_rate": [1], "num_requests": [4]}, "request_rate: given with num_requests"),
        ({"burstiness": [0.5]}, "burstiness: needs a request_rate"),
        ({"stream_interval": [1, 200], "osl": [1, 200]}, "stream_interval: 200 tokens are all of"),
        ({"scheduler": ["fifo"]}, "scheduler: must be among chunked, prefill_first, and 'fifo'"),
        ({"scheduler": ["chunked"] * 2}, "scheduler: must list each scheduler once"),
        ({"request_rate": [1], "burstiness": [0]}, "burstiness: every value must be a number"),
        ({"max_ttft": [0]}, "max_ttft: every value must be a number above 0, and 0 is not"),
        ({"max_tpot": [1]}, "max_tpot: is a limit of max_request_rate; add that variable"),
    ],
)
def test_loads_that_make_no_sense_are_refused(load: dict[str, Any], words: str) -> None:
    places = {"models": ["llama-3.1-8b"], "hardware": ["l20"], "isl": [9], "osl": [9]}
    with pytest.raises(SpecError) as refusal:
        Grid(**{**places, **load}, variables=["inflight_ttft"])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_explained_cell_has_the_figures_of_its_load(call) -> None:
    place = ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm-80gb", "--batch-size"]
    place += ["1", "--isl", "100", "--osl", "20"]
    for words, message in (
        (["--request-rate", "0"], "--request-rate"),
        (["--request-rate", "nan"], "--request-rate"),
        (["--request-rate", "2", "--num-requests", "4"], "keep one of them"),
        (["--concurrency", "4"], "give --batch-size for a static batch, or --concurrency"),
        (["--burstiness", "0.5"], "burstiness: needs a request_rate"),
        (["--isl-cv", "-1"], "--isl-cv"),
        (["--scheduler", "fifo"], "fifo"),
    ):
        code, out, error = call(*place, *words)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert message in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "reasons", "line"),
    [
        (["--request-rate", "2"], [], None),
        (["--request-rate", "1e5"], ["arrivals_exceed_capacity"], "(unstable: requests arrive"),
        (["--concurrency", "1M"], ["clients_exceed_capacity"], "(more requests are open than fit"),
    ],
)
def test_explain_says_that_a_server_is_overloaded(call, load, reasons, line) -> None:
    place = ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm-80gb"]
    place += ["--isl", "100", "--osl", "20", *load]
    assert json.loads(call(*place, "--json")[1])["overload"] == reasons
    lines = [each for each in call(*place)[1].splitlines() if each.startswith("(")]
    assert [each.startswith(line) for each in lines] == [True] * len(reasons)


@pytest.mark.slow
def test_explain_prints_the_figures_of_a_load(call) -> None:
    place = ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm-80gb", "--batch-size"]
    place += ["1", "--isl", "100", "--osl", "20", "--json"]
    code, out, _ = call(*place, "--request-rate", "3", "--osl-cv", "0.5")
    figures = json.loads(out)["figures"]
    assert code == 0
    assert figures["inflight_output_throughput"] == pytest.approx(60)
    latency = figures["inflight_ttft"] + 19 * figures["inflight_tpot"]
    assert figures["inflight_request_latency"] == pytest.approx(latency, rel=1e-6)


@pytest.mark.slow
def test_intervals_of_waits_end_where_a_server_may_not_keep_up() -> None:
    found = run(
        Grid(
            models=["llama-3.1-8b"],
            hardware=["h100-sxm-80gb"],
            isl=[1000],
            osl=[200],
            request_rate=[1, 25, 1e6],
            max_ttft=[1e-6, 1],
            variables=["inflight_ttft", "max_request_rate"],
        ),
        efficiency=load_calibration("tensorrt-llm"),
    )
    assert check_dataset(found) == []
    found = found.squeeze(drop=True)
    ttft = found.inflight_ttft.values
    lower, upper = found.inflight_ttft_lower.values, found.inflight_ttft_upper.values
    assert lower[0] < ttft[0] < upper[0] < 2 * ttft[0]
    assert lower[1] < ttft[1]
    assert np.isinf(upper[1])
    assert np.isnan([ttft[2], lower[2], upper[2]]).all()
    least, most = found.max_request_rate.values
    assert least == found.max_request_rate_upper.values[0] == 0
    assert found.max_request_rate_lower.values[1] < most < found.max_request_rate_upper.values[1]


@pytest.mark.slow
def test_a_rate_is_swept_like_everything_else() -> None:
    found = run(
        Grid(
            models=["llama-3.1-8b"],
            hardware=["h100-sxm-80gb"],
            isl=[128],
            osl=[128],
            request_rate=[0.5, 2, 1e6],
            variables=["inflight_ttft", "max_request_rate"],
        )
    )
    assert found.inflight_ttft.dims[-3:] == ("request_rate", "isl", "osl")
    assert "request_rate" not in found.max_request_rate.dims
    assert found.request_rate.attrs["units"] == "s-1"
    assert found.inflight_overload.values.ravel().tolist() == [0, 0, 2]
    assert np.isfinite(found.inflight_ttft.values).ravel().tolist() == [True, True, False]
