"""The public functions `recommend`, `explain` and `compare`, and what editors see of `Grid`."""

import inspect
import json

import pytest
import xarray as xr

import sweep
from sweep.errors import SpecError, SweepError
from sweep.grid.grid import Grid
from sweep.schema.axes import AXES

PAIR = {"models": ["llama-2-7b"], "hardware": ["a100-sxm-80gb", "h20-96gb"]}
CELL = {"batch_size": 8, "isl": 512, "osl": 128}


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    axes = {"batch_size": [1, 64], "context_len": [128, 1024]}
    names = ["decode_step_latency", "global_decode_step_latency", "feasible"]
    return sweep.run(Grid(**PAIR, **axes, variables=names))


def test_grid_names_each_of_its_keys() -> None:
    known = [
        name
        for name, parameter in inspect.signature(Grid.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    assert known == list(Grid.model_fields)
    assert set(AXES) - {"model", "hardware", "precision", "context_len"} <= set(known)


def test_grid_refuses_an_unknown_key_with_a_guess() -> None:
    with pytest.raises(SpecError, match="hardwares: unknown key; did you mean 'hardware'"):
        Grid(models=PAIR["models"], hardwares=["l20"], variables=["ttft"])


def test_compare_returns_the_ratio_with_its_answer(results) -> None:
    found = sweep.compare(results, "a100", "H20")
    step = results.decode_step_latency.sel(model="llama-2-7b").squeeze(drop=True)
    by_hand = step.sel(hardware="h20-96gb") / step.sel(hardware="a100-sxm-80gb")
    ratio = found.decode_step_latency.sel(model="llama-2-7b")
    runs = ratio.notnull()
    assert bool(runs.all())
    by_hand = by_hand.transpose("batch_size", "context_len")
    assert ratio.values == pytest.approx(by_hand.values)
    assert set(found.data_vars) == {"decode_step_latency", "global_decode_step_latency"}
    assert found.decode_step_latency.attrs["answer"][0].startswith("llama-2-7b, decode_step_la")


def test_compare_says_what_the_command_says(results, call, tmp_path) -> None:
    path = tmp_path / "result.nc"
    sweep.write_netcdf(results, path)
    found = sweep.compare(path, "a100-sxm-80gb", "h20-96gb")
    for pair in (["a100,H20"], ["a100", "H20"], ["a100-sxm-80gb", "--hardware", "h20-96gb"]):
        code, out, _ = call("compare", path, "--hardware", *pair, "--json")
        assert code == 0
        answers = {row["variable"]: row["answer"] for row in json.loads(out)}
        assert answers == {str(n): array.attrs["answer"][0] for n, array in found.items()}


@pytest.mark.slow
def test_values_of_an_axis_are_compared_on_the_accelerator_that_is_named(
    results, call, tmp_path
) -> None:
    path = tmp_path / "result.nc"
    sweep.write_netcdf(results, path)
    words = ["compare", path, "--between", "batch_size=64,1", "--json"]
    # The accelerator is chosen in both; of two axes one is left, too few for a map.
    found = call(*words, "--hardware", "a100")
    assert found == call(*words, "--select", "hardware=a100-sxm-80gb")
    assert "one axis only" in found[2]
    assert "two accelerators" in call(*words, "--hardware", "a100,h20-96gb")[2]


def test_explain_returns_what_the_command_prints(call) -> None:
    found = sweep.explain("llama-2-7b", "L40S", tp=2, **CELL)
    code, out, _ = call(
        *("explain", "--model", "llama-2-7b", "--hardware", "L40S", "--tp", 2),
        *("--batch-size", 8, "--isl", 512, "--osl", 128, "--json"),
    )
    told = json.loads(out)
    assert code == 0
    assert float(found.latency.sel(phase="prefill").sum()) == pytest.approx(float(found.ttft))
    assert float(found.tpot) == pytest.approx(told["figures"]["tpot"])
    assert float(found.device_memory) == 48e9 or float(found.device_memory) < 48e9 * 1.08
    assert set(found.elasticity.dims) == {"quantity", "resource"}
    assert found.attrs["calibration"] == "ideal"


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning")
def test_a_calibrated_server_is_explained_without_a_warning_of_a_library() -> None:
    where = {"isl": 512, "osl": 128, "concurrency": 8}
    found = sweep.explain("llama-3.1-8b", "l20", calibration="vllm", **where)
    assert float(found.inflight_tpot) > 0


@pytest.mark.slow
def test_recommend_ranks_as_the_command_does(call) -> None:
    asked = {"isl": 512, "osl": 128, "tp": 1, "pp": 1, "concurrency": 32}
    found = sweep.recommend("llama-2-7b", hardware=["L40S", "a100-80gb-sxm"], **asked)
    code, out, _ = call(
        *("recommend", "--model", "llama-2-7b", "--isl", 512, "--osl", 128, "--tp", 1, "--pp", 1),
        *("--concurrency", 32, "--hardware", "L40S,A100-SXM-80GB", "--json"),
    )
    told = json.loads(out)
    assert code == 0
    assert found["hardware"].tolist() == [row["hardware"] for row in told["ranked"]]
    assert found["score"].tolist() == pytest.approx([row["score"] for row in told["ranked"]])
    assert found.attrs["answer"] == told["answer"]
    assert found.attrs["calibration"].startswith("tensorrt-llm ")


SETTINGS = {
    "gpu_memory_utilization": 0.5,
    "kept_context": 0.25,
    "reserved_osl": 0.5,
    "max_batch_size": 48,
    "max_num_tokens": 2000,
    "expert_imbalance": 1.5,
}
"""Settings of a server, none of them the default."""
OPTIONS = [
    *("--gpu-memory-utilization", "0.5", "--kept-context", "0.25"),
    *("--reserved-osl", "max_utilization", "--max-batch-size", "48", "--max-num-tokens", "2k"),
    *("--expert-imbalance", "1.5"),
]
REQUESTS = ["--model", "mixtral-8x7b", "--isl", "512", "--osl", "128"]


class Asked(SweepError):
    """Ends a command with what it is about to compute."""


def test_settings_of_a_server_reach_the_cell_of_explain(call, monkeypatch) -> None:
    grids: list[Grid] = []

    def stop(grid: Grid, **_: object) -> None:
        grids.append(grid)
        raise Asked("stop")

    monkeypatch.setattr("sweep.decisions.explain.explain", stop)
    words = ["explain", *REQUESTS, "--hardware", "l40s", "--concurrency", "8", *OPTIONS]
    # vLLM has a share of its own, which the given one replaces.
    assert call(*words, "--calibration", "vllm")[0] == 2
    assert {axis: grids[0].numbers[axis] for axis in SETTINGS} == {
        axis: [value] for axis, value in SETTINGS.items()
    }


def test_settings_of_a_server_reach_the_sweep_of_recommend(call, monkeypatch) -> None:
    grids: list[Grid] = []

    def stop(grid: Grid, *_: object) -> None:
        grids.append(grid)
        raise Asked("stop")

    monkeypatch.setattr("sweep.decisions.deployment_sweep.resolve", stop)
    words = ["recommend", *REQUESTS, "--hardware", "l40s", "--tp", "2", "--pp", "1", *OPTIONS]
    assert call(*words, "--ep", "1,2", "--calibration", "vllm")[0] == 2
    settings = {**SETTINGS, "isl_cv": 0.5}
    with pytest.raises(Asked):
        sweep.recommend(
            "mixtral-8x7b", isl=512, osl=128, hardware="l40s", tp=2, ep=[1, 2], **settings
        )
    for grid in grids:
        assert grid.numbers["ep"] == [1, 2]
        for axis, value in SETTINGS.items():
            assert grid.numbers[axis] == [value]
    assert grids[1].numbers["isl_cv"] == [0.5]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"max_batchsize": 8}, "no argument 'max_batchsize'; did you mean 'max_batch_size'"),
        ({"isl_cv": [0.1, 0.2]}, "isl_cv: give one value, not 2"),
        ({"max_batch_size": 8, "results": xr.Dataset()}, "max_batch_size: the results have their"),
        ({"isl": "4k"}, "isl: must be an integer above 0, and '4k' is not"),
        ({"osl": 0.5}, "osl: must be an integer above 0, and 0.5 is not"),
        ({"tp": "1,2"}, "tp: every value must be an integer, and '1,2' is not"),
        ({"concurrency": 0}, "concurrency: must be an integer above 0"),
        ({"max_tpot": -1.0}, "max_tpot: must be a number above 0"),
        ({"requests_per_s": float("inf")}, "requests_per_s: must be a number above 0"),
    ],
)
def test_arguments_that_recommend_cannot_take_are_refused(axes, words) -> None:
    with pytest.raises(SpecError, match=words):
        sweep.recommend("llama-2-7b", **{"isl": 512, "osl": 128, **axes})


def test_alternatives_of_a_memory_share_are_refused_in_one_line(call) -> None:
    for command in ("explain", "recommend"):
        words = [command, *REQUESTS, "--hardware", "l40s", "--concurrency", "8"]
        shares = ["--kv-cache-fraction", "0.5", "--mem-fraction-static", "0.8"]
        code, _, error = call(*words, *shares)
        assert code == 2
        assert "--kv-cache-fraction and --mem-fraction-static are alternatives" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--expert-imbalance", "nan", "'nan' is not a finite number; allowed: number>=1"),
        ("--kv-cache-fraction", "most", "'most' is not a finite number; allowed: 0<number<=1"),
        ("--isl-cv", "nan", "'nan' is not a finite number; allowed: 0<=number<=10"),
        ("--expert-imbalance", "1e308", "from 1 to below 1e6, and 1e+308 is not"),
        ("--request-rate", "1e10", "above 0 and below 1e9, and 10000000000.0 is not"),
    ],
)
def test_a_refused_number_says_what_is_allowed(call, option, value, words) -> None:
    load = [] if option == "--request-rate" else ["--concurrency", "8"]
    code, out, error = call("explain", *REQUESTS, "--hardware", "l40s", *load, option, value)
    assert (code, out, len(error.splitlines())) == (2, "", 1)
    assert error.rstrip(".\n").endswith(words)


def test_missing_arguments_are_named() -> None:
    with pytest.raises(SpecError, match="needs model, isl and osl"):
        sweep.recommend("llama-2-7b", isl=512)
    grid = Grid(**PAIR, batch_size=[1], context_len=[128], variables=["decode_step_latency"])
    with pytest.raises(SpecError, match="both given"):
        sweep.run(grid, calibration="ideal", efficiency="ideal")
