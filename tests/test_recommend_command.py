"""Recommendations from results, and the command: what it prints, draws and refuses."""

import json

import pytest
from factories import shipped
from test_recommendation import ISL, MODEL, OSL

import sweep
from sweep.decisions.deployment_table import read_deployments
from sweep.decisions.deployments import Offer
from sweep.decisions.recommend import Demand, recommend
from sweep.engines.calibration_file import load_calibration
from sweep.errors import ResultError

# From a result.


@pytest.fixture(scope="module")
def static():
    """A result of static batches, as the shipped long sweeps are."""
    names = ["ttft", "tpot", "output_throughput", "feasible"]
    return sweep.run(
        sweep.Grid(
            models=[MODEL, "llama-2-7b"],
            hardware=["l20", "rtx-4090"],
            precision=["fp16"],
            tp=[1, 2],
            batch_size=[1, 8, 64],
            isl=[128, 512],
            osl=[128],
            variables=names,
        )
    )


@pytest.mark.slow
def test_a_result_of_static_batches_will_do(static) -> None:
    read = read_deployments(static, Offer(), catalog=shipped(), model=MODEL, isl=512)
    best = recommend(read, Demand()).ranked.iloc[0]
    part = static.sel(model=MODEL, isl=512)
    per_gpu = part["output_throughput"] / part["tp"]
    assert best["score"] == pytest.approx(float(per_gpu.max()))


def test_a_result_must_have_what_is_asked(static) -> None:
    for given, words in (
        ({}, "several model"),
        ({"model": MODEL}, "several isl"),
        ({"model": "llama-3-8b", "isl": 512}, "no model llama-3-8b"),
        ({"model": MODEL, "isl": 100}, "no isl 100"),
        ({"model": MODEL, "isl": 512, "concurrency": 9, "replicas": 1}, "no batch_size 9"),
    ):
        with pytest.raises(ResultError, match=words):
            read_deployments(static, Offer(), catalog=shipped(), **given)
    reduced = sweep.reduce(static, "best:tp")
    with pytest.raises(ResultError, match="reduced already, by best:tp"):
        read_deployments(reduced, Offer(), catalog=shipped(), model=MODEL, isl=512)
    with pytest.raises(ResultError, match="must have inflight_output_throughput"):
        read_deployments(static[["ttft"]], Offer(), catalog=shipped(), model=MODEL, isl=512)


def test_a_result_of_another_load_is_refused(static, call, tmp_path) -> None:
    """Servers whose requests arrive at a rate, or come in runs, are not ranked as if by clients."""
    names = {each: f"inflight_{each}" for each in ("ttft", "tpot", "output_throughput")}
    servers = static[list(names)].rename(names).isel(batch_size=0, drop=True)
    asked = {"catalog": shipped(), "model": MODEL, "isl": 512}
    assert len(read_deployments(servers, Offer(), **asked).frame)
    for axis, option in (("request_rate", "--request-rate"), ("num_requests", "--num-requests")):
        for load in (servers.expand_dims({axis: [5.0]}), servers.assign_coords({axis: 5.0})):
            with pytest.raises(ResultError, match=f"give {option} instead of a result"):
                read_deployments(load, Offer(), **asked)
    sweep.write_netcdf(static, tmp_path / "s.nc")
    for limit, variable in (("ttft", "inflight_ttft_p99"), ("tpot", "inflight_tpot_p99")):
        given = ("--model", MODEL, "--isl", 512, f"--max-{limit}-p99", 100)
        code, out, err = call("recommend", "--from", tmp_path / "s.nc", *given)
        assert (code, out) == (2, "")
        assert f"no {variable}, which --max-{limit}-p99 limits" in err


# The command.

ASKED = (
    "recommend",
    "--model",
    MODEL,
    "--isl",
    ISL,
    "--osl",
    OSL,
    "--hardware",
    "l20",
    "--hardware",
    "rtx-4090",
    "--tp",
    "1,2",
    "--pp",
    "1",
)


@pytest.mark.slow
def test_the_command_ranks_and_draws(call, tmp_path) -> None:
    picture = tmp_path / "front.png"
    code, out, err = call(*ASKED, "--front", "-o", picture)
    assert (code, err) == (0, "")
    for word in ("by tensorrt-llm", "rtx-4090", "bound by", "unseen_hardware", "Pareto front"):
        assert word in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_nothing_meets_the_limits_with_exit_status_1(call) -> None:
    code, out, err = call(*ASKED, "--max-tpot", 1e-4)
    assert (code, err) == (1, "")
    assert "nothing meets the limits" in out
    assert "times --max-tpot 0.0001" in out


def test_json_holds_the_answer(call, static, tmp_path) -> None:
    sweep.write_netcdf(static, tmp_path / "s.nc")
    code, out, _ = call(
        "recommend", "--from", tmp_path / "s.nc", "--model", MODEL, "--isl", 512, "--json"
    )
    told = json.loads(out)
    assert code == 0
    assert told["efficiency"] == "ideal"
    first = told["ranked"][0]
    assert (first["model"], first["isl"]) == (MODEL, 512)
    assert first["elasticities"]["memory_bandwidth"] > 0
    assert first["price"] is None
    assert told["front"]
    code, out, _ = call("compare", tmp_path / "s.nc", "--list")
    assert code == 0
    assert "output_throughput" in out
    assert "batch_size (3), isl (2)" in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--hardware", "rtx-409"), "did you mean 'rtx-4090'"),
        (("--precision", "mxfp4"), "no peak rate"),
        (("--tp", "1,x"), "is not an integer of at least 1"),
        (("--price", "l20"), "write NAME=USD"),
        (("--max-ttft", "0"), "max-ttft"),
        (("--max-ttft", "nan"), "'nan' is not a finite number above 0"),
        (("--requests-per-s", "inf"), "'inf' is not a finite number above 0"),
        (("--efficiency", "lmdeploy"), "unknown calibration"),
        (("--from", "none.nc", "--efficiency", "ideal"), "leave --calibration out"),
        (("--from", "none.nc"), "no such file"),
        (("--prices", "none.yaml"), "cannot be read"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call, more, words) -> None:
    code, out, err = call(*ASKED, *more)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--by", "dollar"), "no accelerator on offer has a known price"),
        (("--price", "l40=1"), "no deployment uses this accelerator"),
    ],
)
def test_prices_that_do_not_fit_a_result_are_refused(call, static, tmp_path, more, words) -> None:
    sweep.write_netcdf(static, tmp_path / "s.nc")
    asked = ("recommend", "--from", tmp_path / "s.nc", "--model", MODEL, "--isl", 512)
    code, out, err = call(*asked, *more)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_reserve_of_the_engine_of_a_result_is_named(static, call, tmp_path) -> None:
    """SGLang keeps 16 of the 24 GB of an RTX 4090 in the shipped calibration."""
    names = {each: f"inflight_{each}" for each in ("ttft", "tpot", "output_throughput")}
    servers = static[list(names)].rename(names).rename(batch_size="concurrency")
    none = static["feasible"].rename(batch_size="concurrency") * 0
    full = servers.assign(inflight_feasible=none, inflight_infeasible_reason=none + 1)
    name = f"sglang {load_calibration('sglang').digest}"
    full = full.assign_attrs(calibration=name, efficiency=name)
    sweep.write_netcdf(full, tmp_path / "s.nc")
    asked = ("--model", MODEL, "--isl", 512, "--hardware", "rtx-4090")
    code, out, err = call("recommend", "--from", tmp_path / "s.nc", *asked)
    assert (code, err) == (1, "")
    assert "; sglang keeps 16 of the " in out and " GB of rtx-4090 for itself" in out


def test_what_is_needed_is_asked_for(call) -> None:
    code, _, err = call("recommend", "--model", MODEL)
    assert code == 2
    assert "give --model, --isl and --osl, or --from" in err
