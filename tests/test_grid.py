"""What a grid may ask for, what it refuses, and the table of variables it is held to."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import FP16, TOY, hardware, model, precision, shipped
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import GridError, SpecError
from sweep.evaluation.plan import make_plan
from sweep.grid.axis_forms import AXIS_FORMS, LARGEST_VALUE, expand_axis
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.runs.run import load_grid, run
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import parse
from sweep.specs.precision import PrecisionSpec

# Axes.


@pytest.mark.parametrize(
    ("given_axis", "expected"),
    [
        ([1, 7, 1000], [1, 7, 1000]),
        ((3, 4), [3, 4]),
        (np.array([2, 5]), [2, 5]),
        (range(1, 4), [1, 2, 3]),
        ({"start": 3, "stop": 6}, [3, 4, 5]),  # half-open
        ({"start": 128, "stop": 641, "step": 256}, [128, 384, 640]),
        ({"start": 128, "stop": 640, "step": 256}, [128, 384]),
        ({"start": 10, "stop": 20, "num": 3}, [10, 15, 20]),  # both ends
        ({"start": 10, "stop": 20, "num": 3, "scale": "linear"}, [10, 15, 20]),
        ({"start": 1, "stop": 1000, "num": 4, "scale": "log"}, [1, 10, 100, 1000]),
        ({"start": 1, "stop": 4, "num": 9, "scale": "log"}, [1, 2, 3, 4]),  # repeats dropped
        ({"start": 5, "stop": 5, "num": 1}, [5]),
        ({"powers_of": 2, "start": 1, "stop": 16}, [1, 2, 4, 8, 16]),  # both ends
        ({"powers_of": 2, "start": 3, "stop": 15}, [4, 8]),
        ({"powers_of": 10, "start": 10, "stop": 10}, [10]),
        ([LARGEST_VALUE], [LARGEST_VALUE]),
    ],
)
def test_axis_forms(given_axis: Any, expected: list[int]) -> None:
    values = expand_axis(given_axis)
    assert values == expected
    assert all(type(value) is int for value in values)


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(2, 400))
def test_a_spaced_axis_keeps_both_ends_and_increases(start: int, more: int, num: int) -> None:
    stop = min(start + more, 10**9)
    for scale in ("linear", "log"):
        values = expand_axis({"start": start, "stop": stop, "num": num, "scale": scale})
        assert (values[0], values[-1]) == (start, stop)
        assert values == sorted(set(values))
        assert len(values) <= num


@given(st.integers(2, 12), st.integers(1, 10**6), st.integers(1, 10**9))
def test_a_power_axis_has_every_power_between_its_ends(base: int, start: int, stop: int) -> None:
    expected = [base**n for n in range(31) if start <= base**n <= stop]
    axis = {"powers_of": base, "start": start, "stop": stop}
    if expected:
        assert expand_axis(axis) == expected
    else:
        with pytest.raises(ValueError, match="empty"):
            expand_axis(axis)


@pytest.mark.parametrize(
    ("given_axis", "complaint"),
    [
        ([], "must not be empty"),
        ({"start": 8, "stop": 8}, "must not be empty"),
        ({"start": 9, "stop": 3}, "must not be empty"),
        ({"powers_of": 2, "start": 5, "stop": 7}, "must not be empty"),
        ([0, 1], "from 1 to 1000000000, and 0 is not"),
        ([-4], "from 1 to 1000000000, and -4 is not"),
        ([10**9 + 1], "and 1000000001 is not"),
        ([math.nan], "must be an integer, and nan is not"),
        ([math.inf], "must be an integer, and inf is not"),
        ([1.0], "must be an integer, and 1.0 is not"),
        ([True], "must be an integer, and True is not"),
        (["8"], "must be an integer, and '8' is not"),
        ([None], "must be an integer"),
        ([[1]], "must be an integer"),
        (np.array([1.5]), "must be an integer"),
        ([1, 2, 2], "must increase"),
        ([4, 2], "must increase"),
        ("1024", "must be a list of integers"),
        (8, "must be a list of integers"),
        (None, "must be a list of integers"),
        ({1, 2}, "must be a list of integers"),
        ({"start": 1, "end": 5}, "its keys are end, start"),
        ({"start": 1, "stop": 5, "steps": 2}, "its keys are start, steps, stop"),
        ({"start": 1, "stop": 5, "step": 2, "num": 2}, "its keys are"),
        ({"powers_of": 2, "stop": 8}, "its keys are powers_of, stop"),
        ({}, "its keys are"),
        ({1: 2}, "its keys are 1"),
        ({"start": 0, "stop": 5}, "start must be from 1"),
        ({"start": 1, "stop": 5, "step": 0}, "step must be from 1"),
        ({"start": 1, "stop": 5, "step": -1}, "step must be from 1"),
        ({"start": 1, "stop": 5, "step": True}, "step must be an integer"),
        ({"start": 1, "stop": "9"}, "stop must be an integer"),
        ({"start": 1, "stop": math.nan}, "stop must be an integer"),
        ({"start": 1, "stop": 5, "num": 0}, "num must be from 1"),
        ({"start": 1, "stop": 5, "num": 2, "scale": "cubic"}, "scale must be linear or log"),
        ({"powers_of": 1, "start": 1, "stop": 5}, "powers_of must be at least 2"),
        ({"powers_of": 2.0, "start": 1, "stop": 5}, "powers_of must be an integer"),
        ({"start": 1, "stop": 10**9}, "at most 1000000 values, and would have 999999999"),
        ({"start": 1, "stop": 9, "num": 10**8}, "at most 1000000 values"),
    ],
)
def test_axes_that_are_refused(given_axis: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        expand_axis(given_axis)


def test_a_complaint_about_form_says_what_is_allowed() -> None:
    with pytest.raises(ValueError) as refusal:
        expand_axis("1:9")
    assert AXIS_FORMS in str(refusal.value)


# Grids.


def described(**changes: Any) -> dict[str, Any]:
    keys = {
        "models": ["llama-2-7b"],
        "hardware": ["h100-sxm-80gb"],
        "batch_size": [1, 2],
        "context_len": [1024],
        "variables": ["decode_step_latency"],
    }
    return {k: v for k, v in (keys | changes).items() if v is not None}


def grid(**changes: Any) -> Grid:
    return parse(Grid, described(**changes), "sweep.yaml")


def resolved(**changes: Any) -> Resolved:
    return resolve(grid(**changes), shipped())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"models": None}, "models: missing"),
        ({"models": []}, "models: "),
        ({"hardware": []}, "hardware: "),
        ({"variables": []}, "variables: "),
        ({"precision": []}, "precision: "),
        ({"models": "llama-2-7b"}, "models: "),
        ({"batch_size": [0]}, "batch_size: every value must be from 1"),
        ({"batch_size": [2, 1]}, "batch_size: must increase"),
        ({"batch_size": "8"}, "batch_size: must be a list of integers"),
        ({"isl": [True]}, "isl: every value must be an integer"),
        ({"batchsize": [1]}, "batchsize: unknown key; did you mean 'batch_size'"),
        ({"epochs_of_doom": [1]}, "epochs_of_doom: unknown key; allowed: models"),
        ({"precision": [{"base": "fp8"}]}, "precision.0.base: unknown key; allowed: weight_dtype"),
        ({"precision": [{"name": "q"}]}, "precision.0.weight_dtype: missing"),
        (
            {"variables": ["tpots"]},
            "variables: unknown variable 'tpots'; did you mean 'tpot'",
        ),
        ({"variables": ["qqqq"]}, "unknown variable 'qqqq'; known: prefill_latency"),
        ({"variables": ["tpot", "tpot"]}, "the same variable twice"),
    ],
)
def test_grids_that_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as refusal:
        grid(**changes)
    assert complaint in str(refusal.value)


def test_a_grid_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(SpecError, match="must be a mapping"):
        parse(Grid, [1], "sweep.yaml")


def test_a_grid_file_is_read_with_its_forms(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "models: [gpt2]\nhardware: [t4]\nbatch_size: {powers_of: 2, start: 1, stop: 4}\n"
        "context_len: {start: 10, stop: 31, step: 10}\nvariables: [decode_step_latency]\n"
    )
    loaded = load_grid(path)
    assert (loaded.batch_size, loaded.context_len) == ([1, 2, 4], [10, 20, 30])
    assert (loaded.tp, loaded.precision) == ([1], ["fp16"])


def test_a_broken_grid_file_names_itself_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("models: [gpt2]\nhardware: [t4]\nbatch_size: [1.5]\nvariables: [ttft]\n")
    with pytest.raises(SpecError, match=r"sweep\.yaml: batch_size: .*1\.5"):
        load_grid(path)


# Names.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"models": ["llama-2-7c"]}, "unknown model 'llama-2-7c'; did you mean 'llama-2-7b'"),
        ({"hardware": ["h100-smx-80gb"]}, "unknown hardware 'h100-smx-80gb'; did you mean 'h1"),
        ({"precision": ["fp61"]}, "unknown precision 'fp61'; did you mean 'fp16'"),
        ({"models": ["qqqq"]}, "unknown model 'qqqq'; see 'llm-sweep list models'"),
        (
            {"models": ["gpt2", "gpt2"]},
            "models: 'gpt2' is listed twice; give each a name of its own",
        ),
        ({"hardware": ["t4", "t4"]}, "hardware: 't4' is listed twice; give each a name of its own"),
        (
            {"precision": ["fp16", "fp16"]},
            "precision: 'fp16' is listed twice; give each a name of its own",
        ),
        # A machine that lacks the type is named, and so is the precision that wants it.
        (
            {"hardware": ["v100-sxm2-32gb"], "precision": ["fp8"]},
            "precision 'fp8' computes in fp8, for which 'v100-sxm2-32gb' lists no",
        ),
        ({"hardware": ["v100-sxm2-32gb"], "precision": ["bf16"]}, "computes in bf16"),
    ],
)
def test_names_that_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as refusal:
        resolved(**changes)
    assert complaint in str(refusal.value)


def test_a_machine_with_one_half_type_serves_recipes_that_leave_it_open() -> None:
    found = resolved(hardware=["v100-sxm2-32gb"], precision=["w4a16", "w8a16"])
    assert found.labels["precision"] == ["w4a16", "w8a16"]


def test_labels_keep_the_order_given() -> None:
    found = resolved(models=["gpt2", "llama-2-7b"], hardware=["t4", "a30"])
    assert found.labels["model"] == ["gpt2", "llama-2-7b"]
    assert found.labels["hardware"] == ["t4", "a30"]
    assert found.sizes == {
        "model": 2,
        "hardware": 2,
        "precision": 1,
        "tp": 1,
        "batch_size": 2,
        "context_len": 1,
    }
    assert found.points == 8


def test_ancillary_variables_come_along() -> None:
    found = resolved(variables=["feasible"])
    assert found.variables == ("feasible", "infeasible_reason")


# What-if hardware.

FAST = {"base": "h20-96gb", "name": "h20-fast", "memory_bandwidth_bytes_per_s": 4.8e12}


def test_a_what_if_replaces_the_fields_it_names_and_no_others() -> None:
    base, fast = shipped().hardware("h20-96gb"), shipped().hardware(FAST)
    changed = {f for f in HardwareSpec.model_fields if getattr(base, f) != getattr(fast, f)}
    assert changed == {"name", "memory_bandwidth_bytes_per_s", "sources"}
    assert fast.memory_bandwidth_bytes_per_s == 4.8e12
    # The old source does not vouch for the new figure.
    assert "memory_bandwidth_bytes_per_s" in base.sources
    assert fast.source_of("memory_bandwidth_bytes_per_s") == "no source read"
    assert fast.source_of("memory_bytes") == base.source_of("memory_bytes")


def test_a_what_if_peak_leaves_the_other_peaks() -> None:
    base = shipped().hardware("h20-96gb")
    fast = shipped().hardware({**FAST, "peak_flops_per_s": {"fp16": 1e15}})
    assert fast.peak_flops_per_s == {**base.peak_flops_per_s, "fp16": 1e15}
    assert fast.source_of("peak_flops_per_s.fp16") == "no source read"
    assert fast.source_of("peak_flops_per_s.fp8") == base.source_of("peak_flops_per_s.fp8")


@pytest.mark.slow
def test_a_what_if_is_faster_in_a_sweep() -> None:
    found = run(grid(hardware=["h20-96gb", FAST], batch_size=[1], precision=["fp16"]))
    slow, fast = found["decode_step_latency"].squeeze().values
    assert list(found.hardware.values) == ["h20-96gb", "h20-fast"]
    # Bandwidth rises from 4.0e12 to 4.8e12, and all of a decode step is memory bound.
    assert shipped().hardware("h20-96gb").memory_bandwidth_bytes_per_s == 4e12
    assert slow / fast == pytest.approx(1.2, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"base": None}, "a what-if needs base and name"),
        ({"name": None}, "a what-if needs base and name"),
        ({"name": 3}, "a what-if needs base and name"),
        ({"base": "h20"}, "unknown hardware 'h20'"),
        ({"name": "t4"}, "'t4' is already in the catalog; choose another"),
        ({"memory_bandwith_bytes_per_s": 1e12}, "did you mean 'memory_bandwidth_bytes_per_s'"),
        ({"memory_bytes": -1.0}, "h20-fast: memory_bytes: "),
        ({"memory_bytes": 0}, "h20-fast: memory_bytes: "),
        ({"memory_bytes": "9.6e10"}, "YAML reads 9.6e10 as text"),
        ({"peak_flops_per_s": {"fp16": -1.0}}, "peak_flops_per_s.fp16"),
        ({"peak_flops_per_s": {"fp12": 1.0}}, "peak_flops_per_s.fp12"),
    ],
)
def test_what_ifs_that_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as refusal:
        shipped().hardware({k: v for k, v in (FAST | change).items() if v is not None})
    assert complaint in str(refusal.value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1e12", None, [1.0]])
def test_a_figure_that_is_no_positive_number_is_refused_by_its_key(value: Any) -> None:
    figures = TOY.model_dump() | {"memory_bandwidth_bytes_per_s": value}
    with pytest.raises(SpecError, match=r"some\.yaml: memory_bandwidth_bytes_per_s"):
        parse(HardwareSpec, figures, "some.yaml")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weight_group_size": 128}, "must be given together"),
        ({"weight_scale_bytes": 2.0}, "must be given together"),
        ({"weight_group_size": 0, "weight_scale_bytes": 2.0}, "weight_group_size"),
        ({"weight_group_size": True, "weight_scale_bytes": 2.0}, "weight_group_size"),
        ({"activation_dtype": "int4", "weight_dtype": "int4"}, "no matrix unit computes in int4"),
        ({"kv_dtype": "int3"}, "kv_dtype"),
    ],
)
def test_precisions_that_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse(PrecisionSpec, FP16.model_dump() | change, "some.yaml")
    assert complaint in str(refusal.value)


# Folders.


def test_the_users_folder_is_searched_first(tmp_path: Path) -> None:
    folder = tmp_path / "hardware"
    folder.mkdir()
    (folder / "t4.yaml").write_text(
        "peak_flops_per_s: {fp16: 1.0e+12}\nmemory_bytes: 1.0e+9\n"
        "memory_bandwidth_bytes_per_s: 1.0e+9\n"
    )
    assert Catalog([tmp_path]).hardware("t4").memory_bytes == 1e9
    assert shipped().hardware("t4").memory_bytes == 1.6e10
    assert Catalog([tmp_path]).hardware("a30") == shipped().hardware("a30")


def test_folders_of_the_environment_are_searched(tmp_path, monkeypatch) -> None:
    (tmp_path / "precisions").mkdir()
    source = shipped().path("precisions", "fp16").read_text().replace("name: fp16", "name: mine")
    (tmp_path / "precisions" / "mine.yaml").write_text(source)
    monkeypatch.setenv("LLM_SWEEP_CONFIGS", str(tmp_path))
    assert Catalog().precision("mine").kv_dtype == "fp16"


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such config folder"):
        Catalog([tmp_path / "nowhere"])


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("memory_bytes: 1.0e+9\nmemory_bytes: 2.0e+9\n")
    with pytest.raises(SpecError, match=r"twice\.yaml.*'memory_bytes' given twice"):
        shipped().hardware(str(path))


@pytest.mark.parametrize("kind", ["hardware", "precisions", "models"])
def test_every_shipped_file_reads_under_its_own_name(kind) -> None:
    read = {"hardware": shipped().hardware, "precisions": shipped().precision}
    for name in shipped().paths(kind):
        assert read.get(kind, shipped().model)(name).name == name


@pytest.mark.slow
def test_a_plan_foretells_the_sizes_of_the_result() -> None:
    changes = {"models": ["gpt2"], "variables": ["decode_operator_latency", "bound"]}
    plan, found = make_plan(resolved(**changes)), run(grid(**changes))
    assert plan.points == 2
    for planned in plan.variables:
        assert planned.shape == dict(found[planned.name].sizes)
        assert planned.bytes == found[planned.name].nbytes
    assert plan.bytes == sum(found[planned.name].nbytes for planned in plan.variables)
    assert make_plan(resolved(**changes), "float64").bytes == 2 * plan.variables[0].bytes + 2


@pytest.mark.slow
def test_results_larger_than_memory_are_refused() -> None:
    axes = {"batch_size": {"start": 1, "stop": 10**6}, "context_len": {"start": 1, "stop": 10**6}}
    with pytest.raises(GridError, match=r"the results need 4000\.0 GB"):
        run(grid(**axes))


def test_specifications_may_stand_in_for_names() -> None:
    found = resolve(
        Grid(
            models=[model("llama")],
            hardware=[hardware(name="mine")],
            precision=[precision(name="my-recipe")],
            batch_size=[1],
            isl=[1],
            variables=["ttft"],
        ),
        shipped(),
    )
    assert found.labels == {
        "model": ["tiny-llama"],
        "hardware": ["mine"],
        "precision": ["my-recipe"],
    }
