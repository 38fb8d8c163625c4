"""Compiled functions in files: found again, never another's, and never in the way."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sweep.evaluation import function_store, load_ahead, vmapped_kernel
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.function_store import keep_functions_in, surroundings
from sweep.evaluation.kernel_inputs import model_params
from sweep.evaluation.load_ahead import loading_ahead
from sweep.evaluation.numpy_cell import computed
from sweep.evaluation.plan import make_plan
from sweep.evaluation.stored_function import StoredFunction
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.models.read import read_model
from sweep.specs.catalog import current_catalog


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.setattr(function_store, "_folders", [])
    keep_functions_in(tmp_path / "functions")
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", True)
    yield tmp_path / "functions"
    jax.config.update("jax_enable_compilation_cache", before)


def twice(traced: list[int], times: float = 2.0, name: str = "twice") -> StoredFunction:
    """A function that overwrites its first argument, and counts how often it is traced."""

    def function(into: dict[str, Any], value: Any) -> dict[str, Any]:
        traced.append(1)
        return {"found": times * value}

    return StoredFunction(jax.jit(function, donate_argnums=0), name, {"found": 0.0})


def call(function: StoredFunction, value: Any) -> np.ndarray:
    into = {"found": jnp.zeros(np.shape(value), np.asarray(value).dtype)}
    return np.asarray(function(into, value)["found"])


VALUE = np.arange(5, dtype=np.float32)


def test_a_function_is_traced_once_for_all_processes(folder) -> None:
    traced: list[int] = []
    for _ in range(3):
        np.testing.assert_array_equal(call(twice(traced), VALUE), 2 * VALUE)
    assert len(traced) == 1
    assert len(list(folder.iterdir())) == 1


def test_results_are_overwritten_as_jax_does(folder) -> None:
    for _ in range(2):
        function, into = twice([]), {"found": jnp.zeros(5, np.float32)}
        for _ in range(3):
            into = function(into, VALUE)
        np.testing.assert_array_equal(into["found"], 2 * VALUE)


def test_what_determines_a_function_determines_its_file(folder, monkeypatch) -> None:
    traced: list[int] = []
    call(twice(traced), VALUE)
    call(twice(traced, name="other"), VALUE)
    call(twice(traced), VALUE[:3])
    call(twice(traced), VALUE.astype(np.float16))
    with jax.enable_x64(True):
        call(twice(traced), VALUE.astype(np.float64))
    surroundings.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " ")
    call(twice(traced), VALUE)
    surroundings.cache_clear()
    assert len(traced) == len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_file_is_made_again(folder, damage: str) -> None:
    traced: list[int] = []
    call(twice(traced), VALUE)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in (0, len(whole) // 3, len(whole) - 3) if damage == "flip" else (0,):
        changed = bytearray(whole)
        changed[place] ^= 16
        broken = {"flip": bytes(changed), "cut": whole[:-9], "empty": b"", "foreign": b"x" * 5000}
        path.write_bytes(broken[damage])
        before = len(traced)
        np.testing.assert_array_equal(call(twice(traced), VALUE), 2 * VALUE)
        assert len(traced) == before + 1
        np.testing.assert_array_equal(call(twice(traced), VALUE), 2 * VALUE)
        assert len(traced) == before + 1


def traced_and_computed(traced: list[int], function: Any, name: str = "cell") -> np.ndarray:
    """A function of a point in NumPy, which counts how often it is traced."""

    def counted(point: dict[str, Any]) -> dict[str, Any]:
        traced.append(1)
        return {"found": function(point["x"])}

    return computed(counted, {"x": VALUE}, name=name)["found"]


def looped(x: jax.Array) -> jax.Array:
    """A function whose trace has loops, and operations that NumPy and JAX compute."""
    step = jax.lax.fori_loop(0, 3, lambda i, total: total * 1.5 + x[i], x[0])
    return jnp.cumsum(jnp.where(x > 1, jax.scipy.special.erf(x), x**2) + step)


def test_a_trace_is_made_once_for_all_processes_with_the_same_digits(folder) -> None:
    traced: list[int] = []
    first, *others = (traced_and_computed(traced, looped) for _ in range(3))
    assert len(traced) == 1
    for other in others:
        np.testing.assert_array_equal(first, other)
    traced_and_computed(traced, jnp.exp, name="other")
    assert len(traced) == len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps("another"), None])
def test_a_damaged_trace_is_made_again(folder, content: bytes | None) -> None:
    traced: list[int] = []
    wanted = traced_and_computed(traced, looped)
    (path,) = folder.iterdir()
    if content is None:
        path.write_bytes(path.read_bytes()[:-40])
    else:
        function_store.write_stored(path, lambda: content)
    for _ in range(2):
        np.testing.assert_array_equal(traced_and_computed(traced, looped), wanted)
    assert len(traced) == 2


def test_a_trace_that_cannot_be_written_is_made_each_time(folder) -> None:
    def branches(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x)

    traced: list[int] = []
    for _ in range(2):
        np.testing.assert_allclose(traced_and_computed(traced, branches), np.cos(VALUE), rtol=1e-6)
    assert len(traced) == 2
    assert not folder.exists()


def used_by_a_command(names: list[str], traced: list[int], **options: Any) -> list[np.ndarray]:
    """A command that calls some functions, as another process would call them."""
    with loading_ahead("command", {"model": "a", **options}):
        return [call(twice(traced, name=name), VALUE) for name in names]


@pytest.fixture
def loaded_ahead(monkeypatch) -> list[Any]:
    """The executables that are taken from those that were loaded ahead."""
    taken: list[Any] = []
    whole = load_ahead._with_structures

    def with_structures(*given: Any) -> Any:
        taken.append(whole(*given))
        return taken[-1]

    monkeypatch.setattr(load_ahead, "_with_structures", with_structures)
    monkeypatch.setattr(load_ahead, "_ahead", {})
    return taken


def test_what_a_command_used_is_loaded_ahead_the_next_time(folder, loaded_ahead) -> None:
    traced: list[int] = []
    used_by_a_command(["first", "second"], traced, isl=8)
    assert not loaded_ahead
    for found in used_by_a_command(["second", "first"], traced, isl=16):
        np.testing.assert_array_equal(found, 2 * VALUE)
    assert len(loaded_ahead) == len(traced) == 2
    used_by_a_command(["first"], traced, model="b")
    assert len(loaded_ahead) == len(traced) == 2


@pytest.mark.parametrize("content", ["removed", "damaged", "listed wrongly"])
def test_what_cannot_be_loaded_ahead_is_loaded_or_made_as_always(
    folder, loaded_ahead, content: str
) -> None:
    traced: list[int] = []
    used_by_a_command(["first"], traced)
    before = set(folder.iterdir())
    used_by_a_command(["first"], traced)
    assert set(folder.iterdir()) == before
    for path in before:
        listing = path.read_bytes().startswith(b"[")
        if content == "listed wrongly" and listing:
            names = b'["../../etc/passwd", "' + b"0" * 64 + b'"]'
            function_store.write_stored(path, lambda names=names: names)
        elif not listing and content != "listed wrongly":
            path.write_bytes(b"")
            if content == "removed":
                path.unlink()
    loaded_ahead.clear()
    (found,) = used_by_a_command(["first"], traced)
    np.testing.assert_array_equal(found, 2 * VALUE)
    assert not loaded_ahead
    assert len(traced) == (1 if content == "listed wrongly" else 2)


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(function_store, "_folders", [])
    (tmp_path / "file").write_text("no folder")
    keep_functions_in(tmp_path / "file" / "functions")
    traced: list[int] = []
    for _ in range(2):
        np.testing.assert_array_equal(call(twice(traced), VALUE), 2 * VALUE)
    assert len(traced) == 2


def test_the_functions_used_last_are_kept(folder, monkeypatch) -> None:
    monkeypatch.setattr(function_store, "MOST_FILES", 2)
    for number, name in enumerate(("first", "second", "third")):
        call(twice([], name=name), VALUE)
        for path in folder.iterdir():
            os.utime(path, ns=(number, path.stat().st_mtime_ns // 2))
    assert len(list(folder.iterdir())) == 2
    traced: list[int] = []
    call(twice(traced, name="third"), VALUE)
    assert not traced


def test_jax_uses_its_own_cache_again_afterwards(folder) -> None:
    before = jax.config.jax_enable_compilation_cache
    call(twice([]), VALUE)
    assert jax.config.jax_enable_compilation_cache == before


def test_structures_are_written_out_in_full() -> None:
    catalog = current_catalog()
    known: dict[str, Any] = {}
    for name in catalog.paths("models"):
        structure = jax.tree.structure(model_params(read_model(catalog.model(name))))
        assert " object at 0x" not in str(structure)
        assert known.setdefault(str(structure), structure) == structure
    assert len(known) == len(set(known.values()))


def test_a_kernel_is_found_whatever_the_order_of_factors_and_tables() -> None:
    over = (("b", ("hardware",)), ("a", ("model", "hardware")))
    one = vmapped_kernel.kernel((("ttft", ("model",)),), False, over, over)
    other = vmapped_kernel.kernel((("ttft", ("model",)),), False, over[::-1], over[::-1])
    assert one._name == other._name


@pytest.mark.slow
def test_a_stored_kernel_has_the_same_bits(folder, monkeypatch) -> None:
    grid = Grid(
        models=["opt-125m"],
        hardware=["l20", "h20-96gb"],
        batch_size=[1, 8],
        isl=[16, 99],
        osl=[5],
        variables=["ttft", "tpot", "feasible", "infeasible_reason"],
    )
    plan = make_plan(resolve(grid, current_catalog()))

    def computed() -> dict[str, np.ndarray]:
        vmapped_kernel.kernel.cache_clear()
        work = Evaluation(plan)
        return work.compute(work.whole)

    first = computed()
    monkeypatch.setattr(vmapped_kernel, "outer_product", None)
    stored = computed()
    monkeypatch.undo()
    plain = computed()
    for name, array in first.items():
        np.testing.assert_array_equal(array, stored[name])
        np.testing.assert_array_equal(array, plain[name])
    vmapped_kernel.kernel.cache_clear()
