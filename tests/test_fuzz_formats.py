"""Every file format that is read, under mutation: a result, or one line.

The ordinary tests draw a few cases of each; `python -m pytest -m campaign tests/test_fuzz_*.py`
draws as many as `FUZZ_CASES` says, 10,000 if it says nothing.
"""

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzing
import netCDF4
import numpy as np
import pytest
import xarray as xr
import yaml
from factories import UNEVEN, hardware, model, precision, shipped
from test_report_formats import LLMPERF, OLDEST, SGLANG, STAGE, guidellm
from test_reports import PHASED, STREAMED, TRTLLM, VLLM

import sweep
from calibration.measurements.table import read_measurements
from sweep.decisions.prices import read_prices
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.evaluation.plan import make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.models.read import read_model
from sweep.runs.check_results import check_directory, check_file
from sweep.runs.run import load_grid
from sweep.runs.run_folder import Directory, begun
from sweep.runs.shards import run_shards
from sweep.specs.catalog import Catalog
from sweep.specs.files import read_mapping
from sweep.specs.seal import fault_of_seal, seal

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"

SWEEP = """
models: [llama-3.1-8b, qwen3-8b]
hardware: [h20-96gb, {base: h100-sxm-80gb, name: wide, memory_bytes: 1.6e+11}]
precision: [fp16, fp8]
tp: [1, 2]
batch_size: {powers_of: 2, start: 1, stop: 64}
isl: [128, 1000]
osl: {start: 10, stop: 100, step: 30}
variables: [ttft, tpot, feasible]
"""
CSV = """id,engine,engine_version,scenario,model,hardware,tp,weight_dtype,isl,osl,metric,value,unit
a,vllm,0.9.1,inflight,llama-3.1-8b,h20-96gb,1,fp8,128,128,output_throughput,5000,s-1
b,vllm,0.9.1,inflight,llama-3.1-8b,h20-96gb,2,,128,128,tpot,0.02,s
"""
PRICES = "hardware,price_usd_per_hour\nh20-96gb,2.5\nl20,1\n"
REPORTS: dict[str, Any] = {
    "trtllm": TRTLLM | STREAMED,
    "vllm": VLLM,
    "vllm list": [VLLM, VLLM],
    "aiperf": PHASED,
    "genai-perf": OLDEST,
    "sglang": SGLANG,
    "guidellm": {"benchmarks": [guidellm({"type_": "concurrent", "streams": 8})]},
    "inference-perf": STAGE,
    "llmperf": LLMPERF,
    "aiperf sweep": {
        "aggregation_type": "sweep",
        "per_combination_metrics": [{"parameters": {"concurrency": 8}, "metrics": OLDEST}],
    },
}
EVERYTHING = {
    **{"hardware": "h100-sxm-80gb", "tp": 1, "model": "qwen3-8b", "weight_dtype": "half"},
    **{"concurrency": 8, "isl": 100, "osl": 100, "dp_attention": 1, "kv_dtype": "half"},
}
SMALL_CALIBRATION: dict[str, Any] = {
    "name": "small",
    "engine": "vllm",
    "engine_version": "0.9.1",
    "provenance": {"rows": 3, "told_only_together": [["gemm", "software"]], "rows_set_aside": []},
    "factors": {
        "gemm": {"value": 0.7, "standard_error": 0.1, "verdict": "determined"},
        "step_overhead_s": {"value": 4e-4},
    },
    "deviations": {"gemm": {"hardware": {"l20": {"value": 0.9, "standard_error": 0.1}}}},
    "settings": {"reserved_memory_bytes": {"default": 8e9}},
    "halfwidths": {"inflight": {"seen": 0.15, "unseen_model": 0.6}},
    "seen": {"hardware": ["l20"], "model": ["qwen3-8b"], "dtype": ["half"], "family": ["qwen3"]},
    "spreads": {"requests": {"to 8": 0.8}, "experts": {"none": 1.1}},
    "ranges": {"inflight": {"concurrency": [4.0, 1024.0], "isl": [922.0, 8000.0]}},
}


def read_sweep(path: Path) -> object:
    return make_plan(resolve(load_grid(path), shipped()))


def read_calibration(path: Path) -> Calibration | None:
    """A calibration that is read has numbers that a kernel can compute with."""
    found = load_calibration(path)
    assert found is not None
    machines = [hardware()]
    values = found.grid([read_model(model("llama"))], machines, [precision()])
    for factor in found.used:
        low = np.asarray(values[factor]).min()
        assert low >= 0 and (np.isfinite(values[factor]).all() or factor == "one_shot_s"), factor
    return found


def measurements(path: Path) -> object:
    return read_measurements(path, settings=EVERYTHING)


TEXTS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "sweep": (".yaml", SWEEP, read_sweep),
    "hardware": (
        ".yaml",
        (CONFIGS / "hardware/h20-96gb.yaml").read_text("utf-8"),
        lambda path: Catalog().hardware(str(path)),
    ),
    "precision": (
        ".yaml",
        (CONFIGS / "precisions/w4a16.yaml").read_text("utf-8"),
        lambda path: Catalog().precision(str(path)),
    ),
    "model": (
        ".yaml",
        (CONFIGS / "models/qwen3-8b.yaml").read_text("utf-8"),
        lambda path: read_model(Catalog().model(str(path))),
    ),
    "config": (
        ".json",
        json.dumps({"model_type": "llama", **model("llama").config}, indent=1),
        lambda path: read_model(Catalog().model(str(path))),
    ),
    "calibration": (".yaml", yaml.safe_dump(SMALL_CALIBRATION), read_calibration),
    "table": (".csv", CSV, measurements),
    "report": (".json", json.dumps(VLLM), measurements),
    "lines": (".jsonl", json.dumps(SGLANG) + "\n" + json.dumps(SGLANG), measurements),
    "prices": (".csv", PRICES, read_prices),
    "prices by name": (".yaml", "h20-96gb: 2.5\nl20: 1\n", read_prices),
}
"""Ending, sound text and reader of each format in text."""


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


FEW_AND_MANY = pytest.mark.parametrize(
    "count",
    [
        pytest.param(fuzzing.FEW, id="few"),
        pytest.param(fuzzing.CASES, id="campaign", marks=pytest.mark.campaign),
    ],
)
"""Cases of the ordinary tests, and those of a campaign."""


@FEW_AND_MANY
@pytest.mark.parametrize("kind", TEXTS)
def test_edited_text(kind: str, count: int, tmp_path: Path) -> None:
    ending, base, read = TEXTS[kind]
    path = tmp_path / f"file{ending}"
    assert fuzzing.outcome(lambda: read(put(path, base))) is not None

    fuzzing.attack(
        f"text of {kind}",
        count,
        lambda chance: fuzzing.outcome(lambda: read(put(path, fuzzing.edited_text(chance, base)))),
    )


TREES: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "sweep": (yaml.safe_load(SWEEP), read_sweep),
    "hardware": (
        yaml.safe_load(TEXTS["hardware"][1]),
        lambda path: Catalog().hardware(str(path)),
    ),
    "model": (
        {"model_type": "deepseek_v2", **model("deepseek_v2").config},
        lambda path: read_model(Catalog().model(str(path))),
    ),
    "calibration": (SMALL_CALIBRATION, read_calibration),
    **{f"report of {tool}": (data, measurements) for tool, data in REPORTS.items()},
    "records": (
        [
            {
                "scenario": "inflight",
                "model": "qwen3-8b",
                "hardware": "l20",
                "isl": 8,
                "osl": 8,
                "metric": "tpot",
                "value": 0.1,
                "weight_dtype": "half",
            },
            {
                "scenario": "inflight",
                "model": "qwen3-8b",
                "hardware": "l20",
                "isl": 9,
                "osl": 8,
                "metric": "tpot",
                "value": 0.1,
                "precision": "fp8",
            },
        ],
        measurements,
    ),
    "prices": ({"h20-96gb": 2.5, "l20": 1}, read_prices),
}
"""Sound values and reader of each format, written as JSON."""


@FEW_AND_MANY
@pytest.mark.parametrize("kind", TREES)
def test_edited_values(kind: str, count: int, tmp_path: Path) -> None:
    base, read = TREES[kind]
    path = tmp_path / "config.json"
    assert fuzzing.outcome(lambda: read(put(path, json.dumps(base)))) is not None

    def attempt(chance: random.Random) -> None:
        text = json.dumps(fuzzing.edited_tree(chance, base))
        fuzzing.outcome(lambda: read(put(path, text)))

    fuzzing.attack(f"values of {kind}", count, attempt)


# Binary files.


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    """A small sealed result."""
    axes = ("hardware", "batch_size", "isl")
    keys = {axis: values[:2] for axis, values in UNEVEN.items() if axis in axes}
    grid = Grid(
        models=[model("llama")],
        precision=[precision()],
        osl=[10],
        variables=["ttft", "tpot", "output_throughput", "feasible"],
        **keys,
    )
    path = tmp_path_factory.mktemp("result") / "out.nc"
    sweep.write_netcdf(sweep.run(grid), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small folder of shards."""
    keys = {axis: values[:2] for axis, values in UNEVEN.items() if axis in ("batch_size", "isl")}
    grid = Grid(
        models=[model("llama")],
        hardware=[hardware()],
        precision=[precision()],
        osl=[10],
        variables=["ttft", "feasible"],
        **keys,
    )
    path = tmp_path_factory.mktemp("folder") / "out"
    with begun(path, make_plan(resolve(grid, shipped()), shards=2)) as directory:
        run_shards(directory, directory.shards())
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """The NetCDF file of a fit, as far as a sweep reads it."""
    path = tmp_path_factory.mktemp("fit") / "fit.nc"
    text = json.dumps(SMALL_CALIBRATION)
    xr.Dataset(attrs={"llm_sweep_efficiency": text}).to_netcdf(path)
    seal(path)
    return path


def opened(path: Path) -> xr.Dataset:
    with sweep.open_results(path) as found:
        return found.compute()


def as_it_was(found: xr.Dataset | None, sound: xr.Dataset) -> bool:
    return found is None or sound.identical(found)


@FEW_AND_MANY
def test_damaged_results(count: int, result: Path, tmp_path: Path) -> None:
    """A changed byte is noticed before the NetCDF library sees it."""
    base, path, sound = result.read_bytes(), tmp_path / "out.nc", opened(result)

    def attempt(chance: random.Random) -> None:
        content = fuzzing.damaged(chance, base)
        path.write_bytes(content)
        # Without most of its seal a file counts as one of another program.
        if content != base and fault_of_seal(path, needed=False):
            assert fuzzing.outcome(lambda: opened(path)) is None
            assert fuzzing.outcome(lambda: check_file(path)) in (
                ["is damaged: its checksum differs"],
                None,
            )
        elif content == base:
            assert as_it_was(opened(path), sound)

    fuzzing.attack("damaged results", count, attempt)


SHARE_OF_CF = 0.02
"""Share of the cases that the CF checker sees. [1]"""
OF_THE_LIBRARY = {"crashed", "waited"}
"""What the NetCDF library may do on a damaged file that nothing seals; `SECURITY.md` says so."""


@pytest.mark.campaign
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_results_without_a_seal(packed: bool, result: Path, tmp_path: Path) -> None:
    """Read, or refused in one line, unless the NetCDF library itself crashes or waits."""
    path, cases = tmp_path / "theirs.nc", fuzzing.CASES // 2
    with xr.open_dataset(result, decode_times=False) as plain:
        how = {"zlib": True, "fletcher32": True} if packed else {}
        names = plain.data_vars if packed else ()
        plain.load().to_netcdf(path, encoding={str(name): how for name in names})
    base, found = path.read_bytes(), Counter[str]()
    reader = fuzzing.Reader()
    for case, chance in enumerate(fuzzing.cases(f"bytes, packed: {packed}", cases)):
        path.write_bytes(fuzzing.damaged(chance, base))
        outcome = reader.outcome(path)
        found[outcome] += 1
        if outcome not in {"read", "refused", *OF_THE_LIBRARY}:
            shutil.copy(path, tmp_path / f"{case}.nc")
    reader.close()
    print(dict(found))
    assert set(found) <= {"read", "refused", *OF_THE_LIBRARY}, found
    assert sum(found[word] for word in OF_THE_LIBRARY) < 0.02 * cases


@FEW_AND_MANY
def test_damaged_calibrations(count: int, fitted: Path, tmp_path: Path) -> None:
    base, path = fitted.read_bytes(), tmp_path / "fit.nc"
    sound = load_calibration(fitted)

    def attempt(chance: random.Random) -> None:
        content = fuzzing.damaged(chance, base)
        path.write_bytes(content)
        if fault_of_seal(path, needed=False):
            assert fuzzing.outcome(lambda: load_calibration(path)) is None
        elif content == base:
            assert load_calibration(path) == sound

    fuzzing.attack("damaged calibrations", count, attempt)


@FEW_AND_MANY
def test_calibrations_with_edited_values_in_netcdf(count: int, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"

    def attempt(chance: random.Random) -> None:
        text = json.dumps(fuzzing.edited_tree(chance, SMALL_CALIBRATION))
        with netCDF4.Dataset(path, "w") as file:
            file.setncattr("llm_sweep_efficiency", text)
        fuzzing.outcome(lambda: read_calibration(path))

    fuzzing.attack("calibrations in NetCDF", count, attempt)


ATTRIBUTES = [
    0,
    -1.5,
    np.nan,
    "",
    "x",
    "\x1b[31m",
    "é",
    "[" * 9999,
    "{}",
    "[]",
    "x" * 9999,
    np.arange(3),
    np.ones(2),
    "8 s",
    '{"model": [1]}',
    10**18,
]
"""Values of attributes in files of other programs."""


def foreign(chance: random.Random, base: xr.Dataset) -> xr.Dataset:
    """A result of another program: sound HDF5 with other attributes, values, axes and names."""
    dataset = base.copy(deep=True)
    for _ in range(chance.randint(1, 3)):
        name = chance.choice([None, *map(str, dataset.variables)])
        attributes = dataset.attrs if name is None else dataset[name].attrs
        kind = chance.choice(
            ["attribute", "attribute", "drop", "values", "remove", "new", "shape", "shape"]
        )
        strange = ("scale_factor", "missing_value", "_FillValue", "coordinates")
        key = chance.choice([*map(str, attributes), *strange])
        if kind == "attribute":
            attributes[key] = chance.choice(ATTRIBUTES)
        elif kind == "drop":
            attributes.pop(key, None)
        elif kind == "values" and name in dataset.data_vars and dataset[name].dtype.kind in "fiu":
            scale = chance.choice([0.0, -1.0, np.nan, np.inf, 1e30])
            dataset[name] = dataset[name].astype(float) * scale
        elif kind == "remove" and name in dataset.variables:
            dataset = dataset.drop_vars([name])
        elif kind == "shape":
            dataset = reshaped(chance, dataset)
        else:
            new = chance.choice(["extra", "ttft", "x y", "feasible"])
            dataset[new] = ("other",), np.arange(2)
    return dataset


def reshaped(chance: random.Random, dataset: xr.Dataset) -> xr.Dataset:
    """The same with another axis, or a variable of another type or over other axes."""
    axis = str(chance.choice([dim for dim in dataset.dims if dim in dataset.variables]))
    name = str(chance.choice(list(dataset.data_vars)))
    values = dataset[axis].values.astype(float)
    values[chance.randrange(values.size)] = chance.choice([0, -1, 0.5, 1.5, 1e30, np.nan, np.inf])
    more = chance.choice(["pp", "request_rate", "quantile", "isl_cv", "image_size", "other"])
    wide = dataset.drop_vars(more, errors="ignore")
    kind = chance.choice(["one", "lacking", "values", "type", "over", "wide", "more"])
    match kind:
        case "one" | "lacking":
            return dataset.isel({axis: 0}, drop=kind == "lacking")
        case "values":
            return dataset.assign_coords({axis: (axis, values, dataset[axis].attrs)})
        case "type":
            return dataset.assign({name: dataset[name].astype(chance.choice(["U4", "u1", "f8"]))})
        case "over":
            return dataset.drop_vars(axis).assign({axis: ("hardware", [7])})
        case "wide":
            return wide.assign({name: wide[name].expand_dims({more: [1, 2]})})
        case _:
            return dataset.expand_dims({more: [1, 2]})


COMMANDS = (
    ("recommend", "--from", "{}", "--isl", "128"),
    ("compare", "{}", "--hardware", "one,two", "--variable", "ttft"),
    ("export", "{}", "out.csv", "--force"),
    ("export", "{}", "out.zarr", "--force"),
    ("reduce", "{}", "reduced.nc", "--force", "--reduce", "argmin:ttft"),
    ("reduce", "{}", "reduced.nc", "--force", "--reduce", "quantile:0.5:isl"),
)
"""Commands that use a result."""
SHARE_OF_COMMANDS = 0.05
"""Share of the cases that all of them see. [1]"""


@FEW_AND_MANY
def test_results_of_other_programs(
    count: int, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    path = tmp_path / "theirs.nc"
    monkeypatch.chdir(tmp_path)
    with xr.open_dataset(result, decode_cf=False) as plain:
        base = plain.load()

    def attempt(chance: random.Random) -> None:
        try:
            foreign(chance, base).to_netcdf(path)
        except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError):
            return
        fuzzing.outcome(lambda: opened(path))
        # The CF checker takes most of the time, and sees a part of the cases.
        with_cf = chance.random() < SHARE_OF_CF
        monkeypatch.setattr("sweep.runs.check_results.has_compliance_checker", lambda: with_cf)
        fuzzing.outcome(lambda: check_file(path))
        if chance.random() < SHARE_OF_COMMANDS:
            for words in COMMANDS:
                code, _, error = call(*(word.format(path) for word in words))
                assert code in (0, 1, 2) and len(error) < fuzzing.LONGEST_LINE, (words, error)

    fuzzing.attack("results of other programs", count, attempt)


@FEW_AND_MANY
def test_edited_folders_of_shards(
    count: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited plan, damaged and exchanged shards: refused, or what it was."""
    sound, copy = opened(folder), tmp_path / "out"
    plan = json.loads((folder / "plan.json").read_text())
    shards = sorted(path.name for path in folder.glob("shard-*.nc"))

    def attempt(chance: random.Random) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        file = copy / "plan.json"
        kind = chance.choice(["plan", "resealed", "text", "shard", "exchange"])
        if kind in ("plan", "resealed"):
            tree = fuzzing.edited_tree(chance, plan)
            if kind == "resealed":
                resealed(folder, tree)
            put(file, json.dumps(tree))
        elif kind == "text":
            put(file, fuzzing.edited_text(chance, json.dumps(plan)))
        elif kind == "exchange":
            one, other = (copy / name for name in shards[:2])
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
        else:
            shard = copy / chance.choice(shards)
            shard.write_bytes(fuzzing.damaged(chance, shard.read_bytes()))
        found = fuzzing.outcome(lambda: opened(copy))
        if kind != "resealed":
            assert found is None or sound.equals(found)
        with_cf = chance.random() < SHARE_OF_CF
        monkeypatch.setattr("sweep.runs.check_results.has_compliance_checker", lambda: with_cf)
        fuzzing.outcome(lambda: check_directory(copy))

    fuzzing.attack("folders of shards", count, attempt)


def resealed(folder: Path, tree: Any) -> None:
    """Give an edited plan the seal of its content, if it is a plan at all."""
    try:
        recorded = type(Directory.load(folder).recorded)
        tree["seal"] = recorded.model_validate(tree).content_digest()
    except Exception:
        return


# Cases that were found once.

CORPUS = Path(__file__).parent / "corpus"
READERS: dict[str, Callable[[Path], object]] = {
    **{kind.replace(" ", "-"): read for kind, (_, _, read) in TEXTS.items()},
    "result": opened,
}


@pytest.mark.parametrize(
    "case", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_case_that_was_found_once(case: Path) -> None:
    fuzzing.outcome(lambda: READERS[case.parent.name](case))


def test_the_corpus_has_cases_of_known_formats() -> None:
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders and folders <= set(READERS)


def test_a_read_mapping_is_what_was_written(tmp_path: Path) -> None:
    path = put(tmp_path / "x.yaml", yaml.safe_dump(SMALL_CALIBRATION))
    assert read_mapping(path) == SMALL_CALIBRATION
    assert os.access(path, os.R_OK)
