"""Power of a server at its load, energy of a token, and what prompts cost."""

import dataclasses

import jax
import pytest
from factories import FP16, TOY, hardware, model, point, price, shipped, shipped_model

from sweep.kernel import phases
from sweep.kernel.at_load import Busy, share_of_rated_power
from sweep.kernel.factors import IDEAL
from sweep.kernel.request import Request

ONE_LOAD = {"isl": 96, "osl": 40, "concurrency": 8}
NAMES = (
    *("inflight_power", "inflight_energy_per_output_token", "inflight_prompt_share"),
    *("inflight_output_throughput", "inflight_output_throughput_per_gpu"),
)


def answers(spec=None, machine=TOY, **numbers: float) -> dict[str, float]:
    priced = price(NAMES, spec or model("llama"), machine, FP16, **(ONE_LOAD | numbers))
    return {name: float(value) for name, value in priced.items()}


def test_power_by_hand() -> None:
    # Memory busy all of 10 s and units for 2 s: 0.12 + 0.88·(0.2 + 0.4).
    share = share_of_rated_power(Busy(10.0, 2.0), 10.0, IDEAL)
    assert float(share) == pytest.approx(0.648)
    assert float(share_of_rated_power(Busy(0.0, 0.0), 10.0, IDEAL)) == pytest.approx(0.12)
    # Both at once draw no more than the rated power.
    assert float(share_of_rated_power(Busy(10.0, 9.0), 10.0, IDEAL)) == 1


@pytest.mark.parametrize("numbers", [{"tp": 2}, {"pp": 3}])
def test_power_lies_between_idle_and_rated(numbers: dict[str, float]) -> None:
    found = answers(**numbers)
    assert 0.12 * (TOY.tdp_w or 0) < found["inflight_power"] <= (TOY.tdp_w or 0)
    assert 0 < found["inflight_prompt_share"] < 1
    assert found["inflight_energy_per_output_token"] == pytest.approx(
        found["inflight_power"] / found["inflight_output_throughput_per_gpu"]
    )


@pytest.mark.parametrize("family", ["llama", pytest.param("deepseek_v3", marks=pytest.mark.slow)])
def test_decode_draws_what_its_operators_do(family: str) -> None:
    """A long output after one token: as busy as a static decode step at the mean context."""
    machine = hardware(on_chip_cache_bytes=1e9)
    numbers = {"isl": 1, "osl": 2000}
    found = answers(model(family), machine, concurrency=8, **numbers)["inflight_power"]
    with jax.enable_x64(True):
        step = point(model(family), machine, FP16, batch_size=8, context_len=1001)
        works = phases.decode_step(step)
        seconds = sum(float(work.count * work.seconds.latency) for work in works)
        busy = Busy(
            sum(float(work.executed * work.seconds.memory) for work in works),
            sum(float(work.executed * work.seconds.compute) for work in works),
        )
        expected = (machine.tdp_w or 0) * float(share_of_rated_power(busy, seconds, IDEAL))
    assert found == pytest.approx(expected, rel=0.02)


def test_prompts_take_all_the_time_of_single_tokens() -> None:
    assert answers(isl=500, osl=1)["inflight_prompt_share"] > 0.95
    assert answers(isl=2, osl=500)["inflight_prompt_share"] < 0.05


@pytest.mark.slow
def test_drafts_and_hits_move_power() -> None:
    plain = answers()
    hits = answers(prefix_hit_rate=0.9)
    drafts = answers(draft_tokens=4, acceptance_rate=0.5)
    assert hits["inflight_prompt_share"] < plain["inflight_prompt_share"]
    assert drafts["inflight_power"] != plain["inflight_power"]
    # One client keeps the memory busy with and without drafts, which also compute.
    alone = {"isl": 1, "osl": 2000, "concurrency": 1}
    drafted = answers(**alone, draft_tokens=4, acceptance_rate=0.5)
    assert drafted["inflight_power"] > answers(**alone)["inflight_power"]


@pytest.mark.slow
def test_power_is_known_where_no_sequence_decodes_beside_a_prompt() -> None:
    idle = {"request_rate": 1e-9, "draft_tokens": 2, "acceptance_rate": 0.6}
    found = price(("inflight_power",), model("llama"), TOY, FP16, isl=96, osl=40, **idle)
    assert float(found["inflight_power"]) == pytest.approx(0.12 * (TOY.tdp_w or 0))


def test_an_unknown_rated_power_leaves_power_unknown() -> None:
    found = answers(machine=hardware(tdp_w=None))
    assert found["inflight_power"] != found["inflight_power"]
    assert found["inflight_output_throughput"] > 0


@pytest.mark.slow
def test_power_of_an_h100_is_near_what_was_measured() -> None:
    """ML.ENERGY 3.0 has 300 W at one request and 600 W at 128 on an H100 of 700 W."""
    with jax.enable_x64(True):
        machine = shipped().hardware("h100-sxm-80gb")
        for requests, measured in ((1, 300), (128, 600)):
            where = point(
                shipped_model("llama-3.1-8b"),
                machine,
                FP16,
                isl=500,
                osl=500,
                concurrency=requests,
            )
            factors = dataclasses.replace(where.factors, gemm=0.7, weight_bandwidth=0.9)
            power = Request(dataclasses.replace(where, factors=factors)).inflight_power
            assert float(power) == pytest.approx(measured, rel=0.25)


SERVED = {"isl": 500, "osl": 100, "max_num_tokens": 4096, "max_batch_size": 32}
HITS_AND_DRAFTS = {"prefix_hit_rate": 0.5, "draft_tokens": 2, "acceptance_rate": 0.6}
FIGURES = ("inflight_ttft", "inflight_tpot", "inflight_power", "inflight_output_throughput")


def served(**numbers: float) -> dict[str, float]:
    """Figures of a server that computes cached prompts and drafts."""
    priced = price(FIGURES, shipped_model("llama-3.1-8b"), TOY, FP16, **SERVED, **numbers)
    return {name: float(value) for name, value in priced.items()}


@pytest.mark.slow
def test_at_a_low_rate_hits_and_drafts_save_what_they_save_one_client() -> None:
    one = served(**HITS_AND_DRAFTS, concurrency=1)
    seldom = served(**HITS_AND_DRAFTS, request_rate=1e-6)
    for name in ("inflight_ttft", "inflight_tpot"):
        assert seldom[name] == pytest.approx(one[name], rel=1e-3)
    assert seldom["inflight_power"] == pytest.approx(0.12 * 700, rel=1e-3)
    plain = served(request_rate=1e-6)
    assert seldom["inflight_ttft"] < plain["inflight_ttft"]
    assert seldom["inflight_tpot"] < plain["inflight_tpot"]


@pytest.mark.slow
def test_hits_of_none_and_no_drafts_leave_arrivals_as_they_are() -> None:
    rate = {"request_rate": 5.0}
    without = {"prefix_hit_rate": 0.0, "draft_tokens": 0, "acceptance_rate": 0.0}
    assert served(**without, **rate) == pytest.approx(served(**rate), rel=1e-12)


@pytest.mark.slow
def test_power_grows_with_the_rate_up_to_that_of_a_full_server() -> None:
    rates = [served(**HITS_AND_DRAFTS, request_rate=rate) for rate in (0.1, 1.0, 10.0, 1e5)]
    powers = [found["inflight_power"] for found in rates]
    assert powers == sorted(powers)
    full = served(**HITS_AND_DRAFTS)
    assert powers[-1] == pytest.approx(full["inflight_power"], rel=1e-6)
