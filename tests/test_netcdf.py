"""Files: labels survive, other programs read them, and writing is atomic."""

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import sweep
from sweep.errors import ResultError
from sweep.files.atomic import check_writable, replacing
from sweep.files.export import export
from sweep.runs.check_results import check_dataset
from sweep.runs.shard_file import write_shard


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return sweep.run(
        sweep.Grid(
            models=["llama-2-7b", "mixtral-8x7b"],
            hardware=["a100-sxm-80gb", "h20-96gb"],
            tp=[1, 2],
            batch_size=[1, 8, 64],
            context_len=[128, 1024],
            variables=[
                "decode_step_latency",
                "decode_step_bytes",
                "decode_operator_latency",
                "decode_operator_bound",
                "bound",
                "weight_memory",
                "feasible",
            ],
        )
    )


@pytest.fixture
def path(dataset, tmp_path):
    path = tmp_path / "out.nc"
    sweep.write_netcdf(dataset, path)
    return path


def test_a_file_gives_back_what_was_written(dataset, path) -> None:
    with sweep.open_results(path) as opened:
        xr.testing.assert_identical(opened.load(), dataset)


def test_labels_select(path) -> None:
    with sweep.open_results(path) as opened:
        one = opened.sel(hardware="h20-96gb", model="mixtral-8x7b", tp=2)
        assert one.decode_step_latency.dims == ("precision", "batch_size", "context_len")
        attention = opened.decode_operator_latency.sel(operator="attention")
        assert bool(attention.notnull().all())


def test_operators_a_model_lacks_are_missing(path) -> None:
    with sweep.open_results(path) as opened:
        router = opened.sel(operator="router")
        assert bool(router.decode_operator_latency.sel(model="llama-2-7b").isnull().all())
        assert bool((router.decode_operator_bound.sel(model="llama-2-7b") == -1).all())
        assert bool(router.decode_operator_latency.sel(model="mixtral-8x7b").notnull().all())


def test_operators_sum_to_the_step(dataset) -> None:
    summed = dataset.decode_operator_latency.sum("operator")
    np.testing.assert_allclose(summed, dataset.decode_step_latency, rtol=1e-5)


def test_a_stranger_reads_it_with_plain_xarray(path) -> None:
    with xr.open_dataset(path) as plain:
        assert plain.model_name.values.tolist() == ["llama-2-7b", "mixtral-8x7b"]
        assert plain.decode_step_latency.attrs["units"] == "s"
        assert plain.bound.attrs["flag_meanings"] == "memory compute communication"
        assert plain.bound.dtype == np.int8
        assert plain.attrs["Conventions"] == "CF-1.11"
        assert plain.attrs["calibration"] == plain.attrs["efficiency"] == "ideal"
        h20 = plain.decode_step_latency.sel(hardware_name="h20-96gb")
        np.testing.assert_array_equal(h20, plain.decode_step_latency.isel(hardware=1))


@pytest.mark.slow
def test_the_compliance_checker_finds_nothing(path) -> None:
    script = "from compliance_checker.runner import *; CheckSuite.load_all_available_checkers();"
    script += f"print(ComplianceChecker.run_checker({str(path)!r}, ['cf:1.11'], 0, 'strict'))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "All tests passed!" in run.stdout, run.stdout


def test_an_existing_file_is_kept_unless_forced(dataset, path) -> None:
    before = path.read_bytes()
    with pytest.raises(ResultError, match="--force"):
        sweep.write_netcdf(dataset, path)
    assert path.read_bytes() == before
    sweep.write_netcdf(dataset, path, force=True)


WRITERS = {
    "result.nc": sweep.write_netcdf,
    "streamed.nc": export,
    "table.csv": export,
    "table.parquet": export,
    "shard.nc": lambda dataset, path: write_shard(dataset, path, {}),
}


@pytest.fixture
def umask():
    """Set the umask of this process, and restore it at the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_has_the_mode_of_any_other(dataset, tmp_path, umask, name, mask) -> None:
    umask(mask)
    plain, path = tmp_path / "plain", tmp_path / name
    plain.write_text("x")
    WRITERS[name](dataset, path)
    assert path.stat().st_mode == plain.stat().st_mode
    assert os.umask(mask) == mask


def test_writing_through_a_link_keeps_the_link(dataset, tmp_path) -> None:
    """Also where it leads to another folder, to a file or to none."""
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data" / "real.nc", tmp_path / "link.nc"
    link.symlink_to(target)
    with pytest.raises(ResultError, match="exists"):
        sweep.write_netcdf(dataset, link)
    for before in (None, b"old"):
        if before:
            target.write_bytes(before)
        sweep.write_netcdf(dataset, link, force=True)
        assert link.is_symlink() and not target.is_symlink()
        with sweep.open_results(target) as opened:
            xr.testing.assert_identical(opened.load(), dataset)
    assert [path.name for path in tmp_path.glob("**/*.nc")] == ["link.nc", "real.nc"]
    assert len(list(tmp_path.glob("**/.*"))) == 0


def test_a_newer_schema_is_refused(dataset, tmp_path) -> None:
    newer = dataset.assign_attrs(llm_sweep_schema=10**6)
    sweep.write_netcdf(newer, tmp_path / "newer.nc")
    with pytest.raises(ResultError, match="upgrade"):
        sweep.open_results(tmp_path / "newer.nc")


def test_check_names_each_departure(dataset) -> None:
    assert check_dataset(dataset) == []
    spoilt = {
        "units": dataset.assign(bound=dataset.bound.assign_attrs(units="s")),
        "dimensions": dataset.transpose("context_len", ...),
        "llm_sweep_grid": dataset.drop_attrs(deep=False),
        "unknown": dataset.assign(strange=dataset.bound),
        "which no flag means": dataset.assign(bound=dataset.bound + np.int8(9)),
        "does not increase": dataset.isel(batch_size=[1, 0]),
        "same label twice": dataset.isel(model=[0, 0]),
        "stored as": dataset.assign(feasible=dataset.feasible.astype(float)),
    }
    for word, bad in spoilt.items():
        assert any(word in problem for problem in check_dataset(bad)), word


def test_a_device_is_never_replaced(tmp_path) -> None:
    """A pipe in the place of the output, as `/dev/null` is a device, stays what it is."""
    pipe = tmp_path / "pipe.nc"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path / "link.nc"):
        if path != pipe:
            path.symlink_to(pipe)
        with pytest.raises(ResultError, match="is a device, pipe or socket"):
            check_writable(path, force=True)
    assert pipe.is_fifo()


def test_links_that_lead_nowhere_are_refused_before_anything_is_computed(tmp_path) -> None:
    lost, loop = tmp_path / "lost.nc", tmp_path / "loop.nc"
    lost.symlink_to(tmp_path / "none" / "none.nc")
    loop.symlink_to(loop)
    with pytest.raises(ResultError, match=r"lost\.nc: its folder .*none does not exist"):
        check_writable(lost, force=True)
    with pytest.raises(ResultError, match=r"loop\.nc: "):
        check_writable(loop, force=True)


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path) -> None:
    path = tmp_path / ("ü" * 126 + ".nc")
    with replacing(path) as temporary:
        temporary.write_text("done")
    assert path.read_text() == "done"
    assert list(tmp_path.iterdir()) == [path]
