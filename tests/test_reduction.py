"""Reductions: parts combine to the whole however they are cut, and agree with a plain search."""

from itertools import pairwise, product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import sweep
from sweep.errors import ResultError
from sweep.files.categories import labels
from sweep.queries.front_of_points import front, thin
from sweep.queries.grid_axes import GridAxes
from sweep.queries.quantile import sorted_quantiles
from sweep.queries.reduction import finish, reduce_dataset
from sweep.queries.reduction_request import parse_reduction
from sweep.queries.where import Where
from sweep.runs.check_results import check_file
from sweep.schema.variables import VARIABLES

AXES = {
    "model": ["llama", "mixtral"],
    "hardware": ["a100", "h20", "b200"],
    "batch_size": np.asarray([1, 4, 16], np.int32),
    "isl": np.asarray([128, 512], np.int32),
    "osl": np.asarray([32, 64], np.int32),
}
DIMS = {
    "output_throughput": tuple(AXES),
    "tpot": tuple(AXES),
    "ttft": ("model", "hardware", "batch_size", "isl"),
    "memory_required": ("model", "batch_size", "isl", "osl"),
    "weight_memory": ("model",),
    "bound": ("model", "hardware", "batch_size"),
    "feasible": ("model", "hardware", "batch_size", "isl", "osl"),
}
ASKED = [
    ("best:batch_size", {}),
    ("best:batch_size", {"where": "ttft<4 and feasible"}),
    ("best:model,osl", {"by": "ttft", "where": "tpot>=2"}),
    ("best:hardware,isl", {"where": "hardware != h20 and bound == memory"}),
    ("best:batch_size,isl", {"by": "memory_required", "where": "feasible==0"}),
    ("argmax:tpot", {"per": ["model"], "where": "feasible"}),
    ("argmin:ttft", {}),
    ("argmax:weight_memory", {"where": "ttft<2"}),
    ("pareto:ttft,output_throughput", {"where": "feasible"}),
    ("pareto:ttft,output_throughput", {"per": ["isl", "model"]}),
    ("pareto:ttft,output_throughput,memory_required", {"per": []}),
    ("quantile:0,0.5,0.9:batch_size", {"where": "feasible"}),
    ("quantile:0.25:isl,osl", {"by": "tpot"}),
]


def random_dataset(seed: int, *, levels: int = 5, share_missing: float = 0.2) -> xr.Dataset:
    """Few distinct values, so that there are ties; some are missing."""
    random = np.random.default_rng(seed)
    variables = {}
    for name, dims in DIMS.items():
        shape = [len(AXES[dim]) for dim in dims]
        if VARIABLES[name].is_flag:
            high = len(VARIABLES[name].flag_values) or 2
            array = random.integers(high, size=shape).astype(np.int8)
        else:
            array = random.integers(1, levels + 1, size=shape).astype(np.float32)
            array[random.random(shape) < share_missing] = np.nan
        variables[name] = (dims, array, {"long_name": name, "units": VARIABLES[name].units})
    coords = {axis: (axis, values, {"long_name": axis}) for axis, values in AXES.items()}
    return xr.Dataset(variables, coords, {"llm_sweep_schema": 1, "llm_sweep_variables": ""})


def cut_anyhow(dataset, random, whole) -> list[xr.Dataset]:
    """Parts along random cuts of every axis but the whole ones, in a random order."""
    pieces = []
    for axis, size in dataset.sizes.items():
        inner = [] if axis in whole else [i for i in range(1, size) if random.random() < 0.5]
        edges = [0, *inner, size]
        pieces.append([slice(*ends) for ends in pairwise(edges)])
    parts = [dataset.isel(dict(zip(dataset.sizes, cut, strict=True))) for cut in product(*pieces)]
    random.shuffle(parts)
    return parts


@pytest.mark.slow
@pytest.mark.parametrize(("text", "options"), ASKED)
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), random=st.randoms(use_true_random=False))
def test_parts_combine_to_the_whole(text, options, seed, random) -> None:
    dataset = random_dataset(seed)
    reduction = parse_reduction(text, GridAxes.of(dataset), **options)
    whole = reduction.within(dataset)
    partials = [
        reduction.within(p) for p in cut_anyhow(dataset, random, reduction.axes_needed_whole)
    ]
    xr.testing.assert_identical(reduction.combine(*partials), whole)
    while len(partials) > 1:
        a, b = partials.pop(random.randrange(len(partials))), partials.pop()
        partials.append(reduction.combine(a, b))
    xr.testing.assert_identical(partials[0], whole)


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_best_agrees_with_a_search_of_every_cell(seed, missing) -> None:
    dataset = random_dataset(seed, share_missing=missing)
    asked = parse_reduction(
        "best:hardware,batch_size", GridAxes.of(dataset), where="ttft<4 and feasible"
    )
    found = asked.finish(asked.within(dataset))
    assert found.output_throughput.dims == ("model", "isl", "osl")
    for cell in product(*(AXES[axis].__iter__() for axis in ("model", "isl", "osl"))):
        here = dict(zip(("model", "isl", "osl"), cell, strict=True))
        best, place = -np.inf, None
        for hardware, batch in product(AXES["hardware"], AXES["batch_size"]):
            point = dataset.sel(here | {"hardware": hardware, "batch_size": batch})
            allowed = bool(point.ttft < 4) and bool(point.feasible == 1)
            if allowed and float(point.output_throughput) > best:
                best, place = float(point.output_throughput), point
        answer = found.sel(here)
        if place is None:
            for name in ("output_throughput", "best_hardware", "best_batch_size", "tpot", "bound"):
                assert np.isnan(answer[name]), name
            assert labels(answer.best_hardware) == ""
            continue
        assert answer.output_throughput == best
        assert labels(answer.best_hardware) == place.hardware
        assert answer.best_batch_size == place.batch_size
        for name in ("tpot", "ttft", "memory_required", "bound", "feasible", "weight_memory"):
            np.testing.assert_equal(float(answer[name]), float(place[name]))


def test_of_equal_values_the_first_place_is_best_however_cut() -> None:
    dataset = random_dataset(0, levels=1, share_missing=0)
    asked = parse_reduction("best:hardware,batch_size", GridAxes.of(dataset))
    parts = [dataset.isel(hardware=[i], batch_size=[j]) for i in (2, 0, 1) for j in (1, 2, 0)]
    result = asked.finish(asked.combine(*map(asked.within, parts)))
    assert set(labels(result.best_hardware).values.ravel()) == {"a100"}
    assert set(result.best_batch_size.values.ravel()) == {1}


def test_what_is_small_is_best_for_times_and_memory() -> None:
    dataset = random_dataset(1)
    for name in ("ttft", "memory_required"):
        asked = parse_reduction("best:batch_size", GridAxes.of(dataset), by=name)
        found = asked.finish(asked.within(dataset))[name]
        xr.testing.assert_equal(found, dataset[name].min("batch_size"))


def test_argmax_finds_one_place_in_the_grid() -> None:
    dataset = random_dataset(2, levels=10**6)
    asked = parse_reduction("argmax:tpot", GridAxes.of(dataset))
    found = asked.finish(asked.within(dataset))
    place = dataset.tpot.where(dataset.tpot == dataset.tpot.max(), drop=True)
    assert found.tpot == dataset.tpot.max()
    assert labels(found.best_hardware) == place.hardware.item()
    assert found.best_isl == place.isl.item()


def dominated(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((other <= one).all() and (other < one).any())


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_front_holds_what_no_other_point_beats(objectives, seed) -> None:
    random = np.random.default_rng(seed)
    costs = random.integers(12, size=(objectives, 300)).astype(np.float32)
    group = random.integers(3, size=300)
    position = random.permutation(300)
    found = front(costs, group, position)
    expected = set()
    for i in range(300):
        rivals = [j for j in range(300) if group[j] == group[i]]
        equal = [j for j in rivals if (costs[:, j] == costs[:, i]).all()]
        first = min(equal, key=lambda j: position[j]) == i
        if first and not any(dominated(costs[:, i], costs[:, j]) for j in rivals):
            expected.add(i)
    assert set(found.tolist()) == expected
    assert len(found) == len(expected)
    assert (np.diff(group[found]) >= 0).all()


@pytest.mark.parametrize("objectives", [2, 3])
def test_thinning_keeps_every_point_of_the_front(objectives) -> None:
    random = np.random.default_rng(5)
    costs = random.lognormal(size=(objectives, 30_000)).astype(np.float32).round(2)
    nought, position = np.zeros(30_000, np.int64), np.arange(30_000)
    left = thin(costs)
    assert left.size < 15_000
    whole = front(costs, nought, position)
    again = left[front(costs[:, left], nought[left], position[left])]
    np.testing.assert_array_equal(whole, again)


def test_pareto_of_large_groups_is_that_of_their_points() -> None:
    random = np.random.default_rng(6)
    isl = np.arange(1, 5001)
    shape = (2, isl.size)
    dataset = xr.Dataset(
        {
            name: (("model", "isl"), random.random(shape).astype(np.float32))
            for name in ("ttft", "output_throughput")
        },
        {"model": ["a", "b"], "isl": isl},
    )
    asked = parse_reduction("pareto:ttft,output_throughput", GridAxes.of(dataset), where="isl>=10")
    found = asked.finish(asked.within(dataset))
    for model in ("a", "b"):
        points = dataset.sel(model=model, isl=slice(10, None))
        costs = np.stack([points.ttft.values, -points.output_throughput.values])
        order = np.argsort(costs[0])
        lowest = np.minimum.accumulate(costs[1][order])
        steps = np.flatnonzero(np.diff(lowest, prepend=np.inf) < 0)
        chosen = found.isel(front=found.model == model)
        np.testing.assert_array_equal(chosen.ttft, points.ttft.values[order[steps]])
        np.testing.assert_array_equal(chosen.isl, points.isl.values[order[steps]])


def test_quantiles_are_those_of_numpy() -> None:
    random = np.random.default_rng(7)
    rows = random.random((50, 9))
    rows[random.random(rows.shape) < 0.4] = np.nan
    rows[0] = np.nan
    shares = (0, 0.3, 0.5, 1)
    expected = [
        np.quantile(row[~np.isnan(row)], shares) if np.isfinite(row).any() else [np.nan] * 4
        for row in rows
    ]
    np.testing.assert_allclose(sorted_quantiles(rows, shares), expected, rtol=1e-14)


@pytest.mark.parametrize("lengths", [1, 40])
def test_quantiles_are_those_of_sorted_rows_to_the_bit(lengths: int) -> None:
    rng = np.random.default_rng(7)
    rows = rng.choice(rng.lognormal(size=60), (lengths, 200)).astype(np.float32)
    for index, row in enumerate(rows):
        row[rng.permutation(200)[: 5 * index]] = np.nan
    shares = (0.0, 0.05, 0.5, 0.95, 1.0)
    found = sorted_quantiles(rows, shares)
    for row, quantiles in zip(rows, found, strict=True):
        known = np.sort(row[~np.isnan(row)])
        at = (known.size - 1) * np.asarray(shares)
        below = np.floor(at).astype(int)
        low, high = known[below].astype(float), known[np.minimum(below + 1, known.size - 1)]
        wanted = (low + (high - low) * (at - below)).astype(np.float32)
        np.testing.assert_array_equal(quantiles, wanted)


def test_quantiles_refuse_parts_of_their_axis() -> None:
    dataset = random_dataset(0)
    asked = parse_reduction("quantile:0.5:isl,osl", GridAxes.of(dataset))
    assert asked.axes_needed_whole == ("isl", "osl")
    with pytest.raises(
        ResultError, match=r"isl is divided.*divide only model, hardware, batch_size"
    ):
        asked.within(dataset.isel(isl=[0]))


@pytest.mark.parametrize(
    ("where", "by_hand"),
    [
        ("ttft<3", lambda d: d.ttft < 3),
        ("ttft != 3", lambda d: (d.ttft != 3) & d.ttft.notnull()),
        ("tpot >= 2 and feasible", lambda d: (d.tpot >= 2) & (d.feasible == 1)),
        ("hardware == 'h20'", lambda d: d.hardware == "h20"),
        ("hardware != h20 and isl<=128", lambda d: (d.hardware != "h20") & (d.isl <= 128)),
        ("bound == compute", lambda d: d.bound == 1),
        ("ttft<2 or ttft>3.5", lambda d: (d.ttft < 2) | (d.ttft > 3.5)),
        # `and` binds more tightly, as in Python and SQL.
        (
            "hardware == H20 or isl<=128 and feasible",
            lambda d: (d.hardware == "h20") | ((d.isl <= 128) & (d.feasible == 1)),
        ),
        (
            "(hardware == h20 or isl<=128) and feasible",
            lambda d: ((d.hardware == "h20") | (d.isl <= 128)) & (d.feasible == 1),
        ),
        # A comma separates constraints as a repeated option does, and binds least.
        (
            "hardware == h20 or isl<=128, feasible",
            lambda d: ((d.hardware == "h20") | (d.isl <= 128)) & (d.feasible == 1),
        ),
        # A missing value satisfies neither a comparison nor its negation.
        ("not ttft<3", lambda d: d.ttft >= 3),
        ("not feasible", lambda d: d.feasible == 0),
        (
            "not (ttft<3 and (tpot<2 or bound == memory))",
            lambda d: (d.ttft >= 3) | ((d.tpot >= 2) & (d.bound != 0)),
        ),
    ],
)
def test_constraints_mean_what_they_say(where, by_hand) -> None:
    dataset = random_dataset(3)
    mask, expected = xr.broadcast(
        Where.parse(where, GridAxes.of(dataset)).mask(dataset), by_hand(dataset)
    )
    assert 0 < int(mask.sum()) < mask.size
    np.testing.assert_array_equal(mask, expected.transpose(*mask.dims))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("best:batchsize", {}, "did you mean 'batch_size'"),
        ("best", {}, "write best:AXIS"),
        ("worst:isl", {}, "write best:AXIS"),
        ("best:isl", {"by": "tpott"}, "did you mean 'tpot'"),
        ("best:isl", {"by": "bound"}, "no|category"),
        ("best:osl", {"by": "ttft"}, "does not vary over osl"),
        ("best:isl", {"per": ["model"]}, "leave out --per"),
        ("argmax:ttft", {"by": "tpot"}, "leave out --by"),
        ("argmax:ttft", {"per": ["osl"]}, "does not vary over osl"),
        ("argmax:bound", {}, "category"),
        ("pareto:ttft", {}, "two variables"),
        ("quantile:1.5:isl", {}, "from 0 to 1"),
        ("quantile:0.5", {}, "write best:AXIS"),
        ("best:isl", {"where": "ttft<"}, "not a comparison"),
        ("best:isl", {"where": "ttft"}, "compare it"),
        ("best:isl", {"where": "ttft<fast"}, "'fast' is not a number"),
        ("best:isl", {"where": "ttft<nan"}, "'nan' is not a number"),
        ("best:isl", {"where": "tfft<1"}, "did you mean 'ttft'"),
        ("best:isl", {"where": "ttft<1 or"}, "not a comparison"),
        ("best:isl", {"where": "ttft<1 tpot<1"}, "after a whole comparison"),
        ("best:isl", {"where": "(ttft<1"}, "not closed"),
        ("best:isl", {"where": "ttft<1)"}, "after a whole comparison"),
        ("best:isl", {"where": "not"}, "not a comparison"),
        ("best:isl", {"where": "(" * 5000 + "ttft<1"}, "deeper"),
        ("best:isl", {"where": "ttft & tpot"}, "after a whole comparison"),
        ("best:isl", {"where": "hardware == h200"}, "did you mean 'h20'"),
        ("best:isl", {"where": "hardware < h20"}, "by == or !="),
        ("best:isl", {"where": "isl == 500"}, "the nearest is 512"),
        ("best:isl", {"where": "bound == disk"}, "memory, compute, communication"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(text, options, words) -> None:
    with pytest.raises(ResultError, match=words) as refused:
        parse_reduction(text, GridAxes.of(random_dataset(0)), **options)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return sweep.run(
        sweep.Grid(
            models=["llama-2-7b", "llama-2-13b"],
            hardware=["a100-sxm-80gb", "h20-96gb"],
            tp=[1, 2],
            batch_size=[1, 8, 64],
            isl=[512, 2048],
            osl=[128],
            variables=["ttft", "tpot", "output_throughput", "weight_memory", "feasible"],
        )
    )


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("best:batch_size,tp", {"where": "ttft<0.5 and feasible"}),
        ("best:batch_size", {"where": "ttft<0"}),
        ("argmin:tpot", {"where": "feasible"}),
        ("pareto:ttft,output_throughput", {"per": ["model", "isl"]}),
        ("pareto:ttft,tpot", {"where": "ttft<0"}),
        ("quantile:0,0.5:batch_size", {}),
    ],
)
def test_a_reduced_file_is_sound_and_gives_back_what_was_written(
    results, tmp_path, text, options
) -> None:
    reduced = reduce_dataset(results, parse_reduction(text, GridAxes.of(results), **options))
    path = tmp_path / "reduced.nc"
    sweep.write_netcdf(reduced, path)
    assert check_file(path) == []
    with sweep.open_results(path) as opened:
        xr.testing.assert_identical(opened.load(), reduced)
        assert opened.attrs["llm_sweep_reduction"].startswith(text)
    with pytest.raises(ResultError, match="reduced already"):
        sweep.reduce(reduced, "best:model")


def test_a_partial_survives_a_file(results, tmp_path) -> None:
    asked = parse_reduction("best:batch_size", GridAxes.of(results), where="ttft<0.5")
    front_of = parse_reduction("pareto:ttft,tpot", GridAxes.of(results))
    for i, reduction in enumerate((asked, front_of)):
        halves = []
        for j in range(2):
            path = tmp_path / f"{i}{j}.nc"
            sweep.write_netcdf(reduction.within(results.isel(batch_size=slice(j, None, 2))), path)
            with sweep.open_results(path) as opened:
                halves.append(opened.load())
        joined = finish(reduction, reduction.combine(*halves))
        direct = finish(reduction, reduction.within(results))
        xr.testing.assert_identical(joined.drop_attrs(deep=False), direct.drop_attrs(deep=False))


def test_regions_do_not_change_the_answer(results, monkeypatch) -> None:
    asked = parse_reduction("best:batch_size,hardware", GridAxes.of(results), where="feasible")
    seen = []
    whole = reduce_dataset(results, asked)
    monkeypatch.setattr("sweep.grid.thresholds.CELLS_AT_ONCE", 5)
    blocked = reduce_dataset(
        results, asked, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] > 10
    xr.testing.assert_identical(blocked.drop_attrs(deep=False), whole.drop_attrs(deep=False))
    for name, value in (("AT_ONCE", 3), ("WAITING_BYTES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(f"sweep.queries.reduction.{name}", value)
            few = reduce_dataset(results, asked)
        xr.testing.assert_identical(few.drop_attrs(deep=False), whole.drop_attrs(deep=False))
    pytest.importorskip("dask")
    lazy = reduce_dataset(results.chunk({"hardware": 1, "batch_size": 2}), asked)
    xr.testing.assert_identical(lazy.drop_attrs(deep=False), whole.drop_attrs(deep=False))


def test_a_grid_that_is_not_computed_yet_has_the_axes_of_its_results(results) -> None:
    known = GridAxes.of(results)
    axes = {axis: known.labels[axis] for axis in reversed(known.labels)}
    planned = GridAxes.of_axes(axes, known.dims)
    assert planned == known
    text, where = "best:batch_size", "ttft<0.5 and feasible"
    here, there = (parse_reduction(text, grid, where=where) for grid in (planned, known))
    xr.testing.assert_identical(here.within(results), there.within(results))


def test_in_python_and_on_part_of_the_grid(results) -> None:
    part = results.sel(hardware=["h20-96gb"])
    best = sweep.reduce(part, "best:batch_size,tp", where="ttft<1 and feasible", by="ttft")
    expected = part.ttft.where(part.feasible == 1).where(part.ttft < 1)
    np.testing.assert_array_equal(best.ttft.squeeze(), expected.min(["batch_size", "tp"]).squeeze())
    whole = sweep.reduce(results, "argmax:output_throughput", per=["model"])
    assert set(sweep.labels(whole.best_hardware).values) <= {"a100-sxm-80gb", "h20-96gb"}


@pytest.mark.slow
def test_values_by_operator_have_their_own_best(tmp_path) -> None:
    results = sweep.run(
        sweep.Grid(
            models=["llama-2-7b", "mixtral-8x7b"],
            hardware=["a100-sxm-80gb", "h20-96gb"],
            batch_size=[1, 64],
            context_len=[1024],
            variables=["decode_operator_latency", "decode_operator_bound", "decode_step_latency"],
        )
    )
    fastest = sweep.reduce(results, "argmin:decode_operator_latency", per=["model", "operator"])
    expected = results.decode_operator_latency.min(
        ["hardware", "precision", "tp", "batch_size", "context_len"]
    )
    xr.testing.assert_equal(fastest.decode_operator_latency, expected)
    absent = fastest.sel(model="llama-2-7b", operator="router")
    assert sweep.labels(absent.best_hardware) == ""
    slowest = sweep.reduce(results, "argmax:decode_step_latency", per="model")
    assert "decode_operator_bound" not in slowest
    sweep.write_netcdf(fastest, tmp_path / "fastest.nc")
    assert check_file(tmp_path / "fastest.nc") == []
