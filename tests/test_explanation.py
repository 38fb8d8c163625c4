"""One cell taken apart: the parts make up the whole, and derivatives agree with differences."""

import dataclasses
import json
import math
import sys
from typing import Any

import jax
import numpy as np
import pytest
from factories import FP16, TOY, hardware, model, shipped

import sweep
from sweep.cli import main as cli
from sweep.decisions.cell_elasticities import QUANTITIES
from sweep.decisions.explain import Explanation, OperatorPart, Phase, explain
from sweep.decisions.explain_text import figure_rows, operator_rows
from sweep.decisions.operator_breakdown import (
    HOST,
    NO_BOUND,
    SPENT,
    Amounts,
    without_overhead_bound,
)
from sweep.engines.calibration_file import load_calibration
from sweep.errors import GridError
from sweep.evaluation.kernel_inputs import hardware_params
from sweep.evaluation.single_cell import cell
from sweep.grid.grid import Grid
from sweep.kernel.elasticity import FIXED_TIMES, RATES, RESOURCES, sequences_that_fit
from sweep.kernel.factors import IDEAL
from sweep.kernel.inflight import Inflight
from sweep.kernel.operators.cost import Cost
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.kernel.roofline import resource_seconds
from sweep.models.read import read_blocks
from sweep.schema.terms import BOUNDS

CALIBRATION = load_calibration("tensorrt-llm")
CASES = {
    "one GPU": ("llama", {"tp": 1, "batch_size": 4, "isl": 90, "osl": 20}, None),
    "two GPUs": ("llama", {"tp": 2, "batch_size": 48, "isl": 900, "osl": 50}, None),
    "a pipeline of experts": (
        "mixtral",
        {"tp": 2, "pp": 2, "batch_size": 64, "isl": 300, "osl": 40},
        CALIBRATION,
    ),
}
EVERY = pytest.mark.parametrize("case", CASES)
FIELDS = {
    "memory_bandwidth": ("memory_bandwidth_bytes_per_s",),
    # With the power for it: at the same power a higher rate would be held less of the time.
    "matrix_rate": ("peak_flops_per_s", "tdp_w"),
    "vector_rate": ("vector_flops_per_s",),
    "special_function_rate": ("special_function_ops_per_s",),
    "link_bandwidth": ("link_bandwidth_bytes_per_s",),
    "hop_latency": ("link_latency_s", "pcie_latency_s", "network_latency_s"),
    "memory_size": ("memory_bytes",),
}


def told(family: str, numbers: dict[str, int], efficiency=None, machine=TOY) -> Explanation:
    """The explanation of one cell, worked out once for all tests."""
    key = family, *numbers.items(), efficiency and efficiency.name, machine.model_dump_json()
    if key not in KNOWN:
        KNOWN[key] = fresh(family, numbers, efficiency, machine)
    return KNOWN[key]


KNOWN: dict[Any, Explanation] = {}


def fresh(family: str, numbers: dict[str, int], efficiency, machine) -> Explanation:
    axes: dict[str, Any] = {axis: [value] for axis, value in numbers.items()}
    names: dict[str, Any] = {"models": [model(family)], "hardware": [machine]}
    grid = Grid(**names, precision=[FP16], **axes, variables=["ttft"])
    return explain(grid, calibration=efficiency)


def scaled(resource: str, factor: float, efficiency):
    """The toy accelerator and the calibration with more of one resource."""
    if resource == "software_overhead":
        return TOY, efficiency and slower(efficiency, factor)
    return hardware(**{field: times(getattr(TOY, field), factor) for field in FIELDS[resource]}), (
        efficiency
    )


def times(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {key: times(one, factor) for key, one in value.items()}
    return value * factor


def slower(efficiency, factor: float):
    """A calibration all of whose overheads are longer."""
    factors = {
        name: figure.model_copy(update={"value": figure.value * factor})
        if name.endswith("_s")
        else figure
        for name, figure in efficiency.factors.items()
    }
    settings = {
        name: times(by_era, factor) if name.endswith("_s") else by_era
        for name, by_era in efficiency.settings.items()
    }
    return efficiency.model_copy(update={"factors": factors, "settings": settings})


PRICED = (
    *("ttft", "tpot", "output_throughput"),
    *("prefill_latency", "prefill_flops", "prefill_bytes"),
    *("decode_step_latency", "decode_step_flops", "decode_step_bytes"),
    *("prefill_operator_latency", "prefill_operator_bound"),
    *("decode_operator_latency", "decode_operator_bound"),
)


def priced(family: str, numbers: dict[str, float], machine, efficiency) -> dict[str, Any]:
    """Variables of one cell in float64, by a kernel compiled once for each family."""
    with jax.enable_x64(True):
        blocks = read_blocks(model(family).config, family)
        found = _priced(cell(blocks, machine, FP16, {"context_len": 1, **numbers}, efficiency))
    return {name: np.asarray(value).tolist() for name, value in found.items()}


@jax.jit
def _priced(point: Point) -> dict[str, jax.Array]:
    request = Request(point)
    return {name: getattr(request, name) for name in PRICED}


@pytest.mark.slow
@EVERY
def test_parts_make_up_the_times_of_a_sweep(case: str) -> None:
    family, numbers, efficiency = CASES[case]
    found = told(family, numbers, efficiency)
    context = numbers["isl"] + numbers["osl"] / 2
    swept = priced(family, {**numbers, "context_len": context}, TOY, efficiency)
    for phase, short in zip(found.phases, ("prefill", "decode"), strict=True):
        assert phase.latency == pytest.approx(swept[f"{phase.name}_latency"])
        flops = sum(part.flops for part in phase.parts)
        moved = sum(part.memory_bytes for part in phase.parts)
        assert flops == pytest.approx(swept[f"{phase.name}_flops"])
        assert moved == pytest.approx(swept[f"{phase.name}_bytes"])
        # An exchange on one GPU has nothing to do: what its launch takes is the host's.
        parts = [part for part in phase.parts if part.operator != HOST]
        working = [bool(part.flops + part.memory_bytes + part.network_bytes) for part in parts]
        times = np.where(working, swept[f"{short}_operator_latency"], 0)
        assert [part.latency for part in parts] == pytest.approx(times)
        bounds = [BOUNDS[int(bound)] for bound in swept[f"{short}_operator_bound"]]
        assert [part.bound for part in parts] == bounds


@pytest.mark.slow
@EVERY
def test_elasticities_are_those_of_finite_differences(case: str) -> None:
    family, numbers, efficiency = CASES[case]
    found, step = told(family, numbers, efficiency).elasticities, 1e-4
    names = ("ttft", "tpot", "output_throughput")
    for resource in RESOURCES:
        more, less = (
            priced(family, numbers, *scaled(resource, math.exp(sign * step), efficiency))
            for sign in (1, -1)
        )
        for name in names:
            difference = math.log(more[name] / less[name]) / (2 * step)
            assert found[name][resource] == pytest.approx(difference, rel=0.01, abs=1e-6)


@pytest.mark.slow
@EVERY
def test_all_rates_doubled_and_fixed_times_halved_halve_every_time(case: str) -> None:
    found = told(*CASES[case]).elasticities
    for name, power in {"ttft": -1, "tpot": -1, "output_throughput": 1}.items():
        moved = found[name]
        total = sum(moved[rate] for rate in RATES) - sum(moved[time] for time in FIXED_TIMES)
        assert total == pytest.approx(power)


@pytest.mark.slow
def test_without_hops_the_rates_alone_decide() -> None:
    found = told(*CASES["one GPU"]).elasticities
    assert sum(found["ttft"][rate] for rate in RATES) == pytest.approx(-1)
    assert all(found["ttft"][time] == 0 for time in FIXED_TIMES)


def test_where_only_bandwidth_binds_it_is_worth_everything() -> None:
    fast = {"peak_flops_per_s": {"fp16": 1e20}, "vector_flops_per_s": 1e20}
    machine = hardware(**fast, special_function_ops_per_s=None)
    found = told("llama", CASES["one GPU"][1], machine=machine).elasticities
    assert found["tpot"]["memory_bandwidth"] == pytest.approx(-1)
    assert found["output_throughput"]["memory_bandwidth"] == pytest.approx(1)
    assert found["output_throughput"]["special_function_rate"] == 0


def test_memory_buys_sequences_by_hand() -> None:
    # Of 80 GB all but the weights and activations holds sequences: M more percent are
    # M / (M − weights − activations) percent more of them, and no speed.
    found = told(*CASES["one GPU"])
    taken = found.memory["memory_required"] - found.memory["kv_cache_memory"]
    assert found.elasticities["sequences_that_fit"]["memory_size"] == pytest.approx(
        8e10 / (8e10 - taken)
    )
    assert found.elasticities["output_throughput"]["memory_size"] == 0


def test_sequences_that_fit_by_hand() -> None:
    # A token of the tiny Llama takes 2·3·2·8·2 = 192 bytes of cache, a sequence of 90 + 20 tokens
    # 21 120. A group has 1e12 bytes, of which weights and activations take less than a millionth.
    for groups, expected in ((1, 1e12 / 21_120), (2, 2e12 / 21_120)):
        with jax.enable_x64(True):
            blocks = read_blocks(model("llama").config, "llama")
            numbers = {"dp_attention": groups, "batch_size": 8, "isl": 90, "osl": 20}
            one = cell(blocks, hardware(memory_bytes=1e12), FP16, numbers)
            assert float(sequences_that_fit(Request(one))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_more_of_an_engines_overhead_costs() -> None:
    found = told(*CASES["a pipeline of experts"]).elasticities
    assert found["output_throughput"]["software_overhead"] < -0.1
    assert found["tpot"]["software_overhead"] > 0.1


@pytest.mark.slow
def test_intervals_stand_beside_calibrated_figures() -> None:
    found = told(*CASES["a pipeline of experts"])
    low, high = found.intervals["output_throughput"]
    assert low < found.figures["output_throughput"] < high
    assert {"lower", "upper"} <= set(figure_rows(found)[0])
    assert not told(*CASES["one GPU"]).intervals


def test_one_output_token_has_no_decode() -> None:
    found = told("llama", {"tp": 1, "batch_size": 4, "isl": 90, "osl": 1})
    assert [phase.name for phase in found.phases] == ["prefill"]
    assert "tpot" not in found.elasticities
    assert set(found.elasticities) == set(QUANTITIES) - {"tpot"}


@pytest.mark.slow
def test_shares_of_a_phase_are_whole() -> None:
    for phase in told(*CASES["a pipeline of experts"]).phases:
        assert sum(phase.share(spent) for spent in phase.parts[0].seconds) == pytest.approx(1)
        rows = operator_rows(phase)
        assert sum(row["time (ms)"] for row in rows[:-1]) == pytest.approx(rows[-1]["time (ms)"])


def test_a_what_if_with_more_memory_can_use_all_of_it() -> None:
    # The base has 80 GB, of which the driver reports 85.5 GB as usable; that says nothing about
    # another size. 140 GB of weights fit in 160 GB.
    base = shipped().hardware("h100-sxm-80gb")
    assert base.usable_memory_bytes == 8.5521e10

    def explained(**changes: float) -> Explanation:
        what_if = {"base": base.name, "name": "large", **changes}
        return explain(
            Grid(
                models=["llama-2-70b"],
                hardware=[what_if],
                precision=["fp16"],
                batch_size=[1],
                isl=[64],
                osl=[1],
                variables=["ttft"],
            )
        )

    large = explained(memory_bytes=1.6e11)
    assert large.memory["device"] == 1.6e11
    assert large.reasons == ()
    stated = explained(memory_bytes=1.6e11, usable_memory_bytes=1.2e11)
    assert stated.memory["device"] == 1.2e11
    assert stated.reasons == ("exceeds_memory",)


def test_several_cells_are_refused() -> None:
    with pytest.raises(GridError, match="explain takes one cell; give one batch_size"):
        explain(
            Grid(
                models=[model()],
                hardware=[TOY],
                precision=[FP16],
                batch_size=[1, 2],
                isl=[9],
                osl=[9],
                variables=["ttft"],
            )
        )


CELL = {
    "--model": "llama-3.1-8b",
    "--hardware": "h100-sxm-80gb",
    "--batch-size": 16,
    "--isl": 512,
    "--osl": 128,
}


@pytest.fixture
def call(monkeypatch, capsys):
    """Run `llm-sweep explain` with some options changed; exit status, output and error."""

    def run_command(*more: object, **changes: object) -> tuple[int, str, str]:
        given = CELL | {f"--{key.replace('_', '-')}": value for key, value in changes.items()}
        words = [word for pair in given.items() for word in pair]
        monkeypatch.setattr(sys, "argv", ["llm-sweep", *map(str, ["explain", *words, *more])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run_command


def test_the_command_tells_and_draws(call, tmp_path) -> None:
    picture = tmp_path / "cell.png"
    code, out, err = call("-o", picture)
    assert (code, err) == (0, "")
    assert "llama-3.1-8b in fp16 on 1 h100-sxm-80gb" in out
    for word in ("gate_up_projection", "device memory", "hop latency", "FLOP/byte"):
        assert word in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = call("-o", picture)
    assert code == 2
    assert "exists" in err


@pytest.mark.slow
def test_json_holds_everything(call) -> None:
    code, out, _ = call("--json", "--efficiency", "tensorrt-llm")
    found = json.loads(out)
    assert code == 0
    assert set(found["phases"]) == {"prefill", "decode_step"}
    assert set(found["elasticities"]["tpot"]) == set(RESOURCES)
    assert found["memory"]["device"] == shipped().hardware("h100-sxm-80gb").usable_memory_bytes


def test_what_cannot_run_says_so(call) -> None:
    code, out, _ = call(model="llama-2-70b")
    assert code == 0
    assert "cannot run: exceeds_memory" in out


def test_a_request_beyond_the_context_of_its_model_says_so(call) -> None:
    code, out, _ = call(model="llama-2-7b", isl=4000, osl=97)
    assert code == 0
    assert "(llama-2-7b is made for 4,096 tokens, and 4,097 are asked" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch-size"),
        ({"model": "lama"}, "unknown model"),
        ({"precision": "fp7"}, "unknown precision"),
        ({"efficiency": "trt"}, "unknown calibration"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call, changes, words) -> None:
    code, out, err = call(**changes)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


SERVED = {"tp": 2, "concurrency": 48, "isl": 900, "osl": 50}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_iterations_of_a_server_make_up_its_times(family: str) -> None:
    found = told(family, SERVED, CALIBRATION)
    with jax.enable_x64(True):
        blocks = read_blocks(model(family).config, family)
        served = Inflight(cell(blocks, TOY, FP16, SERVED, CALIBRATION))
        lump, mean = float(served.lump_latency), float(served.iteration_latency)
        lumps = float(served.cycle.lumps)
    with_prompts, without = found.phases
    assert with_prompts.latency == pytest.approx(lump, rel=2e-3)
    assert with_prompts.times == pytest.approx(lumps)
    parts = (phase.times * phase.latency for phase in found.phases)
    assert sum(parts) == pytest.approx(mean, rel=2e-3)
    assert without.times == pytest.approx(1 - lumps)
    for phase in found.phases:
        assert sum(phase.share(spent) for spent in phase.parts[0].seconds) == pytest.approx(1)


@pytest.mark.slow
def test_what_is_recommended_can_be_explained() -> None:
    found = told("llama", SERVED, CALIBRATION)
    swept = sweep.run(
        sweep.Grid(
            models=[model("llama")],
            hardware=[TOY],
            precision=[FP16],
            **{axis: [value] for axis, value in SERVED.items()},
            variables=["inflight_output_throughput_per_gpu", "inflight_ttft"],
        ),
        efficiency=CALIBRATION,
    ).squeeze()
    for name in ("inflight_output_throughput_per_gpu", "inflight_ttft"):
        assert found.figures[name] == pytest.approx(float(swept[name]), rel=1e-5)
        low, high = found.intervals[name]
        assert low < found.figures[name] < high
    assert "unseen_hardware" in found.flags
    assert found.elasticities["inflight_output_throughput"]["memory_bandwidth"] > 0


@pytest.mark.slow
def test_memory_adds_up() -> None:
    for numbers, whole in ((SERVED, "taken"), (CASES["two GPUs"][1], "memory_required")):
        found = dict(told("llama", numbers, CALIBRATION).memory)
        total, device = found.pop(whole), found.pop("device")
        assert found["activations"] > 0
        assert sum(found.values()) == pytest.approx(total)
        assert total <= device


def test_time_lost_in_small_matrices_by_hand() -> None:
    # A product of 8 rows whose kernel is as fast as one of 32 more: 4/5 of its time is lost.
    cost = Cost(tensor_flops=8e9, row_flops=1e9)
    machine = hardware_params(hardware(vector_flops_per_s=1e20))
    half_rows = dataclasses.replace(IDEAL, gemm_half_rows=32.0)
    seconds = resource_seconds(cost, 1e12, machine, half_rows)
    assert float(seconds.compute) == pytest.approx(40e-3)
    assert float(seconds.idle) == pytest.approx(32e-3)
    assert float(resource_seconds(cost, 1e12, machine).idle) == 0.0


def test_an_operator_bound_by_small_matrices_is_called_so() -> None:
    spent = dict.fromkeys(SPENT, 0.0)
    lost = OperatorPart("a", {**spent, "compute": 1.0, "small_matrices": 3.0}, "compute", 1, 1, 0)
    busy = OperatorPart("b", {**spent, "compute": 3.0, "small_matrices": 1.0}, "compute", 1, 1, 0)
    rows = operator_rows(Phase("decode_step", 9, (lost, busy)))
    assert [row["bound"] for row in rows[:2]] == ["small matrices", "compute"]


def test_an_operator_that_is_mostly_overhead_is_called_so() -> None:
    spent = dict.fromkeys(SPENT, 0.0)
    seconds = {
        "norm": {"memory": 3e-7, "overhead": 1.8e-4},
        "half": {"memory": 1.0, "overhead": 1.0},
        "all_reduce": {"overhead": 1e-4},
        "nothing": {},
    }
    parts = [OperatorPart(n, {**spent, **own}, "memory", 1, 1, 0) for n, own in seconds.items()]
    assert [part.limit for part in parts] == ["overhead", "memory", "overhead", ""]
    host = OperatorPart("host", {**spent, "overhead": 1.0}, "", 0, 0, 0)
    rows = operator_rows(Phase("decode_step", 9, (*parts[:2], host)))
    assert [row["bound"] for row in rows[:3]] == ["overhead", "memory", "host"]

    # The report and the live page colour an operator by the same rule.
    over = np.asarray([list(part.seconds.values()) for part in parts], np.float32)
    zero = np.zeros(len(parts), np.float32)
    amounts = Amounts(over.sum(1), over, zero, zero, zero, np.zeros(len(parts), np.int32))
    assert without_overhead_bound(amounts).bound.tolist() == [NO_BOUND, 0, NO_BOUND, 0]


def test_figures_have_units_that_a_person_reads() -> None:
    rows = {row["figure"]: row for row in figure_rows(told(*CASES["one GPU"][:2]))}
    assert rows["tpot"]["units"] in ("ms", "µs")
    assert rows["output_throughput"]["units"] == "tokens/s"
    assert (rows["device memory"]["value"], rows["device memory"]["units"]) == (80.0, "GB")


def test_a_load_is_asked_for(call) -> None:
    code, _, err = call("--concurrency", 8)
    assert code == 2
    wanted = "give --batch-size for a static batch, or --concurrency, --request-rate or "
    assert wanted in err


@pytest.mark.slow
def test_a_run_is_explained_without_clients() -> None:
    """All requests are sent at once: as many clients as there are requests."""
    where = {"isl": 512, "osl": 128, "num_requests": 100}
    found = sweep.explain("llama-3.1-8b", "l20", **where)
    clients = sweep.explain("llama-3.1-8b", "l20", **where, concurrency=100)
    for name in ("inflight_ttft", "inflight_tpot", "inflight_request_latency"):
        assert float(found[name]) == pytest.approx(float(clients[name]), rel=1e-6), name
    with pytest.raises(GridError, match="concurrency, request_rate or num_requests"):
        sweep.explain("llama-3.1-8b", "l20", isl=512, osl=128)
