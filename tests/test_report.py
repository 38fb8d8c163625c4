"""The page of a result says what the result says, and runs nothing else."""

import base64
import gzip
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import xarray as xr
from report_pages import IMAGE, SCRIPT

import sweep
from sweep.cli import main as cli
from sweep.decisions.explain import explain
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import load_calibration
from sweep.errors import ResultError
from sweep.grid.grid import Grid
from sweep.html_report.binding_map import with_bounds
from sweep.html_report.calibration_quality import SCENARIOS, calibration_of
from sweep.html_report.operator_tables import operator_tables
from sweep.html_report.packed_arrays import rounded
from sweep.html_report.report import html
from sweep.html_report.thinning import MOST_BYTES, fitting, grid_of
from sweep.html_report.user_vs_gpu import throughputs
from sweep.queries.select import subset
from sweep.specs.catalog import current_catalog


class Page(HTMLParser):
    """Elements of a page, and the text of its scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or "own"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts["data"])
        return found

    def array(self, note: dict[str, Any]) -> np.ndarray:
        figures = gzip.decompress(base64.b64decode(self.scripts["figures"]))
        count = int(np.prod(note["shape"]))
        values = np.frombuffer(figures, np.dtype(note["type"]), count, note["at"])
        return values.reshape(note["shape"])


def test_the_page_holds_what_the_result_holds(article, article_page) -> None:
    page = Page(article_page)
    assert set(page.data["variables"]) == set(article.data_vars)
    for name, shown in page.data["variables"].items():
        assert shown["values"]["dims"] == list(article[name].dims)
        assert shown["units"] == article[name].attrs["units"]
        np.testing.assert_allclose(page.array(shown["values"]), article[name].values, rtol=5e-6)


def test_the_page_loads_nothing(article_page) -> None:
    page = Page(article_page)
    assert all(
        (attrs.get(key) or "data:").startswith("data:")
        for _, attrs in page.tags
        for key in ("src", "href")
    )
    assert [attrs["rel"] for tag, attrs in page.tags if tag == "link"] == ["icon"]
    assert "url(" not in article_page.partition("</style>")[0]
    assert len(article_page.encode()) < 5e6


def test_only_its_own_scripts_may_run(article_page) -> None:
    page = Page(article_page)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    plotly = gzip.decompress(base64.b64decode(page.scripts["plotly"]))
    scripts = (page.scripts["own"].encode(), plotly)
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in scripts]
    assert policy is not None
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_names_are_text(hostile_page, article_page) -> None:
    hostile, plain = Page(hostile_page), Page(article_page)
    assert hostile.data["axes"]["model"]["values"][1] == SCRIPT
    assert hostile.data["axes"]["hardware"]["values"] == [IMAGE, SCRIPT]
    assert SCRIPT not in hostile_page
    tags = [tag for tag, _ in hostile.tags]
    assert tags.count("script") == [tag for tag, _ in plain.tags].count("script")
    assert "img" not in tags


def test_what_is_rounded_is_within_half_a_digit() -> None:
    values = np.array([1.0, 123456.7, 9.999999e-9, 3.4e38, np.nan, np.inf, -2.718281], np.float32)
    found = rounded(values)
    np.testing.assert_allclose(found, values, rtol=5e-6)
    assert rounded(np.float32([1.0]))[0] == 1.0


def test_what_fits_is_whole(article) -> None:
    kept, notes = fitting(article)
    assert notes == []
    xr.testing.assert_identical(kept, article.compute())


@pytest.mark.parametrize("most", [60_000, 20_000, 3_000, 200])
def test_what_is_too_large_is_thinned_and_says_so(article, most) -> None:
    kept, notes = fitting(article, most)
    stored = sum(min(array.dtype.itemsize, 4) * array.size for array in kept.data_vars.values())
    assert stored <= most
    assert "decode_step_latency" in kept
    for axis in ("batch_size", "context_len"):
        values, whole = kept[axis].values, article[axis].values
        if values.size > 1:
            assert (values[0], values[-1]) == (whole[0], whole[-1])
        if values.size < whole.size:
            assert any(f"{axis}: {values.size} of {whole.size} values" in n for n in notes)
    gone = set(article.data_vars) - set(kept.data_vars)
    listed = " ".join(notes)
    assert all(str(name) in listed for name in gone)
    assert notes[-1] == "The file has all of them."
    xr.testing.assert_equal(kept, article[list(kept)].sel(kept.coords))


@pytest.mark.slow
def test_a_page_of_part_of_a_result_shows_what_was_left_out() -> None:
    grid = Grid(
        models=["llama-2-7b"],
        hardware=["h20-96gb", "a100-sxm-80gb"],
        tp=[1, 2, 4, 8],
        batch_size={"start": 1, "stop": 1000},
        context_len={"start": 1, "stop": 1000, "step": 2},
        variables=["decode_step_latency"],
    )
    page = html(sweep.run(grid))
    data = Page(page).data
    assert "batch_size: 128 of 999 values, evenly spaced, both ends included." in data["left_out"]
    assert "context_len: 128 of 500 values, evenly spaced, both ends included." in data["left_out"]
    assert "<li>batch_size: 128 of 999 values" in page
    size = np.prod(data["variables"]["decode_step_latency"]["values"]["shape"]) * 4
    assert size <= MOST_BYTES
    assert len(page.encode()) < 5e6


def broken_down(dataset: xr.Dataset, efficiency: str = "ideal"):
    grid = grid_of(dataset)
    specs = SpecsByName.of(grid, current_catalog())
    return operator_tables(dataset.compute(), grid, specs, load_calibration(efficiency))


@pytest.mark.slow
def test_operators_make_up_the_steps_of_the_result(article) -> None:
    found = broken_down(article)
    assert found.unknown == ()
    places = {axis: list(found.axes[axis]) for axis in ("batch_size", "context_len")}
    for one in found.models:
        mine = article.sel(model=one.model, **places)
        for what, variable in (
            ("seconds", "decode_step_latency"),
            ("flops", "decode_step_flops"),
            ("memory_bytes", "decode_step_bytes"),
        ):
            whole = xr.DataArray(one.amounts["decode_step"][what].sum(-1), dims=found.dims[:-1])
            for machine in range(2):
                theirs = mine[variable]
                if "hardware" in theirs.dims:
                    theirs = theirs.isel(hardware=machine)
                np.testing.assert_allclose(
                    whole.isel(hardware=machine).values.squeeze(),
                    theirs.values.squeeze(),
                    rtol=1e-4,
                )


@pytest.mark.slow
def test_operators_are_those_that_explain_tells(served) -> None:
    found = broken_down(served, "tensorrt-llm")
    assert found.unknown == ()
    place = {"tp": 2, "batch_size": 16, "isl": 2048, "osl": 128}
    names: dict[str, Any] = {"models": ["mixtral-8x7b"], "hardware": ["h100-sxm-80gb"]}
    axes: dict[str, Any] = {axis: [value] for axis, value in place.items()}
    told = explain(
        Grid(**names, **axes, variables=["ttft"]), calibration=load_calibration("tensorrt-llm")
    )
    mixtral = next(one for one in found.models if one.model == "mixtral-8x7b")
    at = [found.axes["hardware"].index("h100-sxm-80gb"), 0]
    at += [found.axes[axis].index(value) for axis, value in place.items()]
    operators = [*(name for group in mixtral.groups for name in group.operators), "host"]
    for phase in told.phases:
        amounts = {what: array[tuple(at)] for what, array in mixtral.amounts[phase.name].items()}
        assert [part.operator for part in phase.parts] == list(dict.fromkeys(operators))
        for part in phase.parts:
            mine = [k for k, name in enumerate(operators) if name == part.operator]
            for what, theirs in (
                ("seconds", part.latency),
                ("flops", part.flops),
                ("memory_bytes", part.memory_bytes),
                ("network_bytes", part.network_bytes),
            ):
                np.testing.assert_allclose(amounts[what][mine].sum(), theirs, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_a_specification_that_changed_since_is_not_taken_for_the_old_one() -> None:
    changed = sweep.hardware("h20-96gb").model_copy(update={"memory_bandwidth_bytes_per_s": 1e12})
    grid = Grid(
        models=["llama-2-7b"],
        hardware=["a100-sxm-80gb", changed],
        batch_size=[1, 8],
        context_len=[128, 1024],
        variables=["decode_step_latency"],
    )
    found = broken_down(sweep.run(grid))
    assert found.unknown == ("llama-2-7b on h20-96gb",)
    seconds = found.models[0].amounts["decode_step"]["seconds"]
    assert np.isfinite(seconds[0]).all()
    assert np.isnan(seconds[1]).all()


@pytest.mark.slow
def test_what_binds_is_told_where_the_result_does_not(served) -> None:
    grid = grid_of(served)
    specs = SpecsByName.of(grid, current_catalog())
    bound = with_bounds(served, grid, specs, load_calibration("tensorrt-llm"))["bound"]
    steps = sweep.run(
        Grid(
            models=grid["model"],
            hardware=grid["hardware"],
            tp=grid["tp"],
            batch_size=grid["batch_size"],
            # The middle of 128 in and 1024 out, and of 2048 in and 128 out.
            context_len=[640, 2112],
            variables=["bound"],
        ),
        efficiency="tensorrt-llm",
    )["bound"]
    for isl, osl, context in ((128, 1024, 640), (2048, 128, 2112)):
        mine = bound.sel(isl=isl, osl=osl).transpose(*steps.sel(context_len=context).dims)
        np.testing.assert_array_equal(mine.values, steps.sel(context_len=context).values)


def test_offers_of_steps_alone() -> None:
    """Eight sequences, a step of 0.1 s, two GPUs: 10 tokens/s each, 8 · 10 / 2 = 40 on a GPU."""
    dims = ("model", "hardware", "tp", "batch_size")
    dataset = xr.Dataset(
        {
            "decode_step_latency": (dims, np.full((1, 1, 1, 2), 0.1)),
            "feasible": (dims, np.array([[[[1, 0]]]], np.int8)),
        },
        {"tp": [2], "batch_size": [8, 9]},
    )
    found = throughputs(dataset)
    assert found is not None
    np.testing.assert_allclose(found.per_user.values.ravel(), [10, np.nan])
    np.testing.assert_allclose(found.per_gpu.values.ravel(), [40, np.nan])


def test_offers_of_requests_come_from_what_there_is(served) -> None:
    found = throughputs(served)
    assert found is not None
    expected = (served.output_throughput / served.tp).where(served.feasible == 1)
    np.testing.assert_allclose(found.per_gpu.values, expected.values)
    expected = (1 / served.tpot).where(served.feasible == 1)
    np.testing.assert_allclose(found.per_user.values, expected.values)
    assert throughputs(served[["ttft"]]) is None
    # How many GPUs the best of several widths takes does not follow from the axes.
    assert throughputs(sweep.reduce(served, "best:tp", by="output_throughput")) is None


def test_the_calibration_of_a_result_is_found_by_name_and_digest(served, article) -> None:
    assert calibration_of(article, None) == (None, "")
    found, caution = calibration_of(served, None)
    assert found is not None
    assert (found.name, caution) == ("tensorrt-llm", "")
    with pytest.raises(ResultError, match="--calibration ideal is 'ideal', but the result was"):
        calibration_of(served, "ideal")
    with pytest.raises(ResultError, match="was predicted by 'ideal'; leave the option out"):
        calibration_of(article, "tensorrt-llm")
    other = served.assign_attrs(efficiency="mine 0123456789abcdef")
    found, caution = calibration_of(other, None)
    assert found is None
    assert "mine 0123456789abcdef was not found" in caution


def test_the_page_tells_how_good_the_predictions_are(served_page, article_page) -> None:
    assert Page(article_page).data["quality"] is None
    quality = Page(served_page).data["quality"]
    fitted = load_calibration("tensorrt-llm")
    assert fitted is not None
    errors = fitted.provenance["errors_without_own_configuration"]
    assert {row["of"]: row["mean error"] for row in quality["accuracy"]} == {
        SCENARIOS[scenario]: f"{told['mape']:.1%}" for scenario, told in errors.items()
    }
    shown = {row["factor"]: row["value"] for row in quality["factors"]}
    assert len(shown) == len(fitted.factors)
    assert shown["gemm"] == f"{fitted.factors['gemm'].value:.4g}"
    value, unit = shown["exchange overhead"].split()
    seconds = fitted.factors["exchange_overhead_s"].value
    assert (float(value), unit) == (pytest.approx(1e6 * seconds, rel=1e-3), "µs")


def test_a_page_begins_at_a_chosen_cell(served) -> None:
    chosen = {"model": "mixtral-8x7b", "tp": 2, "batch_size": 16, "isl": 2048, "osl": 128}
    start = Page(html(served, chosen=chosen)).data["start"]
    assert start["chosen"] and not Page(html(served)).data["start"]["chosen"]
    indices = start["indices"]
    assert {axis: served[axis].values.tolist()[k] for axis, k in indices.items()} == chosen


def test_measurements_of_a_fit_are_shown(served, tmp_path) -> None:
    """A file as `llm-calibrate fit` writes it, with three rows."""
    fitted = load_calibration("tensorrt-llm")
    rows = {
        "measured": [100.0, 2000.0, 0.05],
        "predicted": [110.0, 1900.0, 0.06],
        "left_out_residual": [np.log(1.1), np.log(0.95), np.log(1.2)],
        "metric": ["output_throughput", "output_throughput", "ttft"],
        "hardware": ["l40s", "h100-sxm-80gb", "l40s"],
    }
    fit = xr.Dataset({name: ("row", values) for name, values in rows.items()})
    fit.attrs["llm_sweep_efficiency"] = fitted.model_dump_json()
    fit.to_netcdf(tmp_path / "fit.nc")
    page = Page(html(served, efficiency=tmp_path / "fit.nc"))
    quality = page.data["quality"]
    np.testing.assert_allclose(page.array(quality["measured"]), [100, 2000], rtol=1e-5)
    np.testing.assert_allclose(page.array(quality["predicted"]), [110, 1900], rtol=1e-5)
    assert quality["groups"][0]["accelerator"] == "h100-sxm-80gb"
    assert quality["groups"][1]["rows"] == "2"


def test_a_reduced_result_is_shown_but_not_broken_down(served) -> None:
    best = sweep.reduce(served, "best:batch_size,tp", by="output_throughput")
    data = Page(html(best)).data
    assert data["layers"] is None
    assert "reduced over tp and batch_size" in data["cautions"][0]
    assert "best_tp" in data["variables"]
    with pytest.raises(ResultError, match="varies over model and hardware"):
        html(sweep.reduce(served, "argmax:output_throughput"))


@pytest.mark.slow
def test_one_batch_size_is_compared_too(article) -> None:
    few = article.isel(batch_size=[3], model=[0, 1])
    data = Page(html(few)).data
    assert [text.partition(",")[0] for text in data["sentences"]] == few.model.values.tolist()


@pytest.mark.slow
def test_flags_alone_make_no_page(article) -> None:
    with pytest.raises(ResultError, match="has only flags"):
        html(article[["feasible"]])


@pytest.mark.parametrize("record", ["{broken", "[1, 2]", '{"batch_size": 3}'])
def test_a_damaged_record_of_the_grid_is_named(article, record) -> None:
    damaged = article.assign_attrs(llm_sweep_grid=record)
    with pytest.raises(ResultError, match="llm_sweep_grid"):
        html(damaged)
    with pytest.raises(ResultError, match="llm_sweep_grid"):
        subset(damaged, select=["model=llama-2-13b"])


def call(*words: object) -> int:
    """Exit status of the command line."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["llm-sweep", *map(str, words)])
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_makes_a_page_and_replaces_none(served, tmp_path, capsys) -> None:
    result, page = tmp_path / "served.nc", tmp_path / "served.html"
    sweep.write_netcdf(served, result)
    assert call("report", result, "-o", page) == 0
    first = page.read_text(encoding="utf-8")
    assert first.startswith("<!DOCTYPE html>")
    assert call("report", result, "-o", page) == 2
    assert "exists; choose another name or give --force" in capsys.readouterr().err
    assert call("report", result, "-o", page, "--force") == 0
    assert page.read_text(encoding="utf-8") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served.html", "served.nc"]


def test_wrong_input_of_the_command_is_one_line(served, tmp_path, capsys, monkeypatch) -> None:
    result, page = tmp_path / "served.nc", tmp_path / "served.html"
    sweep.write_netcdf(served, result)
    (tmp_path / "text.nc").write_text("text")

    def told(*words: object) -> str:
        assert call("report", *words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert not page.exists()
        return said

    assert "no such file" in told(tmp_path / "none.nc", "-o", page)
    assert "not a readable NetCDF" in told(tmp_path / "text.nc", "-o", page)
    assert "end in .html" in told(result, "-o", tmp_path / "served.png")
    assert "ideal" in told(result, "-o", page, "--efficiency", "ideal")
    for package in ("plotly.offline", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert "pip install 'llm-sweep[report]'" in told(result, "-o", page)
