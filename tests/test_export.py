"""Handing over: the same values in every format, bounded memory, refusals in one line."""

import json
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sweep
from sweep.errors import ResultError
from sweep.files.chunks import dividing_extent, regions_in_memory
from sweep.files.encoding import Storage
from sweep.files.export import export
from sweep.files.rounding import kept_bits
from sweep.grid.thresholds import NETCDF_CHUNK_CELLS
from sweep.grid.tiling import slices
from sweep.queries.select import subset
from sweep.runs.check_results import check_file

MODELS = ["llama-2-7b", "mixtral-8x7b"]
HARDWARE = ["a100-sxm-80gb", "h20-96gb"]


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return sweep.run(
        sweep.Grid(
            models=MODELS,
            hardware=HARDWARE,
            batch_size=[1, 8, 64],
            isl=[512, 2048],
            osl=[1, 128],
            variables=["ttft", "tpot", "output_throughput", "weight_memory", "feasible"],
        )
    )


@pytest.fixture(scope="module")
def source(results, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "results.nc"
    sweep.write_netcdf(results, path)
    return path


def values_of(dataset: xr.Dataset) -> xr.Dataset:
    """Without the history, which tells how the file came to be."""
    return dataset.drop_attrs(deep=False)


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
def test_a_merged_file_holds_the_same_and_is_sound(call, source, tmp_path, compression) -> None:
    path = tmp_path / "merged.nc"
    code, _, err = call("merge", source, path, "--compression", compression, "--level", 4)
    assert code == 0, err
    assert ("plugin" in err) == (compression == "zstd")
    assert check_file(path) == []
    with sweep.open_results(path) as merged, sweep.open_results(source) as original:
        xr.testing.assert_identical(values_of(merged.load()), values_of(original.load()))
        assert "exported by llm-sweep" in merged.attrs["history"]
        assert merged.attrs["history"].startswith(original.attrs["history"])
    with netCDF4.Dataset(path) as file:
        filters = file["ttft"].filters()
        for kind in ("zlib", "zstd"):
            assert filters[kind] == (kind == compression)
        if compression != "none":
            assert filters["complevel"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("digits", [1, 3, 5])
@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_rounding_keeps_the_digits_it_promises(source, results, tmp_path, digits, ending) -> None:
    path = tmp_path / f"rounded{ending}"
    with sweep.open_results(source) as original:
        export(original, path, Storage(significant_digits=digits))
    opened = sweep.open_results(path) if ending == ".nc" else xr.open_zarr(path, consolidated=False)
    with opened as rounded:
        for name in ("ttft", "tpot", "output_throughput", "weight_memory"):
            exact, stored = results[name].values, rounded[name].values
            there = np.isfinite(exact)
            np.testing.assert_array_equal(there, np.isfinite(stored))
            unit = 10.0 ** (np.floor(np.log10(exact[there])) - digits + 1)
            assert (np.abs(stored - exact)[there] <= unit / 2).all()
            assert (stored != exact)[there].any()
            assert rounded[name].attrs["quantization_nsb"] == int(np.ceil(digits / np.log10(2)))
        np.testing.assert_array_equal(rounded.feasible, results.feasible)
        assert "quantization" not in rounded.feasible.attrs


def test_a_rounded_file_tells_how_and_passes_the_check(source, tmp_path) -> None:
    path, again = tmp_path / "rounded.nc", tmp_path / "again.nc"
    with sweep.open_results(source) as original:
        export(original, path, Storage(significant_digits=3))
    with sweep.open_results(path) as rounded:
        export(rounded, again)
    for file in (path, again):
        assert check_file(file) == []
        with netCDF4.Dataset(file) as opened:
            assert opened["ttft"].getncattr("quantization") == "quantization_info"
            assert opened["quantization_info"].algorithm == "bitround"
            assert opened["quantization_info"].implementation


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_values_that_another_program_packed_are_written_as_they_are_read(
    results, tmp_path, ending
) -> None:
    ours, theirs, path = tmp_path / "ours.nc", tmp_path / "theirs.nc", tmp_path / f"out{ending}"
    sweep.write_netcdf(results[["ttft", "feasible"]], ours)
    with xr.open_dataset(ours, decode_cf=False) as plain:
        packed = plain.load()
    attributes = {"units": "s", "scale_factor": 0.125}
    packed["ttft"] = xr.full_like(packed.ttft, 3, np.int16).drop_attrs().assign_attrs(attributes)
    packed["feasible"].attrs["scale_factor"] = np.int64(0)
    packed.to_netcdf(theirs)
    with sweep.open_results(theirs) as opened:
        export(opened, path)
    opened = sweep.open_results(path) if ending == ".nc" else xr.open_zarr(path, consolidated=False)
    with opened as stored:
        assert stored.ttft.dtype.kind == "f" and (stored.ttft == 0.375).all()
        assert (stored.feasible == 0).all()


def test_bits_that_hold_decimal_digits() -> None:
    # log2(10) is 3.32, so that three digits take 10 bits and seven 24, more than float32 has.
    assert kept_bits(3, np.dtype("float32")) == 10
    assert kept_bits(7, np.dtype("float32")) is None
    assert kept_bits(7, np.dtype("float64")) == 24
    assert kept_bits(3, np.dtype("int16")) is None


def test_zarr_holds_the_same(source, results, tmp_path) -> None:
    path = tmp_path / "out.zarr"
    for compression in ("none", "zlib", "zstd"):
        with sweep.open_results(source) as original:
            export(original, path, Storage(compression), force=True)
        with xr.open_zarr(path, consolidated=False) as stored:
            xr.testing.assert_identical(values_of(stored.load()), values_of(results))
            assert stored.sel(hardware="h20-96gb").ttft.attrs["units"] == "s"
    assert json.loads((path / "ttft" / "zarr.json").read_text())["zarr_format"] == 3
    with pytest.raises(ResultError, match="--force"):
        export(results, path)
    (path / "zarr.json").unlink()
    with pytest.raises(ResultError, match="not a Zarr store"):
        export(results, path, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
    flags = results[["feasible"]].astype("uint8")
    export(flags, tmp_path / "flags.zarr")
    with xr.open_zarr(tmp_path / "flags.zarr", consolidated=False) as stored:
        assert stored.equals(flags)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_has_a_row_for_each_place(source, results, tmp_path, ending, monkeypatch) -> None:
    monkeypatch.setattr("sweep.grid.thresholds.ROWS_AT_ONCE", 7)
    path = tmp_path / f"table{ending}"
    with sweep.open_results(source) as original:
        export(original, path)
    table = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
    assert len(table) == 2 * 2 * 3 * 2 * 2
    row = table.query("model=='mixtral-8x7b' and hardware=='h20-96gb' and batch_size==8")
    row = row.query("isl==512 and osl==128").squeeze()
    place = {"model": "mixtral-8x7b", "hardware": "h20-96gb", "batch_size": 8, "isl": 512}
    point = results.squeeze("precision").squeeze("tp").sel(place).sel(osl=128)
    for name in ("ttft", "tpot", "output_throughput", "weight_memory"):
        assert row[name] == pytest.approx(point[name].item(), rel=1e-6)


def test_a_table_has_words_for_categories(results, tmp_path, call, source) -> None:
    reduced, table = tmp_path / "best.nc", tmp_path / "best.csv"
    options = ["--where", "ttft<0.5 and feasible", "--by", "output_throughput"]
    assert call("reduce", source, reduced, "--reduce", "best:hardware,batch_size", *options)[0] == 0
    assert call("export", reduced, table)[0] == 0
    rows = pd.read_csv(table)
    assert set(rows.best_hardware.dropna()) <= set(HARDWARE)
    assert rows.best_hardware.notna().any()


@pytest.mark.parametrize(
    "kind", ["best:hardware,batch_size", "pareto:ttft,tpot", "quantile:0.5:isl"]
)
def test_constraints_that_no_cell_satisfies_are_named(kind, call, source, tmp_path) -> None:
    by = ["--by", "tpot"] if kind.startswith(("best", "quantile")) else []
    for limit, named in (("ttft<0", True), ("ttft>0", False)):
        output = tmp_path / f"{named}.nc"
        code, out, _ = call("reduce", source, output, "--reduce", kind, *by, "--where", limit)
        assert code == 0
        assert ("(no cell satisfies ttft<0; every answer is missing)" in out) == named


def test_a_single_place_is_a_row(call, source, tmp_path) -> None:
    reduced, table = tmp_path / "best.nc", tmp_path / "best.csv"
    assert call("reduce", source, reduced, "--reduce", "argmin:ttft")[0] == 0
    assert call("export", reduced, table)[0] == 0
    assert len(pd.read_csv(table)) == 1


def test_reduce_takes_part_of_a_result(call, source, tmp_path) -> None:
    path = tmp_path / "best.nc"
    select = ["--select", "hardware=h20-96gb"]
    assert call("reduce", source, path, "--reduce", "best:batch_size", *select)[0] == 0
    with sweep.open_results(path) as best:
        assert best.hardware.values.tolist() == ["h20-96gb"]
    code, _, err = call("reduce", source, tmp_path / "x.nc", "--reduce", "best:bach_size")
    assert code == 2
    assert err.count("\n") == 1
    assert "did you mean 'batch_size'" in err


def test_by_and_per_choose_what_is_best_and_for_which_axes(call, source, tmp_path) -> None:
    sizes, largest = {}, {}
    for per in ("model", "hardware,isl"):
        path = tmp_path / f"{per}.nc"
        code, _, err = call("reduce", source, path, "--reduce", "argmax:tpot", "--per", per)
        assert code == 0, err
        with sweep.open_results(path) as found:
            sizes[per] = dict(found.tpot.sizes)
    assert sizes == {"model": {"model": 2}, "hardware,isl": {"hardware": 2, "isl": 2}}
    for by in ("ttft", "output_throughput"):
        path = tmp_path / f"{by}.nc"
        assert call("reduce", source, path, "--reduce", "best:batch_size", "--by", by)[0] == 0
        with sweep.open_results(path) as best:
            largest[by] = float(best.best_batch_size.max())
    # The first token of a larger batch comes later, and its throughput is higher.
    assert largest == {"ttft": 1, "output_throughput": 64}


def test_parquet_is_compressed_as_asked(results, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for compression, stored in (("none", "UNCOMPRESSED"), ("zlib", "GZIP"), ("zstd", "ZSTD")):
        path = tmp_path / f"{compression}.parquet"
        export(results, path, Storage(compression))
        assert parquet.ParquetFile(path).metadata.row_group(0).column(0).compression == stored


def test_reduced_files_can_be_merged(call, source, tmp_path) -> None:
    for i, asked in enumerate(("best:batch_size", "pareto:ttft,output_throughput", "argmin:ttft")):
        reduced, merged = tmp_path / f"{i}.nc", tmp_path / f"{i}-merged.nc"
        assert call("reduce", source, reduced, "--reduce", asked, "--where", "ttft<0.5")[0] == 0
        assert call("merge", reduced, merged)[0] == 0
        assert check_file(merged) == []
        store = tmp_path / f"{i}.zarr"
        assert call("export", reduced, store)[0] == 0
        with sweep.open_results(reduced) as a, xr.open_zarr(store, consolidated=False) as b:
            xr.testing.assert_equal(a.load(), b.load())
        with sweep.open_results(reduced) as a, sweep.open_results(merged) as b:
            xr.testing.assert_identical(values_of(a.load()), values_of(b.load()))


def test_select_and_variables_choose(call, source, results, tmp_path) -> None:
    path = tmp_path / "part.nc"
    select = [
        "--select",
        "model=mixtral-8x7b",
        "--select",
        "batch_size=2:64",
        "--select",
        "osl=128",
    ]
    code, _, err = call("export", source, path, *select, "--variables", "output_throughput,ttft")
    assert code == 0, err
    assert check_file(path) == []
    with sweep.open_results(path) as part:
        expected = results[["output_throughput", "ttft"]].sel(
            model=["mixtral-8x7b"], batch_size=[8, 64], osl=[128]
        )
        xr.testing.assert_equal(part.load(), expected)
        assert part.attrs["llm_sweep_variables"] == "ttft output_throughput"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out.nc", "--select", "model=mixtral-8x7"], "did you mean 'mixtral-8x7b'"),
        (["out.nc", "--select", "modl=mixtral-8x7b"], "did you mean 'model'"),
        (["out.nc", "--select", "batch_size=9"], "the nearest is 8"),
        (["out.nc", "--select", "batch_size=9:60"], "batch_size goes from 1 to 64"),
        (["out.nc", "--select", "batch_size=few"], "'few' is not a number"),
        (["out.nc", "--select", "batch_size"], "write axis=label"),
        (["out.nc", "--variables", "tftt"], "did you mean 'ttft'"),
        (["out.xlsx"], ".nc, .zarr, .parquet, .csv"),
        (["out.csv", "--significant-digits", "3"], "goes with .nc and .zarr"),
        (["no/such/out.nc"], "does not exist"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    call, source, tmp_path, monkeypatch, arguments, words
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call("export", source, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_too_many_rows_are_refused_with_advice(results, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sweep.files.tables.MOST_ROWS", 10)
    with pytest.raises(ResultError, match=r"48 rows .*--select"):
        export(results, tmp_path / "large.csv")


def test_a_missing_package_is_named_with_its_extra(results, tmp_path, monkeypatch) -> None:
    for package, ending, extra in (
        ("zarr", ".zarr", "zarr"),
        ("pyarrow.parquet", ".parquet", "parquet"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ResultError, match=rf"pip install 'llm-sweep\[{extra}\]'"):
            export(results, tmp_path / f"out{ending}")


def test_an_existing_file_is_kept_unless_forced(call, source, tmp_path) -> None:
    path = tmp_path / "out.nc"
    path.write_bytes(b"precious")
    for command in (["merge", source, path], ["reduce", source, path, "--reduce", "best:isl"]):
        code, _, err = call(*command)
        assert (code, path.read_bytes()) == (2, b"precious")
        assert "--force" in err
    assert call("merge", source, path, "--force")[0] == 0
    assert check_file(path) == []


def test_regions_in_memory_cover_the_grid_once() -> None:
    sizes = {"model": 3, "hardware": 5, "isl": 7}
    for budget in (1, 6, 7, 20, 40, 1000):
        seen = np.zeros(tuple(sizes.values()), int)
        regions = regions_in_memory(sizes, budget)
        for region in regions:
            seen[tuple(slices(region).values())] += 1
        assert (seen == 1).all()
        assert np.prod(list(regions.shape.values())) <= budget
    whole = regions_in_memory(sizes, 1, whole=["isl"])
    assert whole.shape == {"model": 1, "hardware": 1, "isl": 7}
    assert regions_in_memory(sizes, 70, chunks={"model": 2}).shape["model"] == 2
    # Three chunks of 4 divide 12; no two or three equal chunks divide 7.
    assert dividing_extent(12, 5) == 4
    assert dividing_extent(7, 3) == 3


def test_regions_contain_whole_chunks_where_they_can() -> None:
    # 10 of 25 cells are allowed: of chunks of 4, two; of chunks of 11, none, so any length.
    assert regions_in_memory({"isl": 25}, 10, chunks={"isl": 4}).shape == {"isl": 8}
    assert regions_in_memory({"isl": 25}, 10, chunks={"isl": 11}).shape == {"isl": 10}
    assert list(regions_in_memory({"isl": 0}, 10)) == [{"isl": range(0)}]


def test_lazily_joined_shards_are_written_chunk_by_chunk(results, tmp_path, monkeypatch) -> None:
    pytest.importorskip("dask")
    monkeypatch.setattr("sweep.grid.thresholds.CELLS_AT_ONCE", 5)
    joined, path = results.chunk({"hardware": 1, "batch_size": 2}), tmp_path / "out.nc"
    seen = []
    export(joined, path, progress=lambda done, total: seen.append((done, total)))
    points = sum(array.size for array in results.data_vars.values())
    assert seen[-1] == (points, points)
    with sweep.open_results(path) as written:
        xr.testing.assert_identical(values_of(written.load()), values_of(results))


PEAK = """
import resource, sys
from pathlib import Path
import sweep
from sweep.files.export import export
with sweep.open_results(sys.argv[1]) as dataset:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    export(dataset, Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.campaign
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch) -> None:
    peaks = []
    for hardware in (4, 16):
        path = tmp_path / f"{hardware}.nc"
        shape = (hardware, 2**21)
        values = np.broadcast_to(np.float32(1), shape)
        dataset = xr.Dataset(
            {"ttft": (("hardware", "isl"), values, {"units": "s"})},
            {"hardware": [f"h{i}" for i in range(hardware)], "isl": np.arange(1, shape[1] + 1)},
            {"llm_sweep_schema": 1},
        )
        sweep.write_netcdf(dataset, path)
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"{hardware}-out.nc")]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(run.stdout))
    assert peaks[1] < peaks[0] + 20, f"{peaks} MiB for 32 and 128 MiB"


def test_chunks_are_explicit_and_of_a_size_to_read(tmp_path) -> None:
    shape = (6, 2**18)
    dataset = xr.Dataset(
        {"ttft": (("hardware", "isl"), np.ones(shape, np.float32))},
        {"hardware": list("abcdef"), "isl": np.arange(1, shape[1] + 1)},
        {"llm_sweep_schema": 1},
    )
    export(dataset, tmp_path / "out.nc")
    with netCDF4.Dataset(tmp_path / "out.nc") as file:
        assert file["ttft"].chunking() == [1, NETCDF_CHUNK_CELLS]


def test_subset_leaves_the_dataset_alone(results) -> None:
    before = results.copy(deep=True)
    subset(results, select=["model=mixtral-8x7b"], variables=["output_throughput"])
    xr.testing.assert_identical(results, before)
