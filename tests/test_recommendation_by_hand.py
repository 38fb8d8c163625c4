"""Deployments of a table by hand: replicas, costs, ratios, and what the answer says."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import model, shipped
from test_disaggregated import DECODE, PREFILL

from sweep.decisions import disaggregated_text
from sweep.decisions import recommend_text as advice
from sweep.decisions.choice import calibrations_of
from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployments import INFLIGHT, STATIC, Deployments, Offer
from sweep.decisions.disaggregated import Pair
from sweep.decisions.figures.front import flagged, free_side, front_figure, point_label
from sweep.decisions.figures.rooflines import roofline_figure
from sweep.decisions.figures.style import save_figure
from sweep.decisions.machines_on_offer import machines_on_offer, shared_offers, solid_hardware
from sweep.decisions.pool_figures import Pools
from sweep.decisions.ratio_interval import ratio, ratio_halfwidth
from sweep.decisions.recommend import Demand, Limits, recommend
from sweep.decisions.recommend_notes import notes, quoted_errors
from sweep.decisions.specs_by_name import SpecsByName
from sweep.decisions.throughput_elasticities import throughput_elasticities
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.schema.intervals import EXTRAPOLATION

SPECS = SpecsByName(
    hardware={n: shipped().hardware(n) for n in ("h20-96gb", "a800-sxm-80gb", "l20")}
)
POOLS = Pools(PREFILL, DECODE, 1, 1, batch=1, most=1, osl=100, requests_per_s=None)


def table(**columns: Any) -> Deployments:
    """Deployments of one GPU each, with some columns replaced."""
    size = max(len(values) for values in columns.values())
    plain: dict[str, Any] = {
        "hardware": ["h20-96gb"],
        "precision": ["fp16"],
        "tp": [1],
        "pp": [1],
        "dp_attention": [1],
        "asked": [8],
        "held": [8.0],
        "fit": [8.0],
        "throughput": [1000.0],
        "lower": [800.0],
        "upper": [1300.0],
        "ttft": [0.5],
        "tpot": [0.02],
        "runs": [True],
        "reason": [0],
        "beyond": [0],
        "gpus": [1],
    }
    whole = {k: (v * size if len(v) == 1 else v) for k, v in (plain | columns).items()}
    return Deployments("toy", 100, 100, INFLIGHT, pd.DataFrame(whole), "toy 0", SPECS)


def test_replicas_and_costs_by_hand() -> None:
    # 1000 tokens a second are 10 requests of 100; 25 need 3 replicas, at 8 a second 4, at 13 two.
    # Three of two GPUs at 3 dollars cost 18 an hour, 0.005 a second, for 2500 tokens: 2 dollars a
    # million. H20s are rated at 400 W: 2400 W for 2500 tokens a second.
    answer = recommend(
        table(gpus=[2], tp=[2]),
        Demand(by="dollar", requests_per_s=25.0),
        prices={"h20-96gb": 3.0},
    )
    row = answer.ranked.iloc[0]
    assert (row["replicas"], row["fewest_replicas"], row["most_replicas"]) == (3, 2, 4)
    assert (row["total_gpus"], row["price"]) == (6, 18)
    assert row["cost"] == pytest.approx(2.0)
    assert row["energy"] == pytest.approx(2400 / 2500)
    assert row["score"] == pytest.approx(2500 / 0.005)
    assert row["score_lower"] == pytest.approx(2500 / 0.005 * 3 / 4)
    assert row["score_upper"] == pytest.approx(2500 / 0.005 * 3 / 2)


def test_of_equals_the_first_counts() -> None:
    names = ["a800-sxm-80gb", "h20-96gb", "l20"]
    for order in (names, names[::-1]):
        ranked = recommend(table(hardware=order), Demand()).ranked
        assert ranked["hardware"].tolist() == order


def test_of_equals_fewer_gpus_come_first() -> None:
    wide = table(hardware=["l20", "h20-96gb"], gpus=[2, 1], throughput=[2000.0, 1000.0])
    ranked = recommend(wide, Demand()).ranked
    assert ranked["hardware"].tolist() == ["h20-96gb", "l20"]


def test_each_layout_has_its_rank_where_asked() -> None:
    two = table(tp=[1, 2], gpus=[1, 2], throughput=[1000.0, 1500.0])
    assert len(recommend(two, Demand()).ranked) == 1
    assert len(recommend(two, Demand(), every_layout=True).ranked) == 2


def test_the_answer_tells_the_gap_between_two_accelerators() -> None:
    """The rival is on the other accelerator, though another precision of the first is nearer."""
    three = table(
        hardware=["h20-96gb", "h20-96gb", "l20"],
        precision=["fp8", "fp16", "fp16"],
        throughput=[1000.0, 990.0, 900.0],
    )
    text = advice.sentence(recommend(three, Demand()))
    assert "1 × h20-96gb in fp8 (tp 1) at 8 requests gives the most" in text
    assert "1,000 (800 to 1,300)" in text
    assert text.endswith("next is 1 × l20 in fp16 (tp 1) at 8 requests, 10 % behind.")


@pytest.mark.parametrize(("second", "near"), [(996.0, "level with it"), (990.0, "1 % behind")])
def test_a_deployment_that_is_as_good_is_not_behind(second: float, near: str) -> None:
    two = table(hardware=["h20-96gb", "l20"], throughput=[1000.0, second])
    assert f"at 8 requests, {near}." in advice.sentence(recommend(two, Demand()))


def test_an_accelerator_that_fails_is_said_to_fail() -> None:
    both = table(hardware=["h20-96gb", "l20"], ttft=[0.5, 0.6])
    text = advice.sentence(recommend(both, Demand(Limits(max_ttft=0.55))))
    assert text.endswith(
        "no other accelerator does: nearest is 1 × l20 in fp16 (tp 1) at 8 requests: its ttft of "
        "0.6 s is 9 % over --max-ttft 0.55."
    )


def test_whole_replicas_are_explained() -> None:
    # 25 requests of 100 tokens: 2 replicas at 1,300 tokens/s, 3 at 1,000 and 4 at 800.
    text = advice.sentence(recommend(table(gpus=[1]), Demand(requests_per_s=25.0)))
    assert "rounded to whole replicas, 2 to 4 replicas within the interval" in text
    # One replica serves 5 requests a second at 800 tokens/s as at 1,300.
    text = advice.sentence(recommend(table(gpus=[1]), Demand(requests_per_s=5.0)))
    assert "GPU, 500, rounded to whole replicas, 1 throughout the interval" in text


CLOSE = Calibration(
    name="close",
    halfwidths={"inflight": {"seen": 0.3, "unseen_hardware": 0.5, "unseen_model": 0.34}},
    ratios={"seen": 0.5, "unseen_hardware": 0.25, "unseen_model": 0.0},
)


def row_of(width: float, beyond: int, precision: str = "fp16") -> dict[str, Any]:
    ends = {"lower": math.exp(-width), "upper": math.exp(width)}
    return {**ends, "beyond": beyond, "precision": precision}


def test_shared_errors_cancel_in_a_ratio_by_hand() -> None:
    # Both 0.3 wide, of which half remains: 0.15·√2. A new accelerator adds √(0.5² − 0.3²) = 0.4,
    # of which a quarter remains. A new model of both adds nothing, of one of them all.
    one, new, model = row_of(0.3, 0), row_of(0.5, 1), row_of(0.34, 2)
    added = math.sqrt(0.34**2 - 0.3**2)
    for first, second, wanted in (
        (one, one, 0.15 * math.sqrt(2)),
        (new, one, math.sqrt(2 * 0.15**2 + 0.1**2)),
        (model, model, 0.15 * math.sqrt(2)),
        (model, one, math.sqrt(2 * 0.15**2 + added**2)),
        (model, row_of(0.34, 2, "fp8"), math.sqrt(2 * 0.15**2 + 2 * added**2)),
    ):
        width = ratio_halfwidth(first, second, CLOSE, "inflight")
        assert width == pytest.approx(wanted)


def test_the_errors_of_model_and_accelerators_are_quoted() -> None:
    both = replace(
        table(hardware=["gh200-96gb", "h20-96gb"], throughput=[1000.0, 900.0]),
        model="deepseek-r1",
        calibration=f"tensorrt-llm {load_calibration('tensorrt-llm').digest}",
    )
    errors = load_calibration("tensorrt-llm").provenance["errors_left_out"]
    (text,) = quoted_errors(recommend(both, Demand()))
    for label, name in (("model", "deepseek-r1"), ("hardware", "gh200-96gb")):
        assert f"{100 * errors[label][name]['left_out']:.0f} % when it was left out" in text
    assert "h20-96gb was never measured" in text


def test_requests_that_wait_are_named() -> None:
    more = table(asked=[64], held=[64.0], fit=[59.2])
    assert any("59 of the 64 requests" in note for note in notes(recommend(more, Demand())))
    assert not any("wait" in note for note in notes(recommend(table(tp=[1]), Demand())))


def test_a_model_that_the_fit_knew_is_not_called_unmeasured() -> None:
    calibration = load_calibration("vllm")
    errors = calibration.provenance["errors_left_out"]
    unjudged = set(calibration.seen["model"]) - set(errors["model"])
    assert unjudged, "all models have errors; choose another calibration"
    one = replace(table(hardware=["h20-96gb"]), calibration=f"vllm {calibration.digest}")
    for name in unjudged:
        (text,) = quoted_errors(recommend(replace(one, model=name), Demand()))
        assert f"{name} has too few sound runs for an error of its own" in text


def test_the_chance_of_being_ahead_is_that_of_a_normal_error() -> None:
    one = row_of(0.3, 0)
    width = 0.15 * math.sqrt(2)
    even, ahead, far = (
        ratio(math.exp(log), one, one, CLOSE, "inflight") for log in (0.0, width, 5 * width)
    )
    assert even.chance == pytest.approx(0.5)
    assert ahead.chance == pytest.approx(0.95, abs=1e-3)
    assert ahead.lower == pytest.approx(1.0)
    assert far.chance == 0.95
    exact = row_of(0.0, 0)
    assert ratio(1.0, exact, exact, CLOSE, "inflight").chance == 0.5
    assert ratio(1.1, exact, exact, CLOSE, "inflight").chance == 0.95


def test_the_nearest_deployment_says_what_it_fails_and_by_how_much() -> None:
    slow = table(hardware=["h20-96gb", "l20"], ttft=[0.5, 0.6], tpot=[0.025, 0.022])
    limits = Limits(max_ttft=1.0, max_tpot=0.02)
    text = advice.sentence(recommend(slow, Demand(limits)))
    assert "nearest is 1 × l20" in text
    assert text.endswith("its tpot of 0.022 s is 10 % over --max-tpot 0.02")


def test_where_nothing_runs_the_reasons_are_counted() -> None:
    none = table(runs=[False, False], reason=[1, 3], throughput=[math.nan, math.nan])
    text = advice.sentence(recommend(none, Demand()))
    assert text == ("none of 2 deployments can run: exceeds_memory 2, tp_does_not_divide_heads 1")


def test_a_reserve_that_leaves_no_room_is_named() -> None:
    # 16 GB are a third of the memory of an L20, and a sixth of that of an H20.
    none = table(hardware=["l20", "h20-96gb"], runs=[False], reason=[1], throughput=[math.nan])
    keeps = replace(none, reserves={"toy 0": ("sglang", 16e9)})
    text = advice.sentence(recommend(keeps, Demand()))
    assert "; sglang keeps 16 of the " in text and "GB of l20 for itself; --mem-fraction" in text
    assert "h20-96gb" not in text
    given = replace(keeps, frame=keeps.frame.assign(mem_fraction_static=0.9))
    assert "keeps" not in advice.sentence(recommend(given, Demand()))
    assert "keeps" not in advice.sentence(recommend(replace(keeps, scheme=STATIC), Demand()))


def test_the_considered_accelerators_are_those_of_all_calibrations() -> None:
    main, others = calibrations_of(None)
    [(_, offer), *rest] = shared_offers(Offer(), shipped(), main, others)
    _, [said] = machines_on_offer(offer, shipped(), main)
    assert rest and all(name in said for _, other in rest for name in other.hardware)
    assert "accelerators of AMD and NVIDIA" in said


def test_pairs_of_pools_name_what_is_left_out_and_that_they_have_no_interval() -> None:
    one_pool = recommend(replace(table(tp=[1]), notes=("left out: mi300x",)), Demand())
    pair = Pair(POOLS, POOLS.figures(), 1.0, 1.0)
    left_out, lacking = disaggregated_text.notes([pair], one_pool)
    assert left_out == "left out: mi300x"
    assert "no interval" in lacking
    ideal = replace(one_pool, deployments=replace(one_pool.deployments, calibration="ideal"))
    assert disaggregated_text.notes([pair], ideal) == [left_out]
    known = replace(pair, lower={"score": 900.0}, upper={"score": 1600.0})
    for name, words in (("tensorrt-llm", []), ("vllm", ["clients' times to first token"])):
        recorded = f"{name} {load_calibration(name).digest}"
        rated = replace(one_pool, deployments=replace(one_pool.deployments, calibration=recorded))
        _, *said = disaggregated_text.notes([known], rated)
        assert len(said) == len(words)
        assert all(word in note for word, note in zip(words, said, strict=True))


def test_a_pair_of_pools_is_compared_with_one_pool_by_errors_that_both_share() -> None:
    calibration = load_calibration("tensorrt-llm")
    recorded = f"tensorrt-llm {calibration.digest}"
    one_pool = recommend(replace(table(hardware=["h20-96gb"]), calibration=recorded), Demand())
    pair = Pair(POOLS, POOLS.figures(), 1.0, 1200.0)
    pair = replace(pair, lower={"score": 1000.0}, upper={"score": 1440.0})
    wide = replace(pair, beyond=EXTRAPOLATION["unseen_model"])
    other = {"lower": 800.0, "upper": 1300.0, "beyond": 0, "precision": "fp16"}
    for each in (pair, wide):
        row = {"lower": 1000.0, "upper": 1440.0, "beyond": each.beyond, "precision": "fp8"}
        width = ratio_halfwidth(row, other | {"hardware": "h20-96gb"}, calibration, "inflight")
        found = disaggregated_text.against(each, one_pool)
        assert found is not None
        assert (found.value, found.upper) == (1.2, pytest.approx(1.2 * math.exp(width)))
    text = disaggregated_text.sentence([pair], one_pool)
    assert "1,200 (1,000 to 1,440), 20 % more" in text
    assert "(ratio 1.20, 90 % interval " in text
    # Pools pay for sure only where the whole interval of the ratio says so.
    for score, words in ((1200.0, "probably pays"), (4000.0, "pays"), (250.0, "does not pay")):
        scaled = replace(
            pair, score=score, lower={"score": score / 1.2}, upper={"score": 1.2 * score}
        )
        assert disaggregated_text.sentence([scaled], one_pool).endswith(f"; it {words}.")
    (row,) = disaggregated_text.rows([wide], "gpu")
    assert (row["lower"], row["upper"], row["extrapolation"]) == (1000, 1440, "unseen_model")
    written = disaggregated_text.as_json([wide], one_pool)
    assert written["pairs"][0]["score_upper"] == 1440
    assert written["ratio"]["value"] == 1.2


def test_a_small_score_keeps_its_digits() -> None:
    # A request of 100 tokens in ten thousand days.
    answer = recommend(table(gpus=[1]), Demand(requests_per_s=1.25e-9))
    assert "GPU, 1.25e-07, rounded" in advice.sentence(answer)


def test_one_output_token_has_no_tpot_to_limit() -> None:
    answer = recommend(table(tpot=[math.nan]), Demand(Limits(max_tpot=1e-9)))
    assert len(answer.ranked) == 1
    assert not len(answer.front)


def test_deployments_unasked_are_solid_and_of_vendors_the_calibration_saw() -> None:
    ideal, fitted = (
        solid_hardware(shipped()),
        solid_hardware(shipped(), load_calibration("tensorrt-llm")),
    )
    assert {spec.confidence for spec in (*ideal, *fitted)} == {"solid"}
    assert {spec.vendor for spec in fitted} == {"NVIDIA"}
    assert {"NVIDIA", "AMD"} <= {spec.vendor for spec in ideal}


def test_old_generations_are_ranked_by_the_engine_that_runs_them() -> None:
    main, others = calibrations_of(None)
    assert main is not None
    named = Offer(hardware=("v100-sxm2-32gb", "a100-sxm-40gb", "mi300x", "gaudi3"))
    shares = shared_offers(named, shipped(), main, others)
    assert [(each.name, offer.hardware) for each, offer in shares if each is not None] == [
        ("tensorrt-llm", ("a100-sxm-40gb", "gaudi3")),
        ("vllm", ("v100-sxm2-32gb",)),
        ("vllm-rocm", ("mi300x",)),
    ]
    machines, sentences = machines_on_offer(named, shipped(), main)
    assert [machine.name for machine in machines] == ["a100-sxm-40gb"]
    assert "NVIDIA volta; rank it with calibration vllm" in sentences[0]
    unasked = shared_offers(Offer(), shipped(), main, others)
    assert "v100-sxm2-32gb" not in {name for _, offer in unasked for name in offer.hardware}
    assert "v100-sxm2-32gb" not in {each.name for each in solid_hardware(shipped(), main)}


@pytest.mark.slow
def test_files_of_ones_own_are_priced_and_told_of(tmp_path) -> None:
    machine, config = tmp_path / "mine.json", tmp_path / "my-model.json"
    whole = shipped().hardware("l20").model_dump(mode="json", by_alias=True)
    price = {"value": 2.0, "source": "an offer", "date": "2026-01-31"}
    machine.write_text(json.dumps(whole | {"name": "mine", "price_usd_per_hour": price}))
    config.write_text(json.dumps(model().config))
    own = sweep_deployments(
        str(config),
        Offer((str(machine),), tp=(1,), pp=(1,)),
        isl=64,
        osl=16,
        concurrency=4,
        catalog=shipped(),
        calibration=None,
    )
    answer = recommend(own, Demand(by="dollar"))
    row = answer.ranked.iloc[0]
    assert (row["hardware"], row["price"]) == ("mine", 2.0)
    assert row["power"] == shipped().hardware("l20").tdp_w
    assert throughput_elasticities(answer, answer.ranked)[0]


def test_a_name_with_dollar_signs_is_no_formula(tmp_path) -> None:
    name = r"$\frac{1}$"
    answer = recommend(table(hardware=[name]), Demand())
    figure = front_figure(answer)
    save_figure(figure, tmp_path / "front.png")
    assert name in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    spec = shipped().hardware("l20").model_copy(update={"name": name})
    save_figure(roofline_figure([spec], "half"), tmp_path / "roof.png")


def test_the_front_shows_intervals_and_flags() -> None:
    two = table(throughput=[1000.0, 500.0], tpot=[0.02, 0.01], beyond=[17, 1])
    axes = front_figure(recommend(two, Demand())).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "h20-96gb (unseen hardware; hollow: beyond batch)" in names
    assert names[-1] == "90 % interval"
    (hollow,) = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert hollow.get_xdata().tolist() == [50.0]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (800.0, 1300.0)


def test_a_line_of_another_calibration_is_named_in_the_legend() -> None:
    two = table(hardware=["h20-96gb", "l20"], throughput=[1000.0, 900.0], lower=[math.nan])
    frame = two.frame.assign(calibration=["toy 0", "vllm-rocm 1"])
    axes = front_figure(recommend(replace(two, frame=frame), Demand())).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"h20-96gb", "l20, by vllm-rocm"} <= set(names)
    assert "90 % interval" not in names


def test_a_long_front_is_printed_in_even_steps() -> None:
    # Points bunch where users get little, as with many loads; the ends are always shown.
    per_user = np.concatenate([np.linspace(5, 10, 90), np.linspace(11, 115, 14)])
    long = pd.DataFrame({"per_user": per_user[::-1]})
    heading, shown = advice.front_shown(long)
    assert "12 of 104 points" in heading
    assert "--json" in heading
    np.testing.assert_allclose(shown["per_user"], np.linspace(115, 5, 12), atol=4)
    assert {5.0, 115.0} <= set(shown["per_user"])
    heading, shown = advice.front_shown(long.head(12))
    assert len(shown) == 12
    assert "of 12" not in heading


def test_a_legend_names_extrapolations_of_all_points_and_of_hollow_ones() -> None:
    every, some = EXTRAPOLATION["unseen_model"], EXTRAPOLATION["beyond_batch"]
    for bits, words in (
        ([0, 0], ""),
        ([every, every], " (unseen model)"),
        ([every, every | some], " (unseen model; hollow: beyond batch)"),
        ([0, some], " (hollow: beyond batch)"),
    ):
        assert flagged(pd.DataFrame({"beyond": bits})) == words


def test_a_replica_must_hold_the_requests_asked_for() -> None:
    held = [500.0, 281.0]
    asked = table(asked=[500, 500], held=held, hardware=["l20", "h20-96gb"])
    answer = recommend(asked, Demand(concurrency=500, replicas=1))
    assert answer.ranked["hardware"].tolist() == ["l20"]
    assert "1 × h20-96gb in fp16 (tp 1) at 281 requests: it holds 281 of 500 requests" in (
        advice.sentence(answer)
    )


def test_a_load_is_split_over_replicas_by_hand() -> None:
    # Nine requests on two replicas: four at one and five at the other, 400 and 450 tokens/s.
    loads = {"asked": [4, 5, 9], "held": [4.0, 5.0, 9.0], "throughput": [400.0, 450.0, 600.0]}
    ends = {"lower": [300.0, 350.0, 500.0], "upper": [500.0, 550.0, 700.0]}
    both = table(**loads, **ends, ttft=[0.4, 0.5, 0.9], tpot=[0.01, 0.02, 0.03])
    row = recommend(both, Demand(concurrency=9)).ranked.iloc[0]
    assert (row["replicas"], row["held"], row["ttft"], row["tpot"]) == (1, 9, 0.9, 0.03)
    row = recommend(both, Demand(Limits(max_ttft=0.6), concurrency=9)).ranked.iloc[0]
    assert (row["replicas"], row["held"], row["ttft"], row["tpot"]) == (2, 5, 0.5, 0.02)
    assert row["score"] == pytest.approx(425.0)
    assert (row["score_lower"], row["score_upper"]) == (pytest.approx(325.0), pytest.approx(525.0))
    text = advice.described({str(key): value for key, value in row.items()})
    assert text == "2 × h20-96gb in fp16 (tp 1 each) at 5 requests each"


def test_a_scheduler_is_named_in_sentence_table_and_picture() -> None:
    answer = recommend(table(scheduler=["chunked"]), Demand())
    assert "(tp 1, scheduler chunked)" in advice.sentence(answer)
    (row,) = advice.rows(answer, answer.ranked)
    assert row["precision and layout"] == "fp16 tp=1 scheduler=chunked"
    assert point_label(answer.ranked.iloc[0].to_dict()) == "fp16 tp 1 scheduler chunked"


def test_a_name_of_a_point_covers_no_line() -> None:
    alone = np.array([[0.5, 0.5]])
    for line, side in (([], (1, 1)), ([0.52, 0.52], (-1, -1)), ([0.51, 0.6], (1, 1))):
        found = free_side(0.5, 0.5, "fp8 tp 1", np.concatenate([alone, np.reshape(line, (-1, 2))]))
        assert found is not None and found[:2] == side
    around = [[x, y] for x in (0.48, 0.52) for y in (0.47, 0.475, 0.525, 0.53, 0.54, 0.46)]
    assert free_side(0.5, 0.5, "fp8 tp 1", np.array(around)) is None


def test_requests_beyond_the_context_of_a_model_are_noted() -> None:
    spec = shipped().model("llama-2-7b")
    warned = "toy is made for 4,096 tokens, and 4,097 are asked for"
    for isl, words in ((3996, []), (3997, [warned])):
        specs = replace(SPECS, models={"toy": spec.model_copy(update={"name": "toy"})})
        given = replace(table(asked=[8]), isl=isl, specs=specs)
        found = [note for note in notes(recommend(given, Demand())) if "made for" in note]
        assert [note.partition(":")[0] for note in found] == words
