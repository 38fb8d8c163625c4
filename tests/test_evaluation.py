"""Tiles and the memory of results: the bits agree however a region is computed."""

import gc
import weakref
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import UNEVEN, hardware, model, precision, shipped
from hypothesis import given
from hypothesis import strategies as st

from sweep.engines.calibration_file import load_calibration
from sweep.evaluation import evaluator
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.evaluation.result_memory import ResultMemory, handed_over
from sweep.evaluation.stored_function import StoredFunction
from sweep.grid import thresholds
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.grid.tiling import Tiling, halves, overlap, split_by_extent, split_evenly

VARIABLES = ["ttft", "output_throughput", "feasible"]


def twins(**changes: object) -> Plan:
    """Two models of one structure, over axes that do not divide evenly."""
    grid = Grid(
        models=[model(), model(hidden_size=128).model_copy(update={"name": "twin"})],
        hardware=[hardware(), hardware(memory_bytes=16e9, name="other")],
        precision=[precision()],
        tp=[1, 2],
        batch_size=[1, 2, 3, 5, 8],
        isl=list(range(1, 12)),
        osl=list(range(1, 24)),
        variables=VARIABLES,
    )
    return make_plan(resolve(grid, shipped()), **changes)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and tiles of some kilobytes, by the kernel of a large grid."""
    monkeypatch.setattr("sweep.evaluation.evaluator.FEW", 0)
    monkeypatch.setattr(thresholds, "ONE_TILE_BYTES", 0)
    monkeypatch.setattr(thresholds, "ONE_FILE_BYTES", 0)
    monkeypatch.setattr(thresholds, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(thresholds, "TILE_BYTES", 100)


def is_tile(array: np.ndarray) -> bool:
    """Whether an array is the output of a kernel call, rather than assembled by NumPy."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is not None


@pytest.mark.slow
def test_a_default_shard_is_one_tile(large: None) -> None:
    made = twins()
    assert made.shards.count > 2 and made.large_tiles(2) == made.shards
    assert len({made.shards.lengths(axis) for axis in made.shards.sizes}) > 1
    work = Evaluation(made)
    for region in made.shards:
        said = Mock()
        arrays = work.compute(region, progress=said)
        said.assert_called_once_with(1, 1)
        for name, array in arrays.items():
            assert is_tile(array) and array.flags.writeable
            assert array.shape == tuple(len(region[d]) for d in made.grid.dims(name))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.campaign)])
def test_shards_and_the_whole_have_the_same_bits(dtype: str, large: None) -> None:
    """Whether tiles are the result, are copied into it, or belong to other shards."""
    made = twins(dtype=dtype)
    whole = Evaluation(made).compute(Evaluation(made).whole)
    assert not any(is_tile(array) for array in whole.values())
    for other in (made, twins(dtype=dtype, shards=13)):
        for memory in (ResultMemory(), None):
            work = Evaluation(other)
            for region in other.shards:
                for name, array in work.compute(region, memory).items():
                    where = [slice(region[d].start, region[d].stop) for d in other.grid.dims(name)]
                    assert array.tobytes() == whole[name][tuple(where)].tobytes(), name


def addresses(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: array.ctypes.data for name, array in arrays.items()}


@pytest.mark.slow
def test_memory_is_used_again_and_a_result_that_is_kept_is_not(large: None) -> None:
    made, memory = twins(), ResultMemory()
    work = Evaluation(made)
    first, second = made.shards.region(0), made.shards.region(1)
    kept = work.compute(first)
    before = {name: array.copy() for name, array in kept.items()}
    found = addresses(work.compute(second, memory))
    again = work.compute(first, memory)
    assert addresses(again) == found
    # Now somebody holds the result that is in this memory:
    other = work.compute(second, memory)
    assert not set(addresses(other).values()) & set(found.values())
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])
        np.testing.assert_array_equal(again[name], before[name])


@pytest.mark.slow
def test_assembled_results_use_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, memory = twins(), ResultMemory()
    monkeypatch.setattr(evaluator, "_intermediate_bytes", lambda *given: float("inf"))
    work = Evaluation(made)
    found = addresses(work.compute(work.whole, memory))
    assert addresses(work.compute(work.whole, memory)) == found


@pytest.mark.slow
def test_a_kernel_with_many_intermediate_values_keeps_to_small_tiles(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = twins()
    monkeypatch.setattr(evaluator, "_intermediate_bytes", lambda *given: 20_000)
    found = Evaluation(made).compute(made.shards.region(0))
    assert not any(is_tile(array) for array in found.values())


@pytest.mark.slow
def test_a_grid_between_one_tile_and_shards_is_assembled_from_small_tiles(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "ONE_FILE_BYTES", 10**9)
    made = twins()
    assert made.large_tiles(2) is None
    found = Evaluation(made).compute(made.shards.region(0))
    assert not any(is_tile(array) for array in found.values())


@pytest.mark.slow
def test_models_of_several_structures_are_assembled(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "ONE_TILE_BYTES", 2**28)
    grid = resolve(Grid(**{**UNEVEN, "variables": VARIABLES}), shipped())
    work = Evaluation(make_plan(grid, calibration=load_calibration("tensorrt-llm")))
    assert work.structures > 1
    assert not any(is_tile(array) for array in work.compute(work.whole).values())


def test_intermediate_bytes_are_those_of_the_compiler() -> None:
    """A sorted product of two axes has to be stored before it is reversed."""
    lean = jax.jit(lambda buffers, x: {"y": x[:, None] * x[None, :]}, donate_argnums=0)
    fat = jax.jit(
        lambda buffers, x: {"y": jnp.sort(jnp.sin(x[:, None] * x[None, :]), axis=0)[::-1]},
        donate_argnums=0,
    )
    shape = {"y": jax.ShapeDtypeStruct((512, 512), np.float32)}
    leaves, tree = jax.tree.flatten((shape, jax.ShapeDtypeStruct((512,), np.float32)))
    types = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    stored_lean, stored_fat = StoredFunction(lean, "lean", shape), StoredFunction(fat, "fat", shape)
    assert evaluator._intermediate_bytes(stored_lean, types, tree) < 4 * 512
    assert evaluator._intermediate_bytes(stored_fat, types, tree) >= 4 * 512 * 512


# Memory.


def test_a_result_that_is_handed_over_may_be_edited_and_keeps_its_memory() -> None:
    results = {name: jnp.arange(12.0).reshape(3, 4) + 1 for name in ("one", "two")}
    at, gone = results["one"].unsafe_buffer_pointer(), weakref.ref(results["one"])
    arrays = handed_over(results)
    gc.collect()
    assert not results and list(arrays) == ["one", "two"]
    assert arrays["one"].ctypes.data == at
    arrays["one"][1, 2] = -1
    row = arrays.pop("one")[1:, ::2]
    gc.collect()
    fresh = [jnp.full((3, 4), 7.0) for _ in range(100)]
    np.testing.assert_array_equal(row, [[5, -1], [9, 11]])
    np.testing.assert_array_equal(arrays["two"], np.arange(1, 13).reshape(3, 4))
    assert len(fresh) == 100 and gone() is not None
    del row
    gc.collect()
    assert gone() is None


def test_jax_does_not_overwrite_what_numpy_reads() -> None:
    """A view of any kind keeps JAX from writing into a donated buffer."""
    fill = jax.jit(lambda buffer, x: jnp.zeros_like(buffer) + x, donate_argnums=0, keep_unused=True)
    for see in (np.asarray, lambda array: handed_over({"x": array})["x"]):
        first = fill(jnp.zeros(2**20), 1.0)
        seen = see(first)[3:5]
        second = fill(first, 2.0)
        np.testing.assert_array_equal(seen, [1, 1])
        assert float(second[3]) == 2


# Tiling.


def tilings(size: int, extent: int) -> list[Tiling]:
    sizes = {"isl": size, "osl": 3}
    return [
        Tiling.strided(sizes, {"isl": extent, "osl": 3}),
        Tiling.even(sizes, {"isl": -(-size // extent)}),
    ]


@given(size=st.integers(1, 40), extent=st.integers(1, 40), data=st.data())
def test_regions_cover_an_axis_once_and_are_padded_to_one_shape(
    size: int, extent: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, size - 1))
    part = {"isl": range(start, data.draw(st.integers(start, size - 1)) + 1), "osl": range(1, 2)}
    for tiling in tilings(size, min(size, extent)):
        covered = [index for region in tiling for index in region["isl"]]
        assert covered == list(range(size))
        assert list(tiling) == [tiling.region(number) for number in range(tiling.count)]
        found = list(tiling.overlapping(part))
        assert [i for each in found for i in overlap(each["isl"], part["isl"])] == list(part["isl"])
        for region in found:
            padded = tiling.padded(region)
            assert {axis: len(indices) for axis, indices in padded.items()} == tiling.shape
            assert set(region["isl"]) <= set(padded["isl"]) <= set(range(size))


def test_regions_by_hand() -> None:
    # Even: 10 × 1 / 4 = 2.5, 10 × 2 / 4 = 5, 10 × 3 / 4 = 7.5, rounded down.
    even = Tiling.even({"isl": 10}, {"isl": 4})
    assert even.lengths("isl") == (2, 3, 2, 3) and even.shape == {"isl": 3}
    assert Tiling.strided({"isl": 10}, {"isl": 4}).lengths("isl") == (4, 4, 2)
    two = Tiling.even({"model": 2, "isl": 10}, {"model": 2, "isl": 4})
    assert two.region(5) == {"model": range(1, 2), "isl": range(2, 5)}
    assert two.number({"model": 1, "isl": 1}) == 5
    assert two.number({"isl": 3}) == 3


def test_axes_are_halved_in_order_until_a_tile_is_small_enough() -> None:
    assert halves(9) == [9, 5, 3, 2, 1]
    sizes = {"model": 3, "isl": 9, "osl": 8}

    def shape(most: int) -> list[int]:
        tiling = split_by_extent(
            sizes,
            lambda tiles: int(np.prod(list(tiles.shape.values()))) <= most,
            ["isl", "model", "osl"],
            lambda axis: halves(sizes[axis]),
        )
        return list(tiling.shape.values())

    assert shape(216) == [3, 9, 8]
    # 3 × 5 × 8 = 120 and 3 × 3 × 8 = 72; with one length, 3 × 8 = 24 and 2 × 8 = 16.
    assert shape(119) == [3, 3, 8]
    assert shape(23) == [2, 1, 8]
    assert split_evenly(sizes, lambda tiles: False).count == 3 * 9 * 8
