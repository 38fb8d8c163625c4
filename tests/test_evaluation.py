"""Large blocks: the kernel writes into the very arrays that are given out, and the bits agree."""

import ctypes
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

from sweep.evaluation import buffers as pages
from sweep.evaluation import evaluator as evaluation
from sweep.evaluation import plan
from sweep.evaluation.buffers import owner, shared, unfilled
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.evaluation.tiles import Blocks, common, every
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve

VARIABLES = ["ttft", "output_throughput", "feasible"]


def twins(**changes: object) -> Plan:
    """Two models of one structure, over axes that do not cut evenly."""
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
    """Shards and blocks of some kilobytes."""
    monkeypatch.setattr(plan, "WHOLE_BYTES", 0)
    monkeypatch.setattr(plan, "LARGE", 0)
    monkeypatch.setattr(plan, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(evaluation, "BLOCK_BYTES", 100)


def test_a_shard_nobody_asked_for_is_one_block(large: None) -> None:
    made = twins()
    assert made.cut.shards > 2 and made.blocks(2) == made.cut
    assert len({made.cut.lengths(axis) for axis in made.cut.sizes}) > 1
    work = Evaluation(made)
    for shard in range(made.cut.shards):
        places, said = made.cut.places(shard), Mock()
        arrays = work.compute(places, progress=said)
        said.assert_called_once_with(1, 1)
        for name, array in arrays.items():
            assert owner(array) is not None and array.flags.writeable
            assert array.shape == tuple(len(places[d]) for d in made.grid.dims(name))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shards_and_the_whole_hold_the_same_bits(dtype: str, large: None) -> None:
    """Whether blocks are given out as they are, copied together, or cut by other shards."""
    made = twins(dtype=dtype)
    whole = Evaluation(made).compute(Evaluation(made).whole)
    assert all(owner(array) is None for array in whole.values())
    for other in (made, twins(dtype=dtype, shards=13)):
        work, spare = Evaluation(other), None
        for shard in range(other.cut.shards):
            places = other.cut.places(shard)
            spare = work.compute(places, spare)
            for name, array in spare.items():
                where = [slice(places[d].start, places[d].stop) for d in other.grid.dims(name)]
                assert array.tobytes() == whole[name][tuple(where)].tobytes(), name


def test_spare_memory_is_written_again_and_nothing_else(large: None) -> None:
    made = twins()
    work = Evaluation(made)
    first, second = made.cut.places(0), made.cut.places(1)
    kept = work.compute(first)
    before = {name: array.copy() for name, array in kept.items()}
    spare = work.compute(second)
    places = {name: array.ctypes.data for name, array in spare.items()}
    again = work.compute(first, spare)
    assert {name: array.ctypes.data for name, array in again.items()} == places
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])
        np.testing.assert_array_equal(again[name], before[name])


def test_a_kernel_that_needs_much_beside_its_results_keeps_to_small_blocks(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = twins()
    monkeypatch.setattr(evaluation, "_memory_beside", lambda *given: 20_000)
    found = Evaluation(made).compute(made.cut.places(0))
    assert all(owner(array) is None for array in found.values())


def test_a_grid_between_one_block_and_shards_is_put_together_of_small_ones(
    large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LARGE", 10**9)
    made = twins()
    assert made.blocks(2) is None
    found = Evaluation(made).compute(made.cut.places(0))
    assert all(owner(array) is None for array in found.values())


@pytest.mark.parametrize("efficiency", [None, "tensorrt-llm"])
def test_models_of_several_structures_lie_in_arrays_of_numpys(
    efficiency: str | None, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WHOLE_BYTES", 2**28)
    grid = resolve(Grid(**{**UNEVEN, "variables": VARIABLES}), shipped())
    work = Evaluation(make_plan(grid))
    assert work.families > 1
    assert all(owner(array) is None for array in work.compute(work.whole).values())


def test_the_memory_beside_is_what_the_compiler_says() -> None:
    """A sum along an axis of what stands in no argument has to be stored first."""
    lean = jax.jit(lambda buffers, x: {"y": x[:, None] * x[None, :]}, donate_argnums=0)
    fat = jax.jit(
        lambda buffers, x: {"y": jnp.sort(jnp.sin(x[:, None] * x[None, :]), axis=0)[::-1]},
        donate_argnums=0,
    )
    shape = {"y": jax.ShapeDtypeStruct((512, 512), np.float32)}
    leaves, structure = jax.tree.flatten((shape, jax.ShapeDtypeStruct((512,), np.float32)))
    types = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    assert evaluation._memory_beside(lean, types, structure) < 4 * 512
    assert evaluation._memory_beside(fat, types, structure) >= 4 * 512 * 512


# Memory.


def test_numpy_writes_where_jax_reads_and_keeps_it_alive() -> None:
    array = jax.block_until_ready(jnp.arange(12.0).reshape(3, 4) + 1)
    seen = shared(array)
    gone = weakref.ref(array)
    seen[1, 2] = -1
    assert float(array[1, 2]) == -1 and owner(seen[1:, ::2]) is array
    del array
    gc.collect()
    assert gone() is not None and seen[2, 3] == 12
    del seen
    gc.collect()
    assert gone() is None
    assert owner(np.zeros(3)) is None


def test_large_memory_comes_unfilled_and_holds_what_is_written() -> None:
    shape = (pages.LEAST_BYTES // 8, 3)
    add = jax.jit(lambda buffer: jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape))
    written = shared(jax.jit(add, donate_argnums=0, keep_unused=True)(unfilled(shape, F4)))
    np.testing.assert_array_equal(written.ravel()[::4097], np.arange(0, written.size, 4097))


F4 = np.dtype(np.float32)


def test_memory_is_zeros_where_xla_refuses_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_a_later_version(call: object) -> None:
        question = call.contents.question
        if question and question.contents.extension.kind == pages.IS_A_QUESTION:
            question.contents.answer.contents.version.major = 7

    refused = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(pages._Call))(of_a_later_version)
    monkeypatch.setattr(pages, "_leave_alone", refused)
    monkeypatch.setattr(pages, "UNFILLED", "llm_sweep_refused")
    pages._can_be_unfilled.cache_clear()
    try:
        assert not pages._can_be_unfilled()
        assert not np.asarray(unfilled((pages.LEAST_BYTES,), F4)).any()
    finally:
        pages._can_be_unfilled.cache_clear()


def test_memory_is_zeros_where_an_accelerator_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = Mock()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.ffi, "register_ffi_target", registered)
    pages._can_be_unfilled.cache_clear()
    try:
        assert not np.asarray(unfilled((pages.LEAST_BYTES,), F4)).any()
        registered.assert_not_called()
    finally:
        pages._can_be_unfilled.cache_clear()


# Blocks.


@given(size=st.integers(1, 40), length=st.integers(1, 40), data=st.data())
def test_pieces_cover_an_axis_once_and_blocks_around_them_are_of_one_shape(
    size: int, length: int, data: st.DataObject
) -> None:
    length = min(size, length)
    blocks = Blocks({"isl": every(size, length), "osl": [range(3)]})
    start = data.draw(st.integers(0, size - 1))
    part = {"isl": range(start, data.draw(st.integers(start, size - 1)) + 1), "osl": range(1, 2)}
    met = [piece["isl"] for piece in blocks.meeting(part)]
    assert [i for piece in met for i in common(piece, part["isl"])] == list(part["isl"])
    for piece in blocks.meeting(part):
        around = blocks.around(piece)
        assert {axis: len(where) for axis, where in around.items()} == blocks.lengths
        assert set(piece["isl"]) <= set(around["isl"]) <= set(range(size))
