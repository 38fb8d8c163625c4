"""The table of variables: the dims, axes and descriptions that results are held to."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from factories import OF_TEXT
from test_grid import grid, resolved

from sweep.errors import GridError, SchemaError
from sweep.kernel.request import Request
from sweep.runs.run import run
from sweep.schema.axes import (
    AXES,
    AXIS_LONG_NAMES,
    CONFIGURATION,
    DENOISING,
    INTERVALS,
    LABELLED,
    LATENCY_LIMITS,
    LENGTHS,
    LOADS,
    LONGEST,
    OPTIONAL,
    PREFIX,
    SERVER,
    SPECULATION,
    SPREADS,
)
from sweep.schema.variables import COMPUTED, VARIABLES, dims_of


def test_dims_stand_in_the_order_of_the_axes() -> None:
    order = {dim: place for place, dim in enumerate((*AXES, "operator"))}
    for name, variable in VARIABLES.items():
        axes = [dim for dim in variable.dims if dim != LONGEST]
        assert axes == sorted(axes, key=order.__getitem__), name
        assert LONGEST not in variable.dims[:-1], name


def test_every_axis_has_a_long_name() -> None:
    assert set(AXIS_LONG_NAMES) == {*AXES, "operator"}
    assert set(LABELLED) <= {*AXES, "operator"}
    server = {*SERVER, *LOADS, *LATENCY_LIMITS, *PREFIX, *SPREADS, *INTERVALS, *SPECULATION}
    others = {"batch_size", *DENOISING, *LENGTHS}
    assert set(CONFIGURATION) | server | others == set(AXES)


@pytest.mark.parametrize(
    ("name", "axes", "dims"),
    [
        ("ttft", {"isl"}, (*CONFIGURATION, "batch_size", "isl")),
        ("tpot", {"isl", "osl"}, (*CONFIGURATION, "batch_size", "isl", "osl")),
        ("weight_memory", set(), ("model", "precision", "tp", "pp", "ep", "dp_attention")),
        ("feasible", {"context_len"}, (*CONFIGURATION, "batch_size", "context_len")),
        ("feasible", {"isl"}, (*CONFIGURATION, "batch_size", "isl")),
        ("feasible", {"isl", "osl"}, (*CONFIGURATION, "batch_size", "isl", "osl")),
    ],
)
def test_dims_of_a_variable_on_a_grid(name: str, axes: set[str], dims: tuple[str, ...]) -> None:
    assert dims_of(name, {*CONFIGURATION, "batch_size", *axes}) == dims


@pytest.mark.parametrize(
    ("name", "lengths", "complaint"),
    [
        ("ttft", {"context_len"}, "'ttft' needs the axis isl, which the grid lacks; add it or"),
        ("tpot", {"context_len"}, "needs the axis isl and osl, which the grid lacks; add them"),
        ("tpot", {"isl"}, "needs the axis osl"),
        ("decode_step_latency", {"isl", "osl"}, "needs the axis context_len"),
        ("feasible", {"context_len", "isl"}, "the grid has context_len and isl; keep one"),
        ("kv_cache_memory", set(), "needs the axis context_len, isl and osl, or image_size"),
        # An output without an input says nothing of how long a sequence is.
        ("kv_cache_memory", {"osl"}, "needs the axis"),
    ],
)
def test_a_variable_without_its_axes_is_refused(name, lengths: set[str], complaint: str) -> None:
    with pytest.raises(GridError) as refusal:
        dims_of(name, {*CONFIGURATION, "batch_size", *lengths})
    assert complaint in str(refusal.value)


def test_a_grid_whose_variable_lacks_an_axis_is_refused_before_it_runs() -> None:
    with pytest.raises(GridError, match="'ttft' needs the axis isl"):
        resolved(variables=["ttft"])


@pytest.mark.parametrize("name", COMPUTED)
def test_every_variable_is_a_quantity_of_a_request(name: str) -> None:
    assert hasattr(Request, name)


def test_a_request_has_no_public_quantity_beyond_the_table() -> None:
    public = {name for name in vars(Request) if not name.startswith("_")}
    assert public == set(COMPUTED)


@pytest.mark.parametrize("name", OF_TEXT)
def test_every_variable_fills_the_dims_it_declares(name: str, wide64: xr.Dataset) -> None:
    variable = VARIABLES[name]
    dims = tuple(
        d
        for dim in variable.dims
        if dim not in OPTIONAL or dim in wide64.dims
        for d in (("isl", "osl") if dim == LONGEST else (dim,))
    )
    found = wide64[name]
    assert found.dims == dims
    assert found.shape == tuple(wide64.sizes[dim] for dim in dims)
    assert found.dtype == np.dtype(variable.dtype or "float64")
    for dim in set(dims) - {"operator"}:
        # A declared axis along which no quantity changes is one too many.
        changes = np.diff(found.fillna(0).values, axis=dims.index(dim))
        # Without drafts a pass yields one token of any model; without clients a server is full.
        same = name in ("tokens_per_pass", "inflight_utilisation")
        assert variable.is_flag or changes.any() or same, dim


@pytest.mark.parametrize("name", OF_TEXT)
def test_every_variable_is_described(name: str, wide64: xr.Dataset) -> None:
    variable, attributes = VARIABLES[name], wide64[name].attrs
    assert attributes["long_name"] == variable.long_name
    assert attributes["units"] == variable.units
    if variable.is_flag:
        numbers = attributes.get("flag_values", attributes.get("flag_masks"))
        assert np.size(numbers) == len(attributes["flag_meanings"].split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "missing"),
    [("decode_step_bytes", "precision"), ("bound", "hardware"), ("decode_step_flops", "tp")],
)
def test_an_axis_missing_from_the_dims_is_named(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dims = tuple(dim for dim in VARIABLES[name].dims if dim != missing)
    monkeypatch.setitem(VARIABLES, name, replace(VARIABLES[name], dims=dims))
    with pytest.raises(SchemaError) as refusal:
        run(grid(models=["gpt2"], tp=[1, 2], variables=["decode_step_latency", name]))
    assert str(refusal.value) == (
        f"{name} varies over {missing}, which its dims in sweep/schema/variables.py do not list: "
        f"add {missing} to them, or compute {name} without it"
    )


def test_a_dim_that_is_no_axis_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(VARIABLES["bound"], dims=(*VARIABLES["bound"].dims, "batch_sizes"))
    monkeypatch.setitem(VARIABLES, "bound", wrong)
    with pytest.raises(SchemaError, match=r"bound lists 'batch_sizes' in its dims in .* no axis"):
        resolved(variables=["bound"])


@pytest.mark.parametrize(
    ("name", "per_cell", "complaint"),
    [
        ("bound", 0, "has 0 dimensions in one cell, but its dims in .* list operator"),
        (
            "decode_operator_bound",
            1,
            "has 1 dimensions in one cell, but its dims in .* do not list",
        ),
    ],
)
def test_operators_missing_from_the_dims_are_named(
    name: str, per_cell: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dims = tuple(dim for dim in VARIABLES[name].dims if dim != "operator")
    wrong = dims if per_cell else (*dims, "operator")
    monkeypatch.setitem(VARIABLES, name, replace(VARIABLES[name], dims=wrong))
    with pytest.raises(SchemaError, match=complaint):
        run(grid(models=["gpt2"], variables=[name]))
