"""Laws of grids: a cell is one request, float32 is near float64, metrics hang together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from factories import (
    FP16,
    NUDGE,
    OF_TEXT,
    TOY,
    WIDE_MACHINES,
    evaluated,
    model,
    nudged,
    point,
    price,
    shipped,
    shipped_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import NUMBERS, RECIPES, machines, models

from sweep.evaluation import evaluator
from sweep.grid import thresholds
from sweep.grid.grid import Grid
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.read import read_blocks
from sweep.runs.run import run
from sweep.schema.terms import BOUNDS
from sweep.schema.variables import VARIABLES

# Grids.


@pytest.fixture(scope="module")
def places(wide64: xr.Dataset) -> dict[str, list[Any]]:
    return {str(dim): list(wide64[dim].values) for dim in wide64.dims if dim != "operator"}


def cell_of(wide: xr.Dataset, name: str, where: dict[str, Any]) -> np.ndarray:
    dims = wide[name].dims
    return wide[name].sel({dim: value for dim, value in where.items() if dim in dims}).values


def every_variable(where: Point) -> dict[str, Any]:
    request = Request(where)
    return {name: jnp.asarray(getattr(request, name)) for name in OF_TEXT}


@settings(max_examples=8)
@given(st.data())
def test_one_cell_is_one_request(wide64: xr.Dataset, places, data: Any) -> None:
    where = {dim: data.draw(st.sampled_from(values)) for dim, values in places.items()}
    machine = {spec.name: spec for spec in MACHINES}[where["hardware"]]
    labels = ("model", "hardware", "precision")
    numbers = {axis: float(value) for axis, value in where.items() if axis not in labels}
    spec, recipe = shipped_model(where["model"]), shipped().precision(where["precision"])
    runs = list(dict.fromkeys(n for b in read_blocks(spec.config, "x") for n in b.operators))
    with jax.enable_x64(True):
        request = evaluated(every_variable, point(spec, machine, recipe, **numbers))
        shortest = point(spec, machine, recipe, **(numbers | {"context_len": 1.0}))
        memory = evaluated(every_variable, shortest)
        for name in OF_TEXT:
            variable = VARIABLES[name]
            direct = (memory if "longest" in variable.dims else request)[name]
            cell = cell_of(wide64, name, where)
            if "operator" in variable.dims:
                kept = [runs.index(o) if o in runs else None for o in wide64["operator"].values]
                absent = -1 if variable.is_flag else np.nan
                direct = np.array([absent if i is None else direct[i] for i in kept])
            np.testing.assert_allclose(cell, direct, rtol=1e-12, err_msg=name)


MACHINES = [
    *(shipped().hardware(name) for name in WIDE_MACHINES),
    *(nudged(name, 1 + sign * NUDGE) for name in WIDE_MACHINES for sign in (-1, 1)),
]
QUANTITIES = [name for name in OF_TEXT if not VARIABLES[name].is_flag]
CATEGORIES = [name for name in OF_TEXT if VARIABLES[name].is_flag]


@pytest.mark.parametrize("name", QUANTITIES)
def test_float32_is_within_a_hundred_thousandth_of_float64(name, wide32, wide64) -> None:
    # Where rounding tips feasibility, the throughput goes with it: told apart below.
    near, exact = wide32[name], wide64[name]
    assert near.dtype == np.float32
    assert exact.dtype == np.float64
    if VARIABLES[name].masked:
        alike = wide32["feasible"] == wide64["feasible"]
        near, exact = near.where(alike), exact.where(alike)
    np.testing.assert_array_equal(np.isnan(near), np.isnan(exact))
    if name == "inflight_queue_time":
        # A part that is left when others are subtracted is as exact as the whole.
        near, exact = (
            one + wide["inflight_prefill_time"] for one, wide in ((near, wide32), (exact, wide64))
        )
    np.testing.assert_allclose(near, exact, rtol=1e-5)
    assert np.isfinite(exact).any()


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_agree_except_at_near_ties(name: str, wide32, wide64) -> None:
    # A near tie: a machine with rates 1e-5 off goes the other way in float64 too.
    for machine in WIDE_MACHINES:
        near = wide32[name].sel(hardware=machine).values
        exact = wide64[name].sel(hardware=machine).values
        shifted = [
            wide64[name].sel(hardware=f"{machine} x {1 + sign * NUDGE}").values for sign in (-1, 1)
        ]
        tips = (shifted[0] != exact) | (shifted[1] != exact)
        assert np.array_equal(near[~tips], exact[~tips])
        assert tips.mean() < 0.01


def test_categories_take_several_values(wide64: xr.Dataset) -> None:
    # No clients are too many where no load is given; test_load and test_open_loop have its values.
    for name in set(CATEGORIES) - {"inflight_overload"}:
        assert len(np.unique(wide64[name])) > 1, name


def test_operators_add_up_to_their_step(wide64: xr.Dataset) -> None:
    for phase in ("prefill", "decode"):
        total = wide64["decode_step_latency" if phase == "decode" else "prefill_latency"]
        parts = wide64[f"{phase}_operator_latency"].sum("operator")
        xr.testing.assert_allclose(parts, total, rtol=1e-12)


def test_the_bound_of_a_step_takes_most_of_its_time(wide64: xr.Dataset) -> None:
    share = [
        wide64["decode_operator_latency"].where(wide64["decode_operator_bound"] == bound)
        for bound in range(len(BOUNDS))
    ]
    sums = xr.concat([part.sum("operator") for part in share], "share")
    xr.testing.assert_equal(sums.argmax("share").astype(np.int8), wide64["bound"])


def test_metrics_hang_together(wide64: xr.Dataset) -> None:
    w = wide64
    tokens = w["batch_size"] * w["osl"]
    free = w["feasible"] == 1
    steps = (w["osl"] - 1).where(w["osl"] > 1)
    definitions = {
        "ttft": w["prefill_latency"],
        "tpot": (w["e2e_latency"] - w["ttft"]) / steps,
        "output_throughput": (tokens / w["e2e_latency"]).where(free),
        "output_throughput_per_gpu": (tokens / w["e2e_latency"] / w["tp"]).where(free),
        "output_throughput_per_user": (1 / w["tpot"]).where(free),
    }
    for name, value in definitions.items():
        xr.testing.assert_allclose(w[name], value.transpose(*w[name].dims), rtol=1e-9)
    # 700 W for as long as the run takes, on each GPU.
    joules = 700 * w["tp"] * w["e2e_latency"] / tokens
    energy = w["energy_per_output_token"].sel(hardware="h100-sxm-80gb")
    xr.testing.assert_allclose(
        energy, joules.sel(hardware="h100-sxm-80gb").transpose(*energy.dims), rtol=1e-12
    )


@pytest.mark.campaign
@pytest.mark.filterwarnings("error")  # JAX warns of a tile that does not fit its buffers
def test_tiles_of_a_sweep_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"context_len": list(range(1, 12)), "batch_size": [1, 2, 3]}
    names = ["decode_step_latency", "decode_operator_bound"]
    twins = [model("llama"), model("llama", hidden_size=128).model_copy(update={"name": "b"})]
    grid = Grid(models=twins, hardware=[TOY], precision=[FP16], variables=names, **axes)
    whole = run(grid)
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(thresholds, "TILE_BYTES", 150)
    monkeypatch.setattr(evaluator, "_intermediate_bytes", lambda *given: float("inf"))
    cut = run(grid, progress=lambda done, total: steps.append((done, total)))
    assert len(steps) == steps[-1][1] == 12  # 2 models, 3 batches, 11 contexts in 6 and 6
    xr.testing.assert_allclose(cut, whole, rtol=1e-6)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_models_of_several_families_keep_their_own_operators(phase: str, wide64) -> None:
    seconds, bounds = wide64[f"{phase}_operator_latency"], wide64[f"{phase}_operator_bound"]
    for name in wide64["model"].values:
        spec = shipped_model(str(name))
        layers = read_blocks(spec.config, spec.name)
        runs = {operator for block in layers for operator in block.operators}
        here = {"model": name}
        for known in (np.isfinite(seconds.sel(here)), bounds.sel(here) >= 0):
            apart = [dim for dim in known.dims if dim != "operator"]
            assert (known.all(apart) == known.any(apart)).all()
            assert set(known["operator"].values[known.any(apart).values]) == runs


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma2", pytest.param("mixtral", marks=pytest.mark.campaign)])
@settings(max_examples=8)
@given(st.data())
def test_a_grid_of_one_cell_is_one_request(family: str, data: Any) -> None:
    spec, machine = data.draw(models(family)), data.draw(machines())
    recipe, numbers = data.draw(RECIPES), data.draw(NUMBERS)
    names = ("e2e_latency", "output_throughput")
    axes = {axis: [value] for axis, value in numbers.items() if axis != "context_len"}
    grid = Grid(
        models=[spec], hardware=[machine], precision=[recipe], variables=list(names), **axes
    )
    cell = run(grid, dtype="float64")
    direct = price(names, spec, machine, recipe, **numbers)
    for name in names:
        np.testing.assert_allclose(cell[name].item(), direct[name], rtol=1e-12)
