"""Cost of input and of output tokens apart, by hand."""

import numpy as np
import pandas as pd
import pytest
from factories import shipped

from sweep.decisions.deployments import INFLIGHT, Deployments
from sweep.decisions.recommend import Demand, recommend
from sweep.decisions.specs_by_name import SpecsByName


def ranked(demand: Demand, prompts: float = 0.25, **columns: float) -> pd.Series:
    """One H100 for 3.60 USD an hour that delivers 1,000 output tokens a second."""
    row = {
        **{"hardware": "h100-sxm-80gb", "precision": "fp16", "tp": 1, "pp": 1, "dp_attention": 1},
        **{"gpus": 1, "asked": 64, "held": 64.0, "fit": 64.0, "throughput": 1000.0},
        **{"lower": np.nan, "upper": np.nan, "ttft": 0.1, "tpot": 0.02, "drawn": 420.0},
        **{"drawn_lower": np.nan, "drawn_upper": np.nan},
        **{"prompts": prompts, "runs": True, "reason": 0, "beyond": 0},
        **columns,
    }
    names = {"model": ["llama-3.1-8b"], "hardware": ["h100-sxm-80gb"], "precision": ["fp16"]}
    specs = SpecsByName.of(names, shipped())
    given = Deployments("llama-3.1-8b", 1000, 200, INFLIGHT, pd.DataFrame([row]), "ideal", specs)
    return recommend(given, demand, prices={"h100-sxm-80gb": 3.6}).ranked.iloc[0]


def test_costs_of_input_and_output_tokens_by_hand() -> None:
    found = ranked(Demand())
    # A tenth of a cent a second for 1,000 tokens: 1 USD for a million.
    assert found["cost"] == pytest.approx(1.0)
    # Prompts take a quarter of the time, and five input tokens come for each output token.
    assert found["input_cost"] == pytest.approx(0.25 / 5)
    assert found["output_cost"] == pytest.approx(0.75)
    # 420 W for 1,000 tokens a second.
    assert found["drawn_energy"] == pytest.approx(0.42)
    assert found["energy"] == pytest.approx(0.7)


@pytest.mark.parametrize("prompts", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "demand", [Demand(), Demand(requests_per_s=2.0), Demand(replicas=3)], ids=repr
)
def test_both_costs_add_up_to_that_of_a_request(prompts: float, demand: Demand) -> None:
    found = ranked(demand, prompts)
    whole = 1000 * found["input_cost"] + 200 * found["output_cost"]
    assert whole == pytest.approx(200 * found["cost"])


def test_servers_that_are_not_full_cost_more_for_each_token() -> None:
    # Two of the five requests a second that one serves: 2.5 times as much for each token.
    assert ranked(Demand(requests_per_s=2.0))["cost"] == pytest.approx(2.5)
    # Eleven need three replicas, which deliver 2,200 tokens a second.
    assert ranked(Demand(requests_per_s=11.0))["cost"] == pytest.approx(3 / 2.2)


def test_ends_of_costs_and_energy_by_hand() -> None:
    ends = {"lower": 800.0, "upper": 1250.0, "drawn_lower": 350.0, "drawn_upper": 504.0}
    found = ranked(Demand(), **ends)
    assert found["cost_lower"] == pytest.approx(0.8)
    assert found["cost_upper"] == pytest.approx(1.25)
    assert found["output_cost_upper"] == pytest.approx(0.75 * 1.25)
    # Times of 1.25 and powers of 1.2 times the prediction add up in squares of logarithms.
    width = np.hypot(np.log(1.25), np.log(1.2))
    assert found["drawn_energy_upper"] == pytest.approx(0.42 * np.exp(width))
    assert found["drawn_energy_lower"] == pytest.approx(0.42 * np.exp(-width))
    # Eleven requests a second take three replicas, or two at the upper end.
    served = ranked(Demand(requests_per_s=11.0), **ends)
    assert served["cost_lower"] == pytest.approx(served["cost"] * 2 / 3)
    assert np.isnan(ranked(Demand())["cost_lower"])
