"""Damage of results is noticed before their values are used, and ends in one line."""

import random
import re
import shutil
from pathlib import Path
from zlib import crc32

import netCDF4
import numpy as np
import pytest
import xarray as xr
from damage import LONGEST_LINE, flip, refused
from factories import UNEVEN, model, precision

import sweep
from sweep.errors import ResultError
from sweep.grid.grid import Grid
from sweep.runs.check_results import check_file
from sweep.specs.seal import AT_ONCE, SEAL_LENGTH, fault_of_seal, seal, without_seal

# Shards and files carry a seal, which is verified before their values are used.


@pytest.mark.parametrize("shard", [0, 2])
def test_a_flipped_bit_in_a_shard_stops_every_command(
    shard, whole_shards, reduced_shards, call, tmp_path
) -> None:
    for name, folder in (("whole", whole_shards), ("reduced", reduced_shards)):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        file = copy / f"shard-{shard:06d}.nc"
        flip(file, file.stat().st_size - SEAL_LENGTH - 40)
        refused(call("merge", copy, tmp_path / "out.nc"), file.name, "checksum differs")
        assert not (tmp_path / "out.nc").exists()
    asked = ("reduce", tmp_path / "whole", tmp_path / "out.nc", "--reduce", "argmin:ttft")
    refused(call(*asked), "checksum differs")


def test_exchanged_shards_are_noticed(whole_shards, reduced_shards, call, tmp_path) -> None:
    for name, folder in (("whole", whole_shards), ("reduced", reduced_shards)):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        one, other = (copy / f"shard-{shard:06d}.nc" for shard in (1, 2))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        refused(call("merge", copy, tmp_path / "out.nc"), "belongs to another run")


def test_an_identity_that_is_no_text_is_another(whole_shards, call, tmp_path) -> None:
    shutil.copytree(whole_shards, tmp_path / "out")
    file = tmp_path / "out" / "shard-000001.nc"
    file.write_bytes(without_seal(file.read_bytes()))
    with netCDF4.Dataset(file, "a") as shard:
        shard.llm_sweep_shard = np.arange(3)
    seal(file)
    refused(call("merge", tmp_path / "out", tmp_path / "out.nc"), "belongs to another run")


def test_a_shard_that_changes_while_it_is_open_is_noticed(whole_shards, tmp_path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(whole_shards, copy)
    with sweep.open_results(copy) as results:
        results.compute()
        flip(copy / "shard-000001.nc", 5000)
        with pytest.raises(ResultError, match="checksum differs"):
            results.compute()


def test_a_flipped_byte_of_a_single_file_is_noticed(whole_file, tmp_path) -> None:
    content, chance = whole_file.read_bytes(), random.Random(1)
    seal = range(len(content) - SEAL_LENGTH, len(content))
    for place in [*chance.sample(range(len(content)), 60), *seal]:
        changed = bytearray(content)
        changed[place] ^= chance.randrange(1, 256)
        copy = tmp_path / f"{place}.nc"
        copy.write_bytes(changed)
        assert check_file(copy) == ["is damaged: its checksum differs"]
        with pytest.raises(ResultError, match="checksum differs"):
            sweep.open_results(copy)


def test_check_verifies_what_is_too_large_to_verify_on_opening(whole_file, tmp_path, monkeypatch):
    copy = shutil.copy(whole_file, tmp_path / "out.nc")
    flip(copy, copy.stat().st_size - SEAL_LENGTH - 1)
    monkeypatch.setattr("sweep.files.netcdf.VERIFIED_BYTES", 10)
    assert check_file(copy) == ["is damaged: its checksum differs"]


def test_a_seal_covers_every_part_of_a_large_file(tmp_path) -> None:
    path = tmp_path / "large"
    for place in (10, AT_ONCE + 1, 3 * AT_ONCE + 2):
        path.write_bytes(bytes(3 * AT_ONCE + 5))
        seal(path)
        assert fault_of_seal(path, needed=True) == ""
        flip(path, place)
        assert "checksum differs" in fault_of_seal(path, needed=True)


def test_a_seal_is_the_published_checksum(tmp_path) -> None:
    """XXH3 of nothing, from its specification."""
    path = tmp_path / "empty"
    path.touch()
    seal(path)
    assert path.read_bytes() == b"\nllm-sweep xxh3 2d06800538d394c2"


def test_a_seal_of_an_earlier_version_is_verified(whole_file, tmp_path) -> None:
    """Files were sealed by CRC-32, whose value of these nine digits is published."""
    assert crc32(b"123456789") == 0xCBF43926
    path = tmp_path / "nine"
    path.write_bytes(b"123456789\nllm-sweep crc32 cbf43926")
    assert fault_of_seal(path, needed=True) == ""
    assert without_seal(path.read_bytes()) == b"123456789"
    for place in range(path.stat().st_size):
        flip(path, place)
        assert "checksum differs" in fault_of_seal(path, needed=False)
        flip(path, place)
    content = without_seal(whole_file.read_bytes())
    former = tmp_path / "former.nc"
    former.write_bytes(content + b"\nllm-sweep crc32 %08x" % crc32(content))
    assert check_file(former) == []
    with sweep.open_results(former) as opened, sweep.open_results(whole_file) as now:
        xr.testing.assert_identical(opened.load(), now.load())


def test_a_file_that_others_rewrote_has_no_seal_and_is_read(whole_file, tmp_path) -> None:
    with xr.open_dataset(whole_file, decode_times=False) as plain:
        plain.to_netcdf(tmp_path / "theirs.nc")
    assert check_file(tmp_path / "theirs.nc") == []


# Results that others wrote or damaged.


def set_attribute(name: str | None, key: str, value: object):
    def change(dataset: xr.Dataset) -> xr.Dataset:
        (dataset if name is None else dataset[name]).attrs[key] = value
        return dataset

    return change


FOREIGN = {
    "text in scale_factor": set_attribute("ttft", "scale_factor", "big"),
    "an array in scale_factor": set_attribute("ttft", "scale_factor", np.ones(3)),
    "text in missing_value": set_attribute("ttft", "missing_value", "none"),
    "an array in units": set_attribute("ttft", "units", np.ones(3)),
    "an array in long_name": set_attribute("feasible", "long_name", np.ones(3)),
    "a number in flag_meanings": set_attribute("feasible", "flag_meanings", 3.0),
    "text in flag_masks": set_attribute("feasible", "flag_masks", "all"),
    "more flags than meanings": set_attribute("feasible", "flag_masks", np.arange(5)),
    "a deep grid": set_attribute(None, "llm_sweep_grid", "[" * 10**5),
    "a grid that is a list": set_attribute(None, "llm_sweep_grid", "[]"),
    "a grid of lists of lists": set_attribute(None, "llm_sweep_grid", '{"model": [["x"]]}'),
    "a grid that is a number": set_attribute(None, "llm_sweep_grid", 3),
    "an efficiency that is a number": set_attribute(None, "efficiency", np.ones(3)),
    "a label of escapes": lambda d: d.assign_coords(
        hardware_name=("hardware", ["\x1b[31mred", "b"])
    ),
    "a long label": lambda d: d.assign_coords(hardware_name=("hardware", ["x" * 10**5, "b"])),
    "an efficiency of escapes": set_attribute(None, "efficiency", "\x1b[31mred 0123"),
    "a long efficiency": set_attribute(None, "efficiency", "x" * 10**5),
    "long units": set_attribute("ttft", "units", "x" * 10**5),
    "zero times": lambda d: d.assign(output_throughput=d.output_throughput * 0, ttft=d.ttft * 0),
    "no values": lambda d: d.assign(output_throughput=d.output_throughput * np.nan),
    "masks that are no whole numbers": set_attribute("feasible", "flag_masks", 1.0),
    "lengths without an axis": lambda d: d.isel(isl=0, osl=0),
    "an axis of no sweep": lambda d: d.assign(ttft=d.ttft.expand_dims(other=[1, 2])),
    "drafts of a number": set_attribute(None, "llm_sweep_draft_model", 1.0),
    "an overload that is no flag": lambda d: d.assign(
        inflight_overload=d.feasible * 0.5, inflight_feasible=d.feasible, inflight_ttft=d.ttft
    ),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """A single file to recommend from."""
    names = ["ttft", "tpot", "output_throughput", "feasible"]
    keys = {axis: values for axis, values in UNEVEN.items() if axis in ("batch_size", "hardware")}
    grid = Grid(
        models=[model("llama")],
        precision=[precision()],
        isl=[100],
        osl=[10],
        variables=names,
        **keys,
    )
    path = tmp_path_factory.mktemp("served") / "out.nc"
    sweep.write_netcdf(sweep.run(grid), path)
    return path


@pytest.mark.parametrize("change", FOREIGN)
def test_a_foreign_result_is_refused_or_fails_the_check(change, served, call, tmp_path) -> None:
    path = tmp_path / "theirs.nc"
    with xr.open_dataset(served, decode_cf=False) as plain:
        FOREIGN[change](plain.load()).to_netcdf(path)
    code, out, err = call("check", path)
    assert code in (1, 2), out
    assert "Traceback" not in err and "\x1b" not in out + err
    assert all(len(line) < LONGEST_LINE for line in out.splitlines())
    pair = ("--hardware", "one", "two", "--variable", "ttft")
    for words in (
        ("compare", path, *pair),
        ("recommend", "--from", path),
        ("export", path, tmp_path / "out.csv"),
        ("reduce", path, tmp_path / "reduced.nc", "--reduce", "argmin:ttft"),
    ):
        code, out, err = call(*words)
        assert code in (0, 1, 2) and "\x1b" not in out + err
        assert len(err) < LONGEST_LINE


def test_a_result_that_lacks_a_value_of_its_grid_fails_the_check(served, tmp_path) -> None:
    with xr.open_dataset(served, decode_cf=False) as plain:
        plain.load().isel(batch_size=slice(1, None)).to_netcdf(tmp_path / "part.nc")
    told = "axis batch_size does not have the values that llm_sweep_grid records"
    assert told in check_file(tmp_path / "part.nc")


SERVED_BY = {
    "ttft": "inflight_ttft",
    "tpot": "inflight_tpot",
    "output_throughput": "inflight_output_throughput",
    "batch_size": "concurrency",
}
NO_DEPLOYMENTS = {
    "drafts of an unknown model": (
        set_attribute(None, "llm_sweep_draft_model", "theirs"),
        "drafts of 'theirs', which the catalog lacks",
    ),
    "no lengths": (lambda d: d.isel(isl=0, drop=True), "no axis isl"),
    "one time over another axis": (
        lambda d: d.assign(tpot=d.tpot.expand_dims(image_size=[1, 2])),
        "several image_size",
    ),
    "a server that holds all requests there are": (
        lambda d: d.rename(SERVED_BY).assign(
            inflight_concurrency=d.ttft.rename(batch_size="concurrency") * np.inf
        ),
        "infinitely many requests",
    ),
}


@pytest.mark.parametrize("change", NO_DEPLOYMENTS)
def test_what_has_no_deployments_is_not_ranked(change, served, call, tmp_path) -> None:
    path, (changed, told) = tmp_path / "theirs.nc", NO_DEPLOYMENTS[change]
    with xr.open_dataset(served, decode_cf=False) as plain:
        changed(plain.load()).to_netcdf(path)
    refused(call("recommend", "--from", path, "--concurrency", 8), told)


UNUSABLE = {
    "a blank calibration": (
        set_attribute(None, "efficiency", " "),
        "the global attribute efficiency is blank",
    ),
    "a value twice": (
        lambda d: d.assign_coords(batch_size=("batch_size", np.full(d.sizes["batch_size"], 5.0))),
        "the axis batch_size has a value twice",
    ),
    "values for none that differ": (
        set_attribute("ttft", "missing_value", np.float32(1e18)),
        "ttft: _FillValue and missing_value differ",
    ),
    "a fill value of the whole": (
        set_attribute(None, "_FillValue", "none"),
        "the global attribute _FillValue is neither text nor a number",
    ),
    "a variable of words": (
        lambda d: d.assign(ttft=d.ttft.astype(str)),
        "ttft has values of type",
    ),
    "a count that is none": (
        lambda d: d.assign_coords(tp=("tp", [0.5])),
        "the axis tp has values that are no counts",
    ),
    "an axis over another": (
        lambda d: d.drop_vars("isl").assign(isl=("hardware", [100, 200])),
        "the axis isl has no values",
    ),
    "a label twice": (
        lambda d: d.assign_coords(hardware_name=("hardware", ["one"] * d.sizes["hardware"])),
        "has a value twice",
    ),
}


@pytest.mark.parametrize("change", UNUSABLE)
def test_what_no_command_can_use_is_refused_by_all(change, served, call, tmp_path) -> None:
    path, (changed, told) = tmp_path / "theirs.nc", UNUSABLE[change]
    with xr.open_dataset(served, decode_cf=False) as plain:
        changed(plain.load()).to_netcdf(path)
    for words in (
        ("compare", path, "--hardware", "one", "two", "--variable", "ttft"),
        ("recommend", "--from", path),
        ("report", path, "-o", tmp_path / "out.html"),
        ("export", path, tmp_path / "out.csv", "--select", "batch_size=5"),
        ("reduce", path, tmp_path / "reduced.nc", "--reduce", "argmin:ttft"),
    ):
        refused(call(*words), told)


def test_damage_inside_compressed_values_is_one_line(served, call, tmp_path) -> None:
    """A file without a seal, whose values are only read when they are used."""
    path, chance = tmp_path / "theirs.nc", random.Random(2)
    with xr.open_dataset(served, decode_times=False) as plain:
        how = {str(n): {"zlib": True, "fletcher32": True} for n in plain.data_vars}
        plain.load().to_netcdf(path, encoding=how)
    content = path.read_bytes()
    places = [m.start() for m in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content)]
    assert places
    for place in places:
        changed = bytearray(content)
        changed[place + 3 + chance.randrange(4)] ^= 255
        path.write_bytes(changed)
        for words in (
            ("export", path, tmp_path / "out.nc", "--force"),
            ("export", path, tmp_path / "out.csv", "--force"),
            ("reduce", path, tmp_path / "out.nc", "--force", "--reduce", "argmin:ttft"),
        ):
            code, _, err = call(*words)
            assert code in (0, 2)
            assert "out.nc: cannot be written" not in err
