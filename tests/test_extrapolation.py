"""Intervals outside the measured loads, accelerators and GPUs, by hand."""

import math

import numpy as np
import pytest

from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.engines.prediction_interval import PER_DOUBLING, Subjects, doublings_beyond
from sweep.schema.intervals import EXTRAPOLATION

NARROW = Calibration(
    name="narrow",
    halfwidths={
        "inflight": {"seen": 0.1, "unseen_hardware": 0.3, "beyond_gpus": 0.1},
        "static_batch": {"seen": 0.1, "unseen_hardware": 0.3},
    },
    seen={"hardware": ["one", "two"], "model": ["toy"], "dtype": ["half"], "family": ["llama"]},
    ranges={"inflight": {"load": [4.0, 64.0]}, "static_batch": {"batch_size": [8.0, 128.0]}},
    measured={"inflight": {"one": 8.0, "two": 1.0}, "static_batch": {"one": 8.0}},
)


def subjects(hardware: str) -> Subjects:
    one = {"model": "toy", "family": "llama", "experts": "none", "dtype": "half", "version": "toy"}
    return Subjects(hardware=np.asarray([hardware]), **{k: np.asarray([v]) for k, v in one.items()})


def judged(hardware: str, mask: str, variable: str, **numbers: float) -> tuple[set[str], float]:
    """Flags of a prediction, and half of its interval."""
    numbers = {"link_gpus": 8.0, **numbers}
    given = {mask: {name: np.asarray([value]) for name, value in numbers.items()}}
    found = NARROW.intervals(subjects(hardware), given, [variable])
    bits = int(found.extrapolation[mask][0])
    flags = {name for name, bit in EXTRAPOLATION.items() if bits & bit}
    return flags, float(found.halfwidth(variable)[0])


SERVED = ("inflight_extrapolation", "inflight_output_throughput")
STATIC = ("extrapolation", "output_throughput")


def test_each_doubling_of_the_load_beyond_the_measured_ones_widens() -> None:
    flags, usual = judged("one", *SERVED, load=4.0, gpus=8.0)
    assert (flags, usual) == (set(), pytest.approx(0.1))
    beyond = [judged("one", *SERVED, load=load, gpus=8.0) for load in (2.0, 0.5, 1024.0)]
    assert all(flags == {"beyond_batch"} for flags, _ in beyond)
    # A flag that no row measures is half as wide again.
    for (_, width), doublings in zip(beyond, (1, 3, 4), strict=True):
        assert width == pytest.approx(0.15 * math.hypot(1, PER_DOUBLING * doublings))


def test_an_accelerator_measured_in_flight_only_is_new_to_static_batches() -> None:
    assert judged("two", *SERVED, load=8.0, gpus=1.0) == (set(), pytest.approx(0.1))
    flags, width = judged("two", *STATIC, batch_size=8.0, gpus=1.0)
    assert (flags, width) == ({"unseen_hardware"}, pytest.approx(0.3))
    assert judged("one", *STATIC, batch_size=8.0, gpus=1.0)[0] == set()


def test_an_accelerator_measured_alone_is_new_to_exchanges() -> None:
    flags, width = judged("two", *SERVED, load=8.0, gpus=4.0)
    assert flags == {"beyond_gpus"}
    assert width == pytest.approx(0.1)
    assert judged("one", *SERVED, load=8.0, gpus=4.0)[0] == set()


def test_an_accelerator_measured_within_its_link_is_new_beyond_it() -> None:
    """A bridge joins two GPUs: four exchange over PCIe, which no run did; eight runs did of one."""
    new = {"unseen_hardware", "beyond_gpus"}
    for name, linked, gpus, flags in (
        ("two", 2.0, 2.0, {"beyond_gpus"}),
        ("two", 2.0, 4.0, new),
        ("one", 2.0, 4.0, set()),
        ("one", 8.0, 16.0, new),
        ("one", 16.0, 16.0, {"beyond_gpus"}),
        ("two", 1.0, 4.0, {"beyond_gpus"}),
        ("other", 2.0, 4.0, new),
        ("other", 1.0, 4.0, {"unseen_hardware"}),
    ):
        found, width = judged(name, *SERVED, load=8.0, gpus=gpus, link_gpus=linked)
        assert (found, width) == (flags, pytest.approx(0.3 if "unseen_hardware" in flags else 0.1))


def test_a_server_without_a_limit_is_at_no_distance() -> None:
    found = doublings_beyond({"load": [4.0, 64.0]}, {"load": np.asarray([np.nan, 2.0, 5.0])})
    assert found.tolist() == [0.0, 1.0, 0.0]


def test_a_single_stream_of_the_shipped_calibration_is_less_certain() -> None:
    known = load_calibration("tensorrt-llm")
    low, _ = known.ranges["inflight"]["load"]
    one = {
        name: np.asarray([value])
        for name, value in {
            "model": "deepseek-r1",
            "family": "deepseek_v3",
            "experts": "routed",
            "hardware": "b200-sxm",
            "dtype": "fp8",
            "version": "tensorrt-llm 1.2.0",
        }.items()
    }
    widths = []
    for load in (low, 1 / 8):
        numbers = {"concurrency": 8.0 * load, "load": load, "gpus": 8.0, "link_gpus": 8.0}
        given = {"inflight_extrapolation": {k: np.asarray([v]) for k, v in numbers.items()}}
        found = known.intervals(Subjects(**one), given, ["inflight_output_throughput"])
        widths.append(float(found.halfwidth("inflight_output_throughput")[0]))
    assert widths[1] > 1.3 * widths[0]
    assert "gh200-96gb" not in known.measured["static_batch"]
