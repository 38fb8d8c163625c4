"""Figures that can only be mistakes are refused in one line that says what is allowed."""

from pathlib import Path

import pytest
from factories import TOY

from calibration.measurements.measurement import Measurement
from sweep.decisions.deployment_sweep import recipes_on_offer
from sweep.decisions.deployments import Offer
from sweep.decisions.machines_on_offer import machines_on_offer
from sweep.decisions.prices import parse_prices, read_prices
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.specs.catalog import current_catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import parse

ROW = {
    "scenario": "inflight",
    "model": "opt-125m",
    "hardware": "l20",
    "isl": 16,
    "osl": 16,
    "metric": "tpot",
    "value": 0.01,
}


@pytest.mark.parametrize("price", ["1e300", "1e7", "1e-9"])
def test_prices_that_nobody_asks_are_refused(tmp_path: Path, price: str) -> None:
    allowed = "must be from 1e-06 to 1e\\+06 USD"
    with pytest.raises(SpecError, match=allowed):
        parse_prices([f"l20={price}"])
    (tmp_path / "prices.csv").write_text(f"hardware,price_usd_per_hour\nl20,{price}\n")
    with pytest.raises(SpecError, match=allowed):
        read_prices(tmp_path / "prices.csv")


@pytest.mark.parametrize(
    "wrong",
    [
        {"tdp_w": 1e300},
        {"tdp_w": 1e-20},
        {"price_usd_per_hour": {"value": 1e300, "source": "page", "date": "2026-01-31"}},
    ],
)
def test_powers_and_prices_of_specifications_have_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))) as refused:
        parse(HardwareSpec, {**TOY.model_dump(exclude_unset=True), **wrong}, "toy.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("axis", ["tp", "pp", "ep", "dp_attention", "num_gpus"])
def test_a_layout_of_a_thousand_million_gpus_is_refused(axis: str) -> None:
    parse(Measurement, {**ROW, axis: 1024}, "row 1")
    with pytest.raises(SpecError, match=f"{axis}.*1000000000") as refused:
        parse(Measurement, {**ROW, axis: 10**9}, "row 1")
    assert "\n" not in str(refused.value)


def test_a_name_that_is_given_twice_counts_once() -> None:
    offer = Offer(hardware=("l40s", "L40S", "l40s", "l20"), precision=("fp16", "fp16"))
    catalog = current_catalog()
    for calibration in (None, load_calibration("tensorrt-llm")):
        machines, _ = machines_on_offer(offer, catalog, calibration)
        assert [machine.name for machine in machines] == ["l40s", "l20"]
    recipes = recipes_on_offer(catalog.model("opt-125m"), offer, catalog, None)
    assert [recipe.name for recipe in recipes] == ["fp16"]
