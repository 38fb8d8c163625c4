"""Shares of the memory by which engines size their KV cache, stated and by default."""

import jax
import pytest
from factories import shipped
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.fit.table import tabulate
from calibration.measurements.measurement import Measurement
from calibration.validation.predictions import predictions
from sweep.decisions.launch_settings import memory_shares
from sweep.engines.calibration_file import load_calibration
from sweep.evaluation.single_cell import cell
from sweep.kernel import memory
from sweep.kernel.params import Point
from sweep.models.read import read_model

WEIGHTS = 8_030_261_248 * 2
"""Weights of Llama-3.1-8B in 16 bits. [byte]"""
DEFAULTS = {
    "vllm": {"gpu_memory_utilization": 0.9},
    "vllm-rocm": {"gpu_memory_utilization": 0.9},
    "tensorrt-llm": {"kv_cache_fraction": 0.9},
    "sglang": {"kv_cache_fraction": 0.9},
}
"""The share that an engine has where none is stated."""


def served(
    calibration: str, hardware: str = "h100-sxm-80gb", model: str = "llama-3.1-8b", **numbers: float
) -> Point:
    catalog = shipped()
    with jax.enable_x64(True):
        return cell(
            read_model(catalog.model(model)),
            catalog.hardware(hardware),
            catalog.precision("fp16"),
            {"isl": 1000, "osl": 200, **numbers},
            load_calibration(calibration),
        )


def cache(point: Point) -> float:
    with jax.enable_x64(True):
        return float(memory.cache_memory(point))


def activations(point: Point) -> float:
    server = point.server
    limit = min(server.max_batch_size, server.max_num_tokens)
    with jax.enable_x64(True):
        return float(memory.working_memory(point, server.max_num_tokens, limit))


@pytest.mark.parametrize("calibration", DEFAULTS)
def test_stating_the_default_share_is_stating_nothing(calibration: str) -> None:
    machines = ["mi300x"] if calibration == "vllm-rocm" else ["h100-sxm-80gb", "h200-sxm-141gb"]
    for hardware in machines:
        usual, stated = (served(calibration, hardware, **s) for s in ({}, DEFAULTS[calibration]))
        assert cache(stated) == pytest.approx(cache(usual), rel=1e-12)


def test_a_stated_share_of_vllm_by_hand() -> None:
    # 0.8 of the memory that the driver reports, less weights, what an iteration takes, and no more.
    point = served("vllm", gpu_memory_utilization=0.8)
    size = 85.521e9
    assert cache(point) == pytest.approx(0.8 * size - WEIGHTS - activations(point), rel=1e-6)
    # The habit of the engine is the same rule with 0.9.
    assert cache(served("vllm")) == pytest.approx(
        0.9 * size - WEIGHTS - activations(point), rel=1e-6
    )


def test_a_stated_share_of_sglang_by_hand() -> None:
    # Weights and cache in 0.8 of the memory, whatever the engine would keep for itself by habit.
    point, size = served("sglang", mem_fraction_static=0.8), 85.521e9
    assert cache(point) == pytest.approx(0.8 * size - WEIGHTS, rel=1e-6)
    # 0 is a row that states none, beside rows that do.
    open_, usual = served("sglang", mem_fraction_static=0.0), served("sglang")
    assert cache(open_) == pytest.approx(cache(usual), rel=1e-12)
    with jax.enable_x64(True):
        assert float(memory.kept_memory(open_)) == float(memory.kept_memory(usual)) == 16e9
        assert float(memory.kept_memory(point)) == 0.0
    # What an iteration takes is never given away.
    whole = served("sglang", mem_fraction_static=1.0)
    assert cache(whole) == pytest.approx(size - WEIGHTS - activations(whole), rel=1e-6)
    # By habit 16 GB are kept, and 0.9 of the rest is the cache.
    habit = 0.9 * (size - 16e9 - WEIGHTS - activations(whole))
    assert cache(served("sglang")) == pytest.approx(habit, rel=1e-6)


@pytest.mark.parametrize("calibration", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_shares_of_a_launch_command_are_those_that_were_assumed(
    calibration: str, model: str
) -> None:
    layout = {"tp": 2}
    with jax.enable_x64(True):
        usual = served(calibration, model=model, **layout)
        total, static, free = memory_shares(usual)
        for stated in (
            {"gpu_memory_utilization": total},
            {"mem_fraction_static": static},
            {"kv_cache_fraction": free},
        ):
            again = served(calibration, model=model, **layout, **stated)
            assert cache(again) == pytest.approx(cache(usual), rel=1e-9)
    if calibration == "vllm":
        assert total == pytest.approx(0.9, rel=1e-12)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    axis=st.sampled_from(["gpu_memory_utilization", "mem_fraction_static", "kv_cache_fraction"]),
    calibration=st.sampled_from(["vllm", "sglang", "tensorrt-llm"]),
    shares=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_a_larger_share_never_holds_fewer(
    axis: str, calibration: str, shares: tuple[float, float]
) -> None:
    low, high = (cache(served(calibration, **{axis: share})) for share in sorted(shares))
    assert low <= high + 1


@pytest.mark.slow
def test_rows_with_a_share_and_rows_without_are_of_one_kernel() -> None:
    """DeepSeek-R1 on B200 of 192.3 GB: 0.95 of each have room for 32 requests.

    The share of the free memory that 16 GB for the engine leave has not.
    """
    run = Measurement(
        **{"engine": "sglang", "engine_version": "0.5.9", "scenario": "inflight"},
        **{"model": "deepseek-r1", "hardware": "b200-sxm", "tp": 4, "concurrency": 32},
        **{"weight_dtype": "fp8", "kv_dtype": "fp8", "isl": 7373, "osl": 922, "metric": "ttft"},
        max_num_tokens=8192,
    )
    table = tabulate([run, run.model_copy(update={"mem_fraction_static": 0.95})], shipped())
    assert len(table.groups) == 1
    found = predictions(table, load_calibration("sglang"))
    waits, fits = found["predicted"]
    assert waits > 5 * fits
    assert list(found["flags"].str.contains("more_clients_than_fit")) == [True, False]


@pytest.mark.parametrize("other", ["kv_cache_fraction", "gpu_memory_utilization"])
def test_a_row_states_one_share(other: str) -> None:
    columns = {"scenario": "inflight", "model": "llama-3.1-8b", "hardware": "l40s", "isl": 10}
    shares = {"mem_fraction_static": 0.9, other: 0.9}
    with pytest.raises(ValueError, match="alternatives of one another"):
        Measurement.model_validate(columns | {"metric": "tpot", "osl": 10} | shares)
