"""Times that 32 bits cannot hold: such a deployment does not run, and says why."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from factories import PEAKS, hardware, model, precision, shipped

import sweep
from sweep.engines.calibration_file import Calibration
from sweep.errors import SpecWarning
from sweep.evaluation.plan import make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.kernel.time_range import are_out_of_range
from sweep.queries.reduction_request import ReductionRequest
from sweep.runs.check_results import check_dataset
from sweep.runs.to_disk import Sharding, run_reduced
from sweep.schema.terms import INFEASIBLE_REASONS, LONGEST_S, OVERLOADS

SLOW = {
    "memory_bytes": 1e30,
    "memory_bandwidth_bytes_per_s": 1.0,
    "peak_flops_per_s": dict.fromkeys(PEAKS, 1.0),
}
"""An accelerator at the bounds of what a specification may say, with room for anything."""
SHARES = ("software", "gemm", "attention", "weight_bandwidth", "kv_bandwidth")
SLOW_ENGINE = Calibration.model_validate(
    {
        "name": "slow",
        "engine": "vllm",
        "engine_version": "0.9.1",
        "factors": {
            **{factor: {"value": 1e-3} for factor in SHARES},
            **{f"{what}_overhead_s": {"value": 1000.0} for what in ("step", "sequence")},
        },
        "halfwidths": {kind: {"seen": 1.0} for kind in ("static_batch", "first_token", "inflight")},
    }
)
"""An engine at the bounds of what a calibration may say."""
LENGTHS = [1, 1000, 10**6, 10**9]
TIMES = ["ttft", "tpot", "e2e_latency"]
SERVED = ["inflight_iteration_latency", "inflight_ttft", "inflight_request_latency"]


def grid_of(variables: list[str], **axes: Any) -> Grid:
    return Grid(
        models=[model("llama")],
        hardware=[hardware(name="slow", **SLOW), hardware(name="fast", memory_bytes=1e30)],
        precision=[precision()],
        isl=LENGTHS,
        variables=variables,
        **{"osl": LENGTHS, **axes},
    )


def swept(variables: list[str], calibration: Calibration | None, **axes: Any) -> xr.Dataset:
    return sweep.run(grid_of(variables, **axes), calibration=calibration)


def expected_warning(warns: bool) -> AbstractContextManager[object]:
    """That of a calibration on axes of which its runs had one value."""
    return pytest.warns(SpecWarning, match="fitted to runs without") if warns else nullcontext()


HITS = {"prefix_hit_rate": [0.0, 0.999]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calibration", "axes"),
    [
        pytest.param(None, {}, id="ideal"),
        pytest.param(SLOW_ENGINE, HITS, id="slow with hits"),
        pytest.param(SLOW_ENGINE, {}, id="slow", marks=pytest.mark.campaign),
        pytest.param(None, HITS, id="ideal with hits", marks=pytest.mark.campaign),
    ],
)
def test_a_static_batch_that_runs_has_times(
    calibration: Calibration | None, axes: dict[str, Any]
) -> None:
    names = [*TIMES, "output_throughput", "feasible", "infeasible_reason"]
    with expected_warning(calibration is not None and "prefix_hit_rate" in axes):
        found = swept(names, calibration, batch_size=[1, 10**9], **axes)
    runs = found.feasible == 1
    lost = (found.infeasible_reason & INFEASIBLE_REASONS["time_out_of_range"]) != 0
    assert runs.any() and lost.any() and not (runs & lost).any()
    for name in TIMES:
        several = found.osl > 1 if name == "tpot" else True
        assert (found[name] < LONGEST_S).where(runs & several, True).all()
    assert (np.isfinite(found.output_throughput) == runs).all()
    # The reason is given where it holds, and nowhere else.
    slowest = found.e2e_latency
    slowest = slowest.isel(prefix_hit_rate=0) if axes else slowest
    assert (lost == ~(slowest < LONGEST_S)).all()
    assert check_dataset(found) == []
    best = sweep.reduce(found, "argmax:output_throughput", where="feasible")
    assert np.isfinite(best.output_throughput).all()
    worst = sweep.reduce(found, "best:batch_size,isl,osl", by="e2e_latency", where="feasible")
    assert (worst.e2e_latency < LONGEST_S).all()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["argmax:e2e_latency", "best:isl,osl"])
def test_the_reason_holds_in_a_reduction_inside_the_kernel(text: str, tmp_path: Path) -> None:
    """Cells that are out of range are no candidates; the answer is that of the kept values."""
    grid = grid_of(["e2e_latency", "feasible"], batch_size=[1, 10**9])
    asked = {"by": "e2e_latency"} if text.startswith("best") else {"per": ["hardware"]}
    question = ReductionRequest(text=text, where="feasible", **{"by": None, "per": None, **asked})
    plan = make_plan(resolve(grid, shipped()), calibration=SLOW_ENGINE, question=question)
    run_reduced(plan, tmp_path / "out.nc", Sharding(), lambda line: None)
    whole = sweep.run(grid, calibration=SLOW_ENGINE)
    wanted = sweep.reduce(whole, text, where="feasible", **asked)
    with sweep.open_results(tmp_path / "out.nc") as found:
        for name in wanted.data_vars:
            np.testing.assert_array_equal(found[name], wanted[name])
        assert (found.e2e_latency < LONGEST_S).all()
    assert (whole.feasible == 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("load", [{"concurrency": [1, 10**9]}, {"request_rate": [1e-6, 1e8]}])
def test_times_of_a_server_out_of_range_are_missing_and_flagged(load: dict[str, Any]) -> None:
    names = [*SERVED, "inflight_output_throughput", "inflight_feasible", "inflight_overload"]
    found = swept(names, SLOW_ENGINE, **load)
    runs = (found.inflight_feasible == 1) & xr.ones_like(found.inflight_overload)
    lost = (found.inflight_overload & OVERLOADS["time_out_of_range"]) != 0
    full = (found.inflight_overload & OVERLOADS["arrivals_exceed_capacity"]) != 0
    assert runs.any() and (runs & ~lost).any()
    for name in SERVED:
        assert not np.isinf(found[name]).any()
        assert np.isfinite(found[name]).where(runs & ~lost & ~full, True).all(), name
    assert check_dataset(found) == []


@pytest.mark.parametrize(
    ("times", "out"),
    [([1.0, 2.0], False), ([1.0, np.nan], True), ([LONGEST_S, 1.0], True), ([], False)],
)
def test_any_time_that_is_too_long_or_no_number_is_out_of_range(times, out: bool) -> None:
    assert bool(are_out_of_range(times)) is out


def test_a_file_whose_version_had_fewer_reasons_passes_the_check() -> None:
    grid = Grid(
        models=[model("llama")],
        hardware=[hardware()],
        precision=[precision()],
        batch_size=[1],
        context_len=[100],
        variables=["feasible", "infeasible_reason"],
    )
    found = sweep.run(grid)
    attributes = found.infeasible_reason.attrs
    attributes["flag_masks"] = attributes["flag_masks"][:-1]
    attributes["flag_meanings"] = attributes["flag_meanings"].rpartition(" ")[0]
    assert check_dataset(found) == []
    # A bit that the file does not explain is still one too many.
    found.infeasible_reason[:] = INFEASIBLE_REASONS["time_out_of_range"]
    assert "which no flag means" in " ".join(check_dataset(found))
    attributes["flag_meanings"] = "another"
    assert "flag_meanings" in " ".join(check_dataset(found))
